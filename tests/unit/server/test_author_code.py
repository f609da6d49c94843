"""The author's code during an event: it may call Kong, raise, and return any value."""

from __future__ import annotations

import functools
import gc
import logging
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from fake_kong import Closed, MsgpackKong, RpcError
from waiting import DEADLINE, wait_for

ANSWERS = {
    "kong.request.get_path": "/path",
    "kong.request.get_header": lambda name, *_: f"value of {name}",
    "kong.nginx.get_var": "0123456789abcdef0123456789abcdef",
}
ENDS = ("kong.response.exit", "kong.response.error")


@pytest.fixture
def run(serve, connect_any):
    """Run a handler; returns whether it completed, and Kong's side."""

    def running(handler: Any, phase: str = "access") -> tuple[bool, Any]:
        class Plugin:
            def __init__(self, config):
                pass

        setattr(Plugin, phase, lambda self, kong: handler(kong))
        kong = connect_any(serve(Plugin))
        return kong.event(kong.start("probe"), phase, ANSWERS), kong

    return running


@pytest.fixture
def handler_of_logging():
    """Add a logging handler to the root logger, for a test."""
    added: list[logging.Handler] = []

    def add(emit: Any, name: str | None = None) -> None:
        class Handler(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                emit(record)

        added.append(Handler())
        logging.getLogger(name).addHandler(added[-1])

    yield add
    for handler in added:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("kong_pdk").removeHandler(handler)


def is_failure(kong: Any) -> bool:
    method, args = kong.made[-1]
    return method in ENDS and args[0] == 500


# --- while arguments are converted


def test_the_text_of_an_argument_may_ask_kong(run):
    class Asking:
        def __init__(self, kong):
            self.kong = kong

        def __str__(self):
            return f"at {self.kong.request.get_path()[0]}"

    ended, kong = run(lambda kong: kong.log.err(Asking(kong)))
    assert ended
    assert kong.made == [("kong.request.get_path", []), ("kong.log.err", ["at /path"])]


def test_a_mapping_may_ask_kong_for_its_values(run):
    class Lazy(Mapping[str, Any]):
        def __init__(self, kong):
            self.kong = kong

        def __getitem__(self, name):
            return self.kong.request.get_header(name)[0]

        def __iter__(self) -> Iterator[str]:
            return iter(["x-a", "x-b"])

        def __len__(self):
            return 2

    ended, kong = run(lambda kong: kong.response.set_headers(Lazy(kong)))
    assert ended
    assert kong.made[-1] == ("kong.response.set_headers", [{"x-a": "value of x-a", "x-b": "value of x-b"}])


# --- while something is logged


def test_a_logging_handler_may_forward_to_kong(run, handler_of_logging, monkeypatch):
    """With debug lines, too, of which a call makes one itself."""
    monkeypatch.setattr(logging.getLogger("kong_pdk"), "level", logging.DEBUG)
    held: list[Any] = []
    handler_of_logging(lambda record: held and held[0].log.err(record.getMessage()), "kong_pdk")

    def handler(kong: Any) -> None:
        held.append(kong)
        kong.request.get_path()
        logging.getLogger("of.the.author").error("mine")

    ended, kong = run(handler)
    assert ended
    assert ("kong.request.get_path", []) in kong.made


def test_the_warning_about_an_unknown_function_may_be_forwarded_to_kong(serve, handler_of_logging):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            handler_of_logging(lambda record: kong.log.err("forwarded"), "kong_pdk")
            kong.request.get_nothing_that_there_is()

    kong = MsgpackKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert ("kong.log.err", ["forwarded"]) in kong.made
    kong.close()


@pytest.mark.parametrize("error", [ValueError("broken handler"), KeyboardInterrupt(), SystemExit(1)], ids=repr)
def test_a_logging_handler_that_raises_costs_no_answer(run, handler_of_logging, capfd, error):
    def emit(record: logging.LogRecord) -> None:
        raise error

    def handler(kong: Any) -> None:
        handler_of_logging(emit, "kong_pdk")
        raise RuntimeError("of the author")

    ended, kong = run(handler)
    assert not ended and is_failure(kong)
    assert "RuntimeError: of the author" in capfd.readouterr().err


def test_a_logging_handler_that_raises_costs_no_log_event(serve, connect, handler_of_logging):
    def emit(record: logging.LogRecord) -> None:
        raise ValueError("broken handler")

    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            handler_of_logging(emit, "kong_pdk")
            raise RuntimeError("of the author")

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "log")
    assert kong.made == []


