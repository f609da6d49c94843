"""Handlers and Kongs that do anything, over ProtoBuf:1: calls, replies and the event's end stay in their order.

A script tells what a handler does, and what Kong does meanwhile. A model tells which calls Kong must see.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
from fake_kong import Closed, ExtendedKong
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from kong_pdk.errors import PhaseError
from kong_pdk.server import connection as connection_module
from kong_pdk.server.connection import MOST_UNANSWERED, MOST_UNSENT, Connection
from kong_pdk.server.loop import get_ident
from kong_pdk.server.server import Server
from kong_pdk.wire.calls import HandleEvent
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.kong_side import Answered, PdkCall
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import encode_result
from kong_pdk.wire.protobuf_codec import frame
from kong_pdk.wire.wire_errors import ArgumentError
from waiting import DEADLINE, wait_for

set_hypothesis_home_dir(Path(__file__).parents[3] / ".cache" / "hypothesis")

ANY = settings(
    max_examples=100,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

QUICK = 5.0
"""Seconds that are waited for what happens at once, since a failing example is run many times."""

FEW = settings(ANY, max_examples=40)

# What a handler does.
READ, SET, LOG, WARN, PASS_ON, LONG = "read", "set a header", "log", "warn", "pass on", "log a long line"
RAISE, EXIT, BAD, WRONG = "raise", "exit", "call with a bad argument", "call in a wrong phase"
CAUGHT_BAD, CAUGHT_WRONG = "catch a bad argument", "catch a wrong phase"

# What Kong does at a call.
REFUSE, CLOSE, DIE = "refuse it", "close the connection", "die in the middle of its reply"

CALLS: dict[str, Callable[[Any, str], object]] = {
    SET: lambda kong, name: kong.response.set_header(name, "y"),
    LOG: lambda kong, name: kong.log.info(name),
    WARN: lambda kong, name: kong.log.warn(name),
    LONG: lambda kong, name: kong.log.info(name, "x" * MOST_UNSENT),
    PASS_ON: lambda kong, name: kong.service.request.set_header(name, "y"),
    EXIT: lambda kong, name: kong.response.exit(403),
    BAD: lambda kong, name: kong.response.set_header(name, object()),
}
CAUGHT = {CAUGHT_BAD: BAD, CAUGHT_WRONG: WRONG}
FUNCTIONS = {
    READ: "kong.request.get_header",
    SET: "kong.response.set_header",
    LOG: "kong.log.info",
    WARN: "kong.log.warn",
    PASS_ON: "kong.service.request.set_header",
    LONG: "kong.log.info",
}
REFUSED_IN_LOG = {SET, PASS_ON}
SUBSYSTEM = "kong.nginx.get_subsystem"


class Call(NamedTuple):
    """A call, as Kong sees it."""

    function: str
    mark: object
    """Its first argument, which tells the step."""


class Script(NamedTuple):
    """An event."""

    phase: str
    steps: list[str]
    swallows: bool
    """Whether the handler goes on after any exception."""
    ends_at: int | None
    """The number of the call at which Kong ends the connection."""
    how: str
    piece: int
    """The size of the pieces in which Kong sends; 0 for one piece."""
    holds_back: bool
    """Whether Kong's replies, and the next event, come together, once Kong has read all."""


STEPS = st.sampled_from(
    [READ, READ, SET, SET, LOG, WARN, PASS_ON, LONG, RAISE, EXIT, BAD, WRONG, CAUGHT_BAD, CAUGHT_WRONG]
)
SCRIPTS = st.builds(
    Script,
    phase=st.sampled_from(["access", "access", "rewrite", "log"]),
    steps=st.lists(STEPS, max_size=9),
    swallows=st.sampled_from([False, False, True]),
    ends_at=st.one_of(st.none(), st.none(), st.integers(0, 6)),
    how=st.sampled_from([REFUSE, CLOSE, DIE]),
    piece=st.sampled_from([0, 0, 1, 3]),
    holds_back=st.booleans(),
)


