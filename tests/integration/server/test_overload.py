"""Ten times as many events as a plugin can serve, at a steady rate: all are answered, and nothing grows."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest
from fake_kong import FakeKong, MsgpackKong, ProtobufKong
from server_process import Served, serving

SECONDS = 0.05
RUNNING, WAITING = 2, 2
CAPACITY = RUNNING / SECONDS
TIMES = 10
EVENTS = int(2 * TIMES * CAPACITY)
HANDLER = f"""
import asyncio
import time

lua_style = False
running = set()

class Plugin:
    def __init__(self, config):
        pass

    {{define}} access(self, kong):
        me = object()
        running.add(me)
        {{wait}}({SECONDS})
        count = len(running)
        running.discard(me)
        {{call}}kong.response.set_header("x-running", str(count))
"""
BLOCKING = {"define": "def", "wait": "time.sleep", "call": ""}
ASYNC = {"define": "async def", "wait": "await asyncio.sleep", "call": "await "}
CASES: list[tuple[str, dict[str, str], type[FakeKong]]] = [
    ("threads", BLOCKING, ProtobufKong),
    ("threads", BLOCKING, MsgpackKong),
    ("gevent", BLOCKING, ProtobufKong),
    ("loop", ASYNC, ProtobufKong),
]


class Outcome(NamedTuple):
    status: int
    running: int
    seconds: float


def ask(kind: type[FakeKong], path: Path, instance: int) -> Outcome:
    kong = kind(path)
    try:
        begun = time.monotonic()
        passes = kong.event(instance, "access")
        seconds = time.monotonic() - begun
        if not passes:
            return Outcome(kong.status(), 0, seconds)
        return Outcome(200, int(kong.made[0][1][1]), seconds)
    finally:
        kong.close()


def ask_all(kind: type[FakeKong], path: Path, instance: int) -> list[Outcome]:
    """Send the events at their times, whatever becomes of those before."""
    begun = time.monotonic()

    def send(number: int) -> Outcome:
        time.sleep(max(begun + number / CAPACITY / TIMES - time.monotonic(), 0.0))
        return ask(kind, path, instance)

    with ThreadPoolExecutor(64) as threads:
        return list(threads.map(send, range(EVENTS)))


def threads_of(pid: int) -> int:
    found = re.search(r"^Threads:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1])


def descriptors_of(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


@pytest.mark.parametrize(("mode", "words", "kind"), CASES, ids=lambda value: getattr(value, "name", None))
def test_ten_times_the_capacity(
    tmp_path: Path, mode: str, words: dict[str, str], kind: type[FakeKong], say: Callable[[str], None]
) -> None:
    with serving(tmp_path, mode) as serve:
        limits = {"KONG_PYTHON_CONCURRENCY": str(RUNNING), "KONG_PYTHON_QUEUE": str(WAITING)}
        served: Served = serve(HANDLER.format(**words), **limits)
        kong = kind(served.socket)
        instance = kong.start("probe")
        kong.close()
        outcomes = ask_all(kind, served.socket, instance)
        served_ones = [each for each in outcomes if each.status == 200]
        assert {each.status for each in outcomes} == {200, 503}
        assert max(each.running for each in served_ones) == RUNNING
        # Each of them waited for those that ran and waited before it, and for no others.
        longest = max(each.seconds for each in served_ones)
        say(f"overload, {mode}, {kind.name}: {len(served_ones)} of {EVENTS} served, in {longest:.3f} s at most")
        pid = served.pid_of_a_worker()
        assert threads_of(pid) < 16
        assert descriptors_of(pid) < 64
        assert ask(kind, served.socket, instance).status == 200
        assert "refused, since too many events run and wait" in served.said()
        assert served.stop() == 0