# --- where Python runs it whenever it likes


def test_a_finalizer_in_the_middle_of_a_call_does_not_lock_the_event(run, monkeypatch):
    """Python may collect garbage anywhere, in the middle of a call, too."""
    caught: list[Exception] = []

    class Cycle:
        def __init__(self, kong):
            self.kong = kong
            self.me = self

        def __del__(self):
            try:
                self.kong.log.err("from a finalizer")
            except Exception as error:
                caught.append(error)

    def handler(kong: Any) -> None:
        threshold = gc.get_threshold()
        gc.set_threshold(1, 1, 1)
        try:
            for _ in range(20):
                Cycle(kong)
                assert kong.request.get_path() == ("/path", None)
        finally:
            gc.set_threshold(*threshold)

    ended, kong = run(handler)
    assert ended
    assert [name for name, _ in kong.made].count("kong.request.get_path") == 20
    finalized = [name for name, _ in kong.made].count("kong.log.err")
    assert finalized + len(caught) > 0
    assert all("in the middle of another PDK call" in str(error) for error in caught)


def test_a_call_of_another_thread_waits_for_its_turn(run):
    def handler(kong: Any) -> None:
        found: list[Future[Any]] = [Future() for _ in range(8)]

        def call(number: int) -> None:
            found[number].set_result(kong.request.get_header(f"x-{number}"))

        for number in range(8):
            threading.Thread(target=call, args=(number,)).start()
        for number, future in enumerate(found):
            assert future.result(DEADLINE) == (f"value of x-{number}", None)

    ended, _ = run(handler)
    assert ended


# --- results


async def _coroutine(kong):
    kong.response.exit(403)


def _generator(kong):
    yield kong.response.exit(403)


async def _async_generator(kong):
    yield kong.response.exit(403)


class _Awaitable:
    def __init__(self, kong):
        pass

    def __await__(self):
        yield


def _future(kong):
    pool = ThreadPoolExecutor(1)
    try:
        return pool.submit(kong.log.err, "late")
    finally:
        pool.shutdown()


class _AsyncResult:
    """Threads of multiprocessing's pools and greenlets of gevent are such threads."""

    def __init__(self, kong):
        pass

    def get(self):
        pass

    def ready(self):
        return True


UNFINISHED = [
    _coroutine,
    _generator,
    _async_generator,
    _Awaitable,
    _future,
    _AsyncResult,
    lambda kong: map(kong.response.exit, [403]),
    lambda kong: iter([1]),
    lambda kong: functools.partial(kong.response.exit, 403),
    lambda kong: kong.response.exit,
    lambda kong: lambda: kong.response.exit(403),
]


@pytest.mark.parametrize("handler", UNFINISHED)
@pytest.mark.parametrize("phase", ["rewrite", "access", "response"])
def test_unfinished_work_as_a_result_is_a_failure(run, handler, phase, caplog):
    """Otherwise the handler would count as done and the request would pass."""
    ended, kong = run(handler, phase)
    assert not ended and is_failure(kong)
    assert f"{phase} is not done when it returns" in caplog.text
    gc.collect()  # no coroutine that was never awaited: warnings are errors


def test_unfinished_work_in_log_is_logged(run, caplog):
    ended, kong = run(_coroutine, "log")
    assert ended and kong.made == []
    assert "log is not done" in caplog.text and "asyncio.run" in caplog.text


