"""A handler that holds the loop: another loop serves the others meanwhile, and its phase moves to threads."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_kong import MsgpackKong, ProtobufKong
from gevent import monkey
from kong_pdk.plugin import Plugin as Description
from kong_pdk.server import watchdog as module
from kong_pdk.server.loop import EpollLoop
from kong_pdk.server.watchdog import Watchdog
from waiting import DEADLINE, wait_for

ON_GEVENT = bool(monkey.is_module_patched("threading"))
pytestmark = pytest.mark.skipif(ON_GEVENT, reason="gevent has a loop of its own")


@pytest.fixture
def engine() -> str:
    return "loop"


@pytest.fixture(autouse=True)
def _notices_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Held:
    """A plugin whose ``access`` waits for something else than Kong."""

    go_on = threading.Event()
    threads: list[str] = []  # noqa: RUF012  # of this class alone

    def __init__(self, config):
        pass

    def access(self, kong):
        self.threads.append(threading.current_thread().name)
        assert self.go_on.wait(DEADLINE)
        kong.request.get_header("x")

    def rewrite(self, kong):
        kong.request.get_header("x")


@pytest.fixture
def held() -> type[Held]:
    class Plugin(Held):
        go_on = threading.Event()
        threads: list[str] = []  # noqa: RUF012

    return Plugin


def test_others_are_served_meanwhile_and_the_phase_runs_on_threads_from_then_on(serve, connect, held, caplog):
    path = serve(held)
    kong, other = connect(path), connect(path)
    instance = kong.start("probe")
    ended: list[bool] = []
    holding = threading.Thread(target=lambda: ended.append(kong.event(instance, "access")))
    holding.start()
    wait_for(lambda: held.threads)  # what waits for Kong on the same thread would be held up
    for _ in range(3):
        assert other.event(instance, "rewrite")
        assert connect(path).event(instance, "rewrite")
    wait_for(lambda: "probe: access waits or computes for more than 10 ms" in caplog.text)
    assert f"{__file__}:" in caplog.text and "it runs on threads from now on" in caplog.text
    held.go_on.set()
    holding.join(DEADLINE)
    assert ended == [True]
    assert other.event(instance, "access") and kong.event(instance, "access")
    assert held.threads == ["loop", "handler", "handler"]
    assert caplog.text.count("waits or computes") == 1


def test_the_loop_that_was_held_ends_and_leaves_nothing(serve, connect, held):
    path = serve(held)
    server = serve.server(path)
    kong = connect(path)
    instance = kong.start("probe")
    first = server.loop
    holding = threading.Thread(target=kong.event, args=(instance, "access"))
    holding.start()
    wait_for(lambda: server.loop is not first)
    held.go_on.set()
    holding.join(DEADLINE)
    wait_for(lambda: not first._running.is_alive())
    assert not first.idle and not first.waiting and kong.event(instance, "rewrite")


def test_an_event_that_waits_on_the_loop_goes_on_when_the_handler_lets_it_go(serve, held):
    """A greenlet belongs to its thread, so an event that waits for Kong there is held up, and not lost."""
    path = serve(held)
    waiting, kong = ProtobufKong(path), MsgpackKong(path)
    instance = kong.start("probe")
    asked, answer = threading.Event(), threading.Event()

    def value(_: str) -> str:
        asked.set()
        assert answer.wait(DEADLINE)
        return "y"

    ended: list[bool] = []
    answers: dict[str, Any] = {"kong.request.get_header": value}
    first = threading.Thread(target=lambda: ended.append(waiting.event(instance, "rewrite", answers)))
    first.start()
    assert asked.wait(DEADLINE)
    second = threading.Thread(target=lambda: ended.append(kong.event(instance, "access")))
    second.start()
    wait_for(lambda: held.threads)
    answer.set()
    held.go_on.set()
    for thread in (first, second):
        thread.join(DEADLINE)
    assert ended == [True, True]
    waiting.close()
    kong.close()


def test_a_handler_that_computes_is_found(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                pass

        def rewrite(self, kong):
            pass

    path = serve(Plugin)
    kong = connect(path)
    instance = kong.start("probe")
    wait_for(lambda: kong.event(instance, "access") and "probe: access waits or computes" in caplog.text)
    assert kong.event(instance, "rewrite")


def test_a_handler_that_waits_for_kong_is_left_alone(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.request.get_header("x")

    def slowly(_: str) -> str:
        time.sleep(0.1)
        return "y"

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": slowly})
    assert "waits or computes" not in caplog.text


class Looked:
    """A watchdog over a loop that is held, with numbers of the kernel that a test gives: since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = EpollLoop()
        self.loop.thread, self.loop.turn = threading.get_ident(), 1
        self._times = module._Times(0.0, 0.0, 0.0, 0.0)
        monkeypatch.setattr(Watchdog, "_measure", lambda _: self._times)
        self.watchdog = Watchdog(self.loop)
        self.watchdog.look()

    def after(self, ran: float = 0.0, queued: float = 0.0, others: float = 0.0) -> bool:
        """Look after a second."""
        before = self._times
        self._times = module._Times(
            before.ran + ran, before.queued + queued, before.process_ran + ran + others, before.now + 1.0
        )
        return self.watchdog.look()


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Looked]:
    looked = Looked(monkeypatch)
    yield looked
    looked.watchdog.close()
    looked.loop.stop()


@pytest.mark.parametrize("numbers", [{}, {"ran": 1.0}, {"ran": 0.6, "others": 0.9}, {"queued": 0.4}, {"others": 0.4}])
def test_a_handler_that_waits_or_computes_holds_the_loop(looked, numbers):
    assert looked.after(**numbers)


def test_a_thread_that_the_kernel_gives_no_processor_is_not_blocked(looked):
    """As in a container beyond its limit."""
    assert not any(looked.after(queued=0.9, ran=0.1) for _ in range(20))


def test_a_thread_that_waits_for_the_interpreter_is_doubtful(looked):
    """Other threads of the plugin compute. If it lasts, the handler waits for something else as well."""
    assert [looked.after(others=0.9) for _ in range(6)] == [False] * 4 + [True] * 2


def test_a_loop_that_turns_is_held_by_nobody(looked):
    looked.loop.turn += 1
    assert not looked.after()
    looked.loop.is_looking = True
    assert not looked.after()


def test_a_loop_with_nothing_to_do_needs_no_looks(looked):
    looked.loop.is_looking = True
    assert not looked.watchdog.is_quiet
    for _ in range(5):
        looked.after()
    assert looked.watchdog.is_quiet
    looked.loop.turn += 1
    looked.after()
    assert not looked.watchdog.is_quiet


def test_a_phase_that_held_an_earlier_worker_starts_on_threads(tmp_path, held):
    from kong_pdk.server.server import EngineOptions, Server

    plugin = Description(
        "probe", Path(__file__), cls=held, phases=("access", "rewrite"), version="1.0.0", priority=1, schema=()
    )
    server = Server([plugin], [], engines=EngineOptions("loop", [("probe", "access")]))
    instance = server.instances.start("probe", b"{}")
    assert server.engine_of(instance, "access") is not server.engine_of(instance, "rewrite")
    assert server.engine_of(instance, "access").waits.blocks
    server.stop()
    assert server.run()