class Boom(Exception):
    """A handler raises it."""


class Play:
    """A script, and what its handler got."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.got: list[tuple[int, Any]] = []
        self.done = threading.Event()


class Handler:
    """The plugin: each event runs the script that is the turn of its instance."""

    plays: ClassVar[dict[int, Play]] = {}

    def __init__(self, config: Any) -> None:
        self.number = config["number"]

    def access(self, kong: Any) -> None:
        play = self.plays[self.number]
        try:
            for number, step in enumerate(play.script.steps):
                try:
                    self.do(kong, number, step, play)
                except BaseException:  # noqa: PERF203
                    if not play.script.swallows:
                        raise
        finally:
            play.done.set()

    rewrite = log = access

    def do(self, kong: Any, number: int, step: str, play: Play) -> None:
        name = f"x-{number}"
        if step == READ:
            play.got.append((number, kong.request.get_header(name)[0]))
        elif step == RAISE:
            raise Boom
        elif step in CAUGHT:
            with contextlib.suppress(ArgumentError, PhaseError):
                self.do(kong, number, CAUGHT[step], play)
        elif step != WRONG:
            CALLS[step](kong, name)
        elif play.script.phase == "log":
            kong.response.set_header(name, "y")
        else:
            kong.service.response.get_status()


def expected(script: Script) -> tuple[list[Call], str]:
    """The calls of a script whose Kong refuses nothing, in their order, and how it ends: "end", "exit" or "500"."""
    calls: list[Call] = []
    in_log = script.phase == "log"
    for number, step in enumerate(script.steps):
        raises = step in (RAISE, BAD, WRONG) or (in_log and step in (*REFUSED_IN_LOG, EXIT))
        if raises and not script.swallows:
            return calls, "end" if in_log else "500"
        if step == EXIT and not in_log:
            return [*calls, Call("kong.response.exit", 403)], "exit"
        if step in FUNCTIONS and not raises:
            calls.append(Call(FUNCTIONS[step], f"x-{number}"))
    return calls, "end"


def is_allowed(seen: list[Call], order: list[Call]) -> bool:
    """Whether Kong may see calls like this: ``kong.response.set_*`` may come after reads that follow it."""
    left = list(order)
    for call in seen:
        if call not in left:
            return False
        at = left.index(call)
        before = left[:at]
        if before and not call.function.startswith("kong.request.get_"):
            return False
        if not all(each.function.startswith("kong.response.set_") for each in before):
            return False
        del left[at]
    return True


class Kong(ExtendedKong):
    """Kong, which does in an event what its script tells."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._held = b""
        self._piece = 0

    def say(self, data: bytes) -> None:
        for at in range(0, len(data), self._piece or max(len(data), 1)):
            self.socket.sendall(data[at : at + (self._piece or len(data))])

    def release(self) -> None:
        """Send what is held back."""
        held, self._held = self._held, b""
        self.say(held)

    def receive(self) -> bytes:
        self.release()
        return super().receive()

    def play(self, instance: int, script: Script, values: Iterator[str]) -> tuple[list[Call], dict[object, str], str]:
        """Run an event: the calls that Kong saw, what it gave to the reads, and how the event ended."""
        seen: list[Call] = []
        given: dict[object, str] = {}
        self._piece = script.piece
        self._held += self.side.call(self.next_number(), HandleEvent(instance, script.phase))
        while True:
            try:
                said = self.next()
            except (Closed, ConnectionError):
                return seen, given, "closed by the server"
            if isinstance(said, Answered):
                assert said.answer is None
                return seen, given, "end"
            method = self.interface.method(said.method)
            arguments = decode_arguments(method, said.arguments)
            reply = frame(encode_result(method, "http" if method.function == SUBSYSTEM else None))
            if method.function != SUBSYSTEM:
                seen.append(Call(method.function, arguments[0] if arguments else None))
                if method.function in ("kong.response.exit", "kong.response.error"):
                    self.release()
                    return seen, given, "exit" if arguments[0] == 403 else str(int(arguments[0]))
                if method.function == FUNCTIONS[READ]:
                    given[arguments[0]] = next(values)
                    reply = frame(encode_result(method, given[arguments[0]]))
                if script.ends_at == len(seen) - 1:
                    self._held += reply[: len(reply) - 1] if script.how == DIE else b""
                    self.release()
                    if script.how == REFUSE:
                        self.socket.shutdown(socket.SHUT_WR)
                    else:
                        self.socket.close()
                    return seen, given, "ended by Kong"
            self._held += reply
            if not script.holds_back:
                self.release()

    def wait_for_end(self) -> None:
        """Wait until the server closes the connection."""
        with contextlib.suppress(ConnectionError):
            while self.socket.recv(65536):
                pass