@pytest.mark.parametrize(
    "value", [None, True, "text", (1, None), [], {}, object()], ids=lambda value: type(value).__name__
)
def test_other_results_are_ignored(run, value):
    ended, kong = run(lambda kong: value)
    assert ended and kong.made == []


# --- at the start


@pytest.mark.parametrize("phase", ["access", "log"])
def test_an_init_that_fails_later_fails_the_event_and_is_logged_once(serve, connect_any, caplog, phase):
    """In a worker that makes an instance which another worker has: Kong would start it again and again."""

    class Plugin:
        made = 0

        def __init__(self, config):
            type(self).made += 1
            if type(self).made > 1:
                raise ConnectionError("the database is down")

        def access(self, kong):
            kong.log.err("ran")

        log = access

    path = serve(Plugin)
    kong = connect_any(path)
    id = kong.start("probe")
    assert kong.event(id, phase)
    serve.server(path).instances.discard(id)  # as when another worker has it
    caplog.clear()
    for _ in range(3):
        kong = connect_any(path)
        ended = kong.event(id, phase, ANSWERS)
        assert ended if phase == "log" else not ended and is_failure(kong)
    wait_for(lambda: "the database is down" in caplog.text)
    assert caplog.text.count("probe: __init__ raised ConnectionError: the database is down (") == 1


class Unlookable(Exception):
    """An exception whose attributes cannot be read, like a proxy whose target is not set."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@pytest.mark.parametrize("where", ["__init__", "access", "close"])
def test_an_exception_that_cannot_be_looked_at_is_answered_and_logged(serve, connect_any, caplog, where):
    fails: list[str] = []

    class Plugin:
        def __init__(self, config):
            if "__init__" in fails:
                raise Unlookable("down")

        def access(self, kong):
            if "access" in fails:
                raise Unlookable("down")

        def close(self):
            if "close" in fails:
                raise Unlookable("down")

    path = serve(Plugin)
    id = connect_any(path).start("probe")
    fails.append(where)
    if where != "access":
        serve.server(path).instances.discard(id)
    if where != "close":
        kong = connect_any(path)
        assert not kong.event(id, "access", ANSWERS) and is_failure(kong)
    wait_for(lambda: "raised Unlookable: down" in caplog.text)


def failures_logged(caplog: pytest.LogCaptureFixture) -> int:
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    return sum("__init__ raised" in record.getMessage() for record in records)


def test_a_failing_init_is_logged_once_for_messages_that_differ_in_numbers(serve, connect, caplog):
    tries: list[int] = []

    class Plugin:
        def __init__(self, config):
            tries.append(0)
            if len(tries) > 1:
                raise ConnectionError(f"<Connection object at {len(tries):#x}>: refused after 0.{len(tries)} s")

        def access(self, kong):
            pass

    path = serve(Plugin)
    id = connect(path).start("probe")
    serve.server(path).instances.discard(id)
    for _ in range(5):
        assert not connect(path).event(id, "access")
    assert failures_logged(caplog) == 1


def test_a_failing_init_is_logged_again_after_a_success_and_for_another_configuration(serve, connect, caplog):
    down: list[bool] = []

    class Plugin:
        def __init__(self, config):
            if down:
                raise ConnectionError("refused")

        def access(self, kong):
            pass

    path = serve(Plugin)
    id = connect(path).start("probe")
    for times in (1, 2):
        serve.server(path).instances.discard(id)
        down.append(True)
        assert not connect(path).event(id, "access")
        down.clear()
        assert connect(path).event(id, "access")
        assert failures_logged(caplog) == times
    down.append(True)
    for key, times in (("a", 3), ("a", 3), ("b", 4)):
        with pytest.raises((Closed, RpcError)):
            connect(path).start("probe", {key: 1})
        assert failures_logged(caplog) == times
