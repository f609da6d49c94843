"""The tables of a benchmark for the terminal, and its picture."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kong_pdk.plain_table import render
from servers import GO, OURS, PEER

_LOADED = ("server", "protocol", "engine", "at once", "CPU/event", "events/s", "p50", "p99", "memory", "load")
_AT_REST = ("server", "protocol", "engine", "wake-ups/s", "CPU", "memory")
_GAP = 2
_COMPARED = (PEER, "default", "msgpack")
"""What ratios are to: server, engine and protocol."""
DRAWN = {"0r0w": "no PDK calls", "1r1w": "a header read, one set", "5r5w": "5 headers read, 5 set"}
_BARS = {
    OURS: (OURS, "default", "protobuf"),
    PEER: _COMPARED,
    f"{PEER} -g": (PEER, "gevent", "msgpack"),
    GO: (GO, "default", "protobuf"),
}


def progress(case: str, number: int, rounds: int) -> None:
    """Say that a round of a case is done."""
    print(f"{case}: round {number} of {rounds} is done", file=sys.stderr, flush=True)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Make the table of a case.

    In brackets: the ratio to kong-pdk without options. ``load`` is the share of a processor that the load generator
    needed for itself: well below 100 %, or it was the bottleneck.
    """
    loaded = any(row["concurrency"] for row in rows)
    lines = [_loaded(row, rows) if loaded else _at_rest(row) for row in rows]
    failures = [f"{' '.join(line[:4])} failed: {row['failure']}" for row, line in zip(rows, lines, strict=True)
                if "failure" in row]  # fmt: skip
    return "\n".join((rows[0]["case"], render(_LOADED if loaded else _AT_REST, lines, gap=_GAP), *failures, ""))


def _head(row: Mapping[str, Any]) -> list[str]:
    workers = f", {row['workers']} workers" if row["workers"] > 1 else ""
    return [row["server"], row["protocol"], row["engine"] + workers]


def _at_rest(row: Mapping[str, Any]) -> list[str]:
    if "failure" in row:
        return [*_head(row), "failed", "", ""]
    return [
        *_head(row), f"{row['wakeups_per_s']:.1f}", f"{row['cpu_ms_per_s']:.1f} ms/s", f"{row['rss_mib']:.0f} MiB",
    ]  # fmt: skip


def _loaded(row: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    head = [*_head(row), str(row["concurrency"])]
    if "failure" in row:
        return [*head, "failed", *[""] * 5]
    peer = _find(rows, row["case"], _COMPARED, row["concurrency"])
    cpu, rate = (
        f" ({row[name] / peer[name]:.2f})" if peer and peer[name] else ""
        for name in ("cpu_us_per_event", "events_per_s")
    )
    return [
        *head, f"{row['cpu_us_per_event']:.0f} µs{cpu}", f"{row['events_per_s']:,.0f}{rate}", f"{row['p50_ms']:.2f} ms",
        f"{row['p99_ms']:.2f} ms", f"{row['rss_mib']:.0f} MiB", f"{row['generator_cpu_share']:.0%}",
    ]  # fmt: skip


def _find(
    rows: Sequence[Mapping[str, Any]], case: str, server: tuple[str, str, str], concurrency: int
) -> Mapping[str, Any] | None:
    """Find the row of a server with one worker, if it was measured."""
    wanted = (case, *server, concurrency, 1)
    names = ("case", "server", "engine", "protocol", "concurrency", "workers")
    found = (row for row in rows if tuple(row[name] for name in names) == wanted)
    return next((row for row in found if "failure" not in row), None)


def picture(rows: Sequence[Mapping[str, Any]], file: Path) -> bool:
    """Draw the CPU time of an event for plugins of several sizes, at 16 requests at once.

    :return: whether the rows for it were measured.
    """
    cases = [case for case in DRAWN if any(row["case"] == case for row in rows)]
    found = {name: [_find(rows, case, server, 16) for case in cases] for name, server in _BARS.items()}
    bars = {name: group for name, group in found.items() if group and None not in group}
    if not bars:
        return False
    from matplotlib import pyplot

    pyplot.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "kong-python"})
    figure, axes = pyplot.subplots(figsize=(8, 1.2 + 1.3 * len(cases)))
    height = 0.8 / len(bars)
    for place, (name, group) in enumerate(bars.items()):
        positions = [index + (place - (len(bars) - 1) / 2) * height for index in range(len(cases))]
        lengths = [row["cpu_us_per_event"] for row in group if row]
        axes.bar_label(axes.barh(positions, lengths, height * 0.9, label=name), fmt="%.0f", padding=3)
    axes.set_yticks(range(len(cases)), [DRAWN[case] for case in cases])
    axes.invert_yaxis()
    axes.set_xlabel("CPU time of the plugin server for an event, in µs (less is better)")
    axes.margins(x=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None})
    return True