class Logged(logging.Handler):
    """Keeps the lines of the log."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[Logged]:
    handler, logger = Logged(), logging.getLogger("kong_pdk")
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)


def is_empty(server: Server) -> bool:
    loop = server.loop
    return not (server.running or loop.connections or loop.idle or loop.waiting or loop.parked)


def check(script: Script, seen: list[Call], given: dict[object, str], end: str, got: list[tuple[int, Any]]) -> None:
    """Compare an event with its model."""
    order, outcome = expected(script)
    values = [(f"x-{number}", value) for number, value in got]
    assert all(given[mark] == value for mark, value in values), "a call got the reply to another one"
    reads = [call.mark for call in order if call.function == FUNCTIONS[READ]]
    assert [mark for mark, _ in values] == reads[: len(values)]
    if end == "ended by Kong":
        last = [Call("kong.response.error", 500)] if outcome == "500" else []
        assert is_allowed(seen, [*order, *last])
        return
    assert end == outcome
    if end == "500":
        assert seen.pop() == Call("kong.response.error", 500)
    assert sorted(seen, key=str) == sorted(order, key=str), "each call comes once, before the end"
    assert is_allowed(seen, order)
    assert len(values) == len(reads)


def play_all(path: Path, number: int, scripts: list[Script], watched: tuple[Server, Logged] | None = None) -> None:
    """Play events one after another, on the same connection while it is open, and each right after the last one's end.

    :param number: tells the instance.
    :param watched: the server and its log, where it serves nothing else.
    """
    values = (f"value {number}-{each}" for each in itertools.count())
    with contextlib.closing(Kong(path)) as first:
        instance = first.start("probe", {"number": number})
    kong: Kong | None = None
    try:
        for script in scripts:
            kong = kong or Kong(path)
            play = Handler.plays[number] = Play(script)
            if watched is not None:
                watched[1].lines.clear()
                watched[0].instances.errors.forget()
            seen, given, end = kong.play(instance, script, values)
            assert play.done.wait(DEADLINE)
            check(script, seen, given, end, play.got)
            if end == "end":
                continue
            if end == "ended by Kong" and script.how == REFUSE:
                kong.wait_for_end()
            kong.close()
            kong = None
            if watched is None:
                continue
            check_empty(*watched)
            refused = [line for line in watched[1].lines if "Kong refused" in line]
            if end == "ended by Kong":
                assert len(refused) == 1, watched[1].lines
                assert f"Kong refused {seen[-1].function} in {script.phase}" in refused[0]
            else:
                assert not refused
    finally:
        if kong is not None:
            kong.close()


def check_empty(server: Server, logged: Logged) -> None:
    """Check that no event and no connection is left, and that nothing went wrong."""
    wait_for(lambda: is_empty(server), seconds=QUICK)
    assert not any("defect" in line for line in logged.lines), logged.lines


@pytest.fixture
def running(serve: Any) -> tuple[Path, Server]:
    serve.interface = EXTENDED
    path = serve(Handler)
    return path, serve.server(path)


@pytest.fixture(params=[MOST_UNANSWERED, 3])
def few_unanswered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit as it is, and one that short scripts reach."""
    monkeypatch.setattr(connection_module, "MOST_UNANSWERED", request.param)


