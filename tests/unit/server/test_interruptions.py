"""An exception that strikes in the middle of a PDK call ends the event: no later call gets the answer of this one."""

from __future__ import annotations

import contextlib
import ctypes
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import kong_pdk.server
import pytest
from fake_kong import Closed, FakeKong, RpcError
from gevent import monkey
from greenlet import getcurrent
from waiting import DEADLINE, wait_for

ON_GEVENT = bool(monkey.is_module_patched("threading"))
SERVER = str(Path(kong_pdk.server.__file__).parent)
ANSWERS = {
    "kong.request.get_header": lambda name, *_: f"value of {name}",
    "kong.nginx.get_var": "0123456789abcdef0123456789abcdef",
    "kong.request.get_path": "/path",
}


class Struck(BaseException):
    """The exception that strikes: no Exception, so that nothing catches it by accident."""


class Striking:
    """Raises :class:`Struck` at the n-th point that a handler passes in the code of the plugin server."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where = ""
        self.handler: Any = None
        """The handler's greenlet: on the engine ``loop`` its thread runs the loop too."""

    def __call__(self, frame: FrameType, event: str, arg: Any) -> Any:
        if getcurrent() is not self.handler or not frame.f_code.co_filename.startswith(SERVER):
            return None
        frame.f_trace_opcodes = True
        if event in ("opcode", "line"):
            self.left -= 1
            if self.left == 0:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno}"
                sys.settrace(None)
                raise Struck(self.where)
        return self


def strike_everywhere(serve: Any, connect: Any, phase: str, first: int) -> None:
    """Run the handler again and again, struck two points later each time, until it comes to its end unharmed."""
    got: list[tuple[str, Any]] = []
    striking = Striking(0)

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            striking.handler = getcurrent()
            sys.settrace(striking)
            try:
                for name in ("first", "second", "third"):
                    try:
                        got.append((name, kong.request.get_header(name)[0]))
                    except Struck:
                        sys.settrace(None)
                        striking.left = -1
                    if name == "second":  # the third shows whether the first two left an answer behind
                        sys.settrace(None)
            finally:
                sys.settrace(None)

        log = access

    path = serve(Plugin)
    instance = connect(path).start("probe")
    at, passed = first, False
    while not passed:
        got.clear()
        striking.left, striking.where = at, ""
        kong: FakeKong = connect(path)
        try:
            came_to_its_end = kong.event(instance, phase, ANSWERS)
        except (Closed, TimeoutError) as error:
            raise AssertionError(f"there is no answer in good order; struck at {striking.where}") from error
        assert all(value == f"value of {name}" for name, value in got), (striking.where, got)
        if len(got) == 3 or phase == "log":
            assert came_to_its_end, striking.where
        elif not came_to_its_end:
            assert kong.made[-1][0] in ("kong.response.error", "kong.response.exit")
            assert kong.made[-1][1][0] == 500, striking.where
        kong.close()
        passed = striking.left > 0
        at += 2
    assert at > 100


@pytest.mark.skipif(ON_GEVENT, reason="traces threads")
@pytest.mark.parametrize("first", [1, 2])
@pytest.mark.parametrize("phase", ["access", "log"])
def test_at_every_second_point(serve, connect, phase, first):
    """The odd points and the even points are two tests, which two processes can run at once."""
    strike_everywhere(serve, connect, phase, first)


@pytest.mark.on_threads
def test_an_asynchronous_exception(serve, connect_any):
    """Another thread raises an exception in the handler while it waits for Kong."""
    waiting = threading.Event()
    handler: list[int] = []
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            handler.append(threading.get_ident())
            try:
                got.append(kong.request.get_header("first"))
            except Struck:
                got.append("struck")
            got.append(kong.request.get_header("second"))

    def strike(name: str, *_: Any) -> str:
        if name == "first":
            ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(handler[0]), ctypes.py_object(Struck))
            waiting.set()
        return f"value of {name}"

    kong = connect_any(serve(Plugin))
    kong.event(kong.start("probe"), "access", {**ANSWERS, "kong.request.get_header": strike})
    assert waiting.is_set()
    assert got in (["struck"], ["struck", ("value of second", None)])


