"""A server goes on for long, whatever happens to its events: memory, threads and descriptors stay as they are.

A bounded run; ``make soak`` runs the same for ``SOAK_MINUTES``.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_kong import REFUSED, Closed, FakeKong, MsgpackKong, ProtobufKong
from server_process import Served, serving
from waiting import wait_for

PLUGIN = """
import os

lua_style = False

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.exit(403, {"message": "no"}, {"x-denied": "yes"})

    def rewrite(self, kong):
        kong.request.get_header("refused")
        kong.response.set_header("never", "made")

    def response(self, kong):
        raise ValueError("broken")

    def log(self, kong):
        kong.log.notice("well")

    def certificate(self, kong):
        os._exit(3)
"""
ASYNC = PLUGIN.replace("    def access", "    async def access").replace("    def rewrite", "    async def rewrite")
ASYNC = ASYNC.replace("kong.re", "await kong.re")
CASES: list[tuple[str, str, type[FakeKong]]] = [
    (mode, text, kind)
    for mode, text in (("loop", PLUGIN), ("threads", PLUGIN), ("gevent", PLUGIN), ("loop", ASYNC))
    for kind in (ProtobufKong, MsgpackKong)
]
MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
BOUNDED_SECONDS = 3.0
CONNECTIONS = 8
MOST_ABANDONED = 960 if MINUTES else 64
"""Over MsgPack:1, so many events may wait for the value of a refused call, which Kong never sends."""
ABANDONED_SECONDS = 6.0
"""After this time a new event may take the place of one that waits."""
GROWTH_MEBIBYTES = 4.0


class Size(NamedTuple):
    """What a process takes."""

    mebibytes: float
    threads: int
    descriptors: int

    def __str__(self) -> str:
        return f"{self.mebibytes:.1f} MiB, {self.threads} threads, {self.descriptors} descriptors"


def size_of(pid: int) -> Size:
    folder = Path(f"/proc/{pid}")
    private = re.findall(r"^Private_\w+:\s*(\d+) kB", (folder / "smaps_rollup").read_text(), re.MULTILINE)
    return Size(
        sum(map(int, private)) / 1024, len(list((folder / "task").iterdir())), len(list((folder / "fd").iterdir()))
    )


class Kongs:
    """Connections to a server, and the events on them, in turn."""

    def __init__(self, served: Served, kind: type[FakeKong]) -> None:
        self._served = served
        self._kind = kind
        self._idle = collections.deque(kind(served.socket) for _ in range(CONNECTIONS))
        self._abandoned: collections.deque[float] = collections.deque()
        self.counts: collections.Counter[str] = collections.Counter()
        self.instance = self._idle[0].start("probe")

    def close(self) -> None:
        for kong in self._idle:
            kong.close()

    def _event(self, what: str, phase: str, passes: bool, refuses: str = "") -> None:
        kong = self._idle.popleft()
        kong.made.clear()
        assert kong.event(self.instance, phase, {refuses: REFUSED}) is passes
        self.counts[what] += 1
        if not passes and self._kind is ProtobufKong:  # Kong closes it
            kong.close()
            kong = self._kind(self._served.socket)
        self._idle.append(kong)

    def turn(self) -> None:
        """Let each kind of event happen."""
        self._event("exits", "access", passes=False)
        if self._may_abandon():
            self._event("refused calls", "rewrite", passes=False, refuses="kong.request.get_header")
        self._event("errors", "response", passes=False)
        self._event("ends", "log", passes=True)

    def _may_abandon(self) -> bool:
        """Whether another event may wait for what never comes."""
        if self._kind is ProtobufKong:
            return True
        now = time.monotonic()
        while self._abandoned and now - self._abandoned[0] > ABANDONED_SECONDS:
            self._abandoned.popleft()
        if len(self._abandoned) >= MOST_ABANDONED:
            return False
        self._abandoned.append(now)
        return True

    def go_on(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.turn()


def name_of(case: tuple[str, str, type[FakeKong]]) -> str:
    mode, text, kind = case
    return f"{mode}{' async' * (text is ASYNC)}, {kind.name}"


@pytest.mark.parametrize("case", CASES, ids=name_of)
@pytest.mark.timeout(MINUTES * 60 + 300)
def test_events_leave_nothing_behind(
    tmp_path: Path, case: tuple[str, str, type[FakeKong]], say: Callable[[str], None]
) -> None:
    mode, text, kind = case
    seconds = MINUTES * 60 / (len(CASES) + 1) or BOUNDED_SECONDS
    with serving(tmp_path, mode) as serve:
        served = serve(text, KONG_PYTHON_CONCURRENCY=str(MOST_ABANDONED), KONG_LOG_LEVEL="error")
        with contextlib.closing(Kongs(served, kind)) as kongs:
            kongs.go_on(seconds / 3)
            worker = served.pid_of_a_worker()
            pids = {"worker": worker, "master": served.process.pid}
            before = {name: size_of(pid) for name, pid in pids.items()}
            kongs.go_on(seconds * 2 / 3)
            assert served.pid_of_a_worker() == worker
            after = {name: size_of(pid) for name, pid in pids.items()}
        what = f"soak, {mode}{' async' * (text is ASYNC)}, {kind.name}: "
        say(what + ", ".join(f"{count} {name}" for name, count in kongs.counts.items()))
        for name, size in after.items():
            say(f"{what}{name}: {size}, before: {before[name]}")
        for name, size in after.items():
            assert size.mebibytes < before[name].mebibytes + GROWTH_MEBIBYTES
            assert size.threads <= before[name].threads + CONNECTIONS
            assert size.descriptors <= before[name].descriptors + CONNECTIONS
        assert served.stop() == 0


def test_workers_that_end_leave_nothing_behind(tmp_path: Path, say: Callable[[str], None]) -> None:
    """Each event ends its worker: the master answers, and starts another one."""
    seconds = MINUTES * 60 / (len(CASES) + 1) or BOUNDED_SECONDS
    with serving(tmp_path, "loop") as serve:
        served = serve(PLUGIN, KONG_LOG_LEVEL="crit")
        kong = ProtobufKong(served.socket)
        instance = kong.start("probe")
        kong.close()
        count = 0

        def end_workers(seconds: float) -> None:
            nonlocal count
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                kong = ProtobufKong(served.socket)
                with contextlib.suppress(Closed):
                    assert not kong.event(instance, "certificate")
                kong.close()
                count += 1

        end_workers(seconds / 3)
        before = size_of(served.process.pid)
        end_workers(seconds * 2 / 3)
        wait_for(lambda: size_of(served.process.pid).descriptors <= before.descriptors)
        after = size_of(served.process.pid)
        say(f"soak, {count} workers that end: master: {after}, before: {before}")
        assert after.mebibytes < before.mebibytes + GROWTH_MEBIBYTES
        assert after.threads <= before.threads
        assert served.stop() == 0