@ANY
@given(scripts=st.lists(SCRIPTS, min_size=1, max_size=4))
@pytest.mark.usefixtures("few_unanswered")
def test_any_handler_and_any_kong(running: tuple[Path, Server], logged: Logged, scripts: list[Script]) -> None:
    path, server = running
    play_all(path, 1, scripts, (server, logged))
    check_empty(server, logged)


@FEW
@given(all_scripts=st.lists(st.lists(SCRIPTS, min_size=1, max_size=4), min_size=2, max_size=4))
def test_several_at_once(running: tuple[Path, Server], logged: Logged, all_scripts: list[list[Script]]) -> None:
    path, server = running
    with ThreadPoolExecutor(len(all_scripts)) as threads:
        for ended in [threads.submit(play_all, path, number, scripts) for number, scripts in enumerate(all_scripts)]:
            ended.result(DEADLINE)
    check_empty(server, logged)
    logged.lines.clear()


@pytest.mark.parametrize("holds_back", [False, True])
def test_many_events_of_one_connection(running: tuple[Path, Server], logged: Logged, holds_back: bool) -> None:
    path, server = running
    script = Script("access", [SET, LOG, READ, WARN, PASS_ON, READ, SET], False, None, REFUSE, 0, holds_back)
    play_all(path, 1, [script] * 50, (server, logged))
    check_empty(server, logged)


def test_an_event_right_after_another_counts_as_running(
    running: tuple[Path, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is told to stop waits for it.

    Kong sends it as soon as it has the end of the one before, whose thread may still be giving the connection back.
    """
    path, server = running
    release, ended = server.loop.release, server.ended
    reads, has_begun, has_ended = threading.Event(), threading.Event(), threading.Semaphore(0)

    def release_slowly(connection: Connection) -> None:
        release(connection)
        if reads.is_set() and get_ident() != server.loop.thread:
            has_begun.wait(DEADLINE)

    def note_end(call: object) -> None:
        ended(call)
        has_ended.release()

    monkeypatch.setattr(server.loop, "release", release_slowly)
    monkeypatch.setattr(server, "ended", note_end)
    Handler.plays[1] = Play(Script("access", [READ], False, None, REFUSE, 0, False))
    with contextlib.closing(Kong(path)) as kong:
        event = HandleEvent(kong.start("probe", {"number": 1}), "access")
        assert has_ended.acquire(timeout=DEADLINE)
        reads.set()
        for is_first in (True, False):
            kong.send(event)
            assert isinstance(kong.next(), PdkCall)
            if is_first:
                kong.reply(b"")
                assert kong.answer() is None
        has_begun.set()
        assert has_ended.acquire(timeout=DEADLINE)
        assert server.running
        kong.reply(b"")
        assert kong.answer() is None
    wait_for(lambda: is_empty(server))


@pytest.mark.parametrize("how", ["returns", "raises", "exits", "reads"])
def test_a_refusal_is_logged_where_nothing_can_be_sent_any_more(serve: Any, logged: Logged, how: str) -> None:
    """Kong refuses a call for which the handler does not wait, and closes the connection before the handler ends."""
    is_closed = threading.Event()

    class Plugin:
        def __init__(self, config: object) -> None:
            pass

        def access(self, kong: Any) -> None:
            kong.response.set_header("x", "y")
            kong.log.warn("sent at once")
            assert is_closed.wait(DEADLINE)
            if how == "raises":
                raise Boom
            if how == "exits":
                kong.response.exit(403)
            if how == "reads":
                kong.request.get_header("x")

    serve.interface = EXTENDED
    path = serve(Plugin)
    kong = Kong(path)
    kong.send(HandleEvent(kong.start("probe"), "access"))
    for _ in range(2):
        assert isinstance(kong.next(), PdkCall)
    kong.close()
    is_closed.set()
    wait_for(lambda: is_empty(serve.server(path)), seconds=QUICK)
    refused = [line for line in logged.lines if "Kong refused" in line]
    assert len(refused) == 1 and "Kong refused kong.response.set_header in access" in refused[0], logged.lines