@pytest.mark.skipif(ON_GEVENT, reason="Python raises it in threads")
def test_an_asynchronous_exception_that_strikes_between_events_costs_no_other_event(serve, connect_any):
    """It strikes the thread that the handler ran on: the one of the loop, for example."""
    handler: list[int] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            handler.append(threading.get_ident())
            kong.request.get_header("first")

    path = serve(Plugin)
    instance = connect_any(path).start("probe")
    for _ in range(3):
        assert connect_any(path).event(instance, "access", ANSWERS)
        struck = handler.pop()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(struck), ctypes.py_object(Struck))
        while struck not in handler:  # another thread of the pool may be idle before it
            with contextlib.suppress(Closed, RpcError):  # this one may be struck
                connect_any(path).event(instance, "access", ANSWERS)
    assert connect_any(path).event(instance, "access", ANSWERS)


@pytest.mark.skipif(not ON_GEVENT, reason="greenlets alone have such timers")
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_timer_of_gevent(serve, connect_any, goes_on, caplog):
    import gevent

    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            with gevent.Timeout(0.05, False):
                got.append(kong.request.get_header("first"))
            if goes_on:
                got.append(kong.request.get_header("second"))

        def log(self, kong):
            got.append(kong.request.get_header("third")[0])

    def late(name: str, *_: Any) -> str:
        if name == "first":
            gevent.sleep(0.2)
        return f"value of {name}"

    path = serve(Plugin)
    kong = connect_any(path)
    instance = kong.start("probe")
    answers = {**ANSWERS, "kong.request.get_header": late}
    assert not kong.event(instance, "access", answers)
    assert kong.made[-1][0] in ("kong.response.error", "kong.response.exit") and kong.made[-1][1][0] == 500
    assert got == []
    assert "interrupted a PDK call before its answer" in caplog.text and "test_interruptions.py:" in caplog.text
    again = connect_any(path)
    assert again.event(instance, "log", answers)
    assert got == ["value of third"]


@pytest.mark.skipif(not ON_GEVENT, reason="greenlets alone have such timers")
def test_the_connection_of_an_interrupted_log_is_not_used_again(serve, connect):
    import gevent

    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            with gevent.Timeout(0.05, False):
                kong.request.get_header("first")

    def late(*_: Any) -> str:
        gevent.sleep(0.2)
        return "late"

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "log", {"kong.request.get_header": late})
    if kong.name == "ProtoBuf:1":
        assert kong.socket.recv(1) == b""


@pytest.mark.parametrize("left_behind", [True, False])
def test_another_thread_of_the_handler_is_not_stopped_by_a_call_under_way(serve, connect, left_behind):
    """A call of one thread is no interruption for the others, which wait for their turn."""
    answered = threading.Event()
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            other = threading.Thread(target=lambda: got.append(kong.request.get_header("other")[0]))
            other.start()
            wait_for(asked.is_set)
            got.append(kong.request.get_header("mine")[0])
            if not left_behind:
                other.join(DEADLINE)

    asked = threading.Event()

    def slowly(name: str, *_: Any) -> str:
        asked.set()
        answered.wait(0.1)
        return f"value of {name}"

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": slowly})
    assert sorted(got) == ["value of mine", "value of other"]


@pytest.mark.skipif(not ON_GEVENT, reason="greenlets alone have such timers")
def test_a_timer_that_outlives_its_handler_costs_no_other_event(serve, connect_any):
    import gevent

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            gevent.Timeout(0.05).start()
            kong.request.get_header("first")

        def log(self, kong):
            kong.request.get_header("second")

    path = serve(Plugin)
    kong = connect_any(path)
    instance = kong.start("probe")
    for _ in range(3):
        assert connect_any(path).event(instance, "access", ANSWERS)
    gevent.sleep(0.2)
    for _ in range(5):
        kong = connect_any(path)
        assert kong.event(instance, "log", ANSWERS)
        assert "kong.request.get_header" in [name for name, _ in kong.made]


@pytest.mark.skipif(not ON_GEVENT, reason="greenlets alone have such timers")
def test_a_timer_that_strikes_while_a_call_of_another_greenlet_is_waited_for(serve, connect_any):
    import gevent

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            gevent.Timeout(0.05).start()
            gevent.spawn(lambda: kong.request.get_header("first"))
            gevent.sleep(0.01)

    def late(*_: Any) -> str:
        gevent.sleep(0.2)
        return "late"

    kong = connect_any(serve(Plugin))
    ended = kong.event(kong.start("probe"), "access", {**ANSWERS, "kong.request.get_header": late})
    assert ended or kong.made[-1][1][0] == 500
