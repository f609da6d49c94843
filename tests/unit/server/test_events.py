"""What Kong sees of a handler, over both protocols."""

from __future__ import annotations

import contextlib
import gc
import inspect
import json
import logging
import socket
import threading
import weakref
from typing import Any

import pytest
from fake_kong import REFUSED, Closed, ExtendedKong, ProtobufKong, RpcError
from kong_pdk import PDKError, PhaseError
from kong_pdk.server.connection import MOST_UNANSWERED, MOST_UNSENT
from kong_pdk.wire import calls
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.kong_side import PdkCall
from kong_pdk.wire.pdk_values.protobuf_arguments import decode_arguments
from waiting import DEADLINE, wait_for


def test_py_hello(serve, connect):
    class Plugin:
        def __init__(self, config):
            self.config = config

        def access(self, kong):
            host, err = kong.request.get_header("host")
            assert err is None
            kong.response.set_header("x-hello", f"{self.config['message']} {host}")

    kong = connect(serve(Plugin))
    instance = kong.start("probe", {"message": "hello"})
    assert kong.event(instance, "access", {"kong.request.get_header": "example.test"})
    assert kong.made == [
        ("kong.request.get_header", ["host"]),
        ("kong.response.set_header", ["x-hello", "hello example.test"]),
    ]


def read_and_set(kong):
    kong.response.set_header("x-host", kong.request.get_header("host")[0])


def deny(kong):
    kong.response.exit(403, {"message": "no"})


def fail(kong):
    kong.request.get_header("host")
    raise ValueError("of the plugin")


def catch(kong):
    with contextlib.suppress(PhaseError):
        kong.response.get_status()


async def await_calls(kong):
    await kong.response.set_header("x-host", (await kong.request.get_header("host"))[0])


async def deny_by_await(kong):
    await kong.response.exit(403)


async def fail_after_await(kong):
    await kong.request.get_header("host")
    raise ValueError("of the plugin")


async def forget_await(kong):
    kong.request.get_header("host")


async def catch_by_await(kong):
    with contextlib.suppress(PhaseError):
        await kong.response.get_status()


@pytest.mark.parametrize(
    "does",
    [read_and_set, deny, fail, catch, await_calls, deny_by_await, fail_after_await, forget_await, catch_by_await],
)
def test_an_event_leaves_nothing_to_the_garbage_collector(serve, connect_whole, does):
    given = []

    class Plugin:
        def __init__(self, config):
            pass

        if inspect.iscoroutinefunction(does):

            async def access(self, kong):
                given.append(weakref.ref(kong))
                return await does(kong)

        else:

            def access(self, kong):
                given.append(weakref.ref(kong))
                return does(kong)

    path = serve(Plugin)
    instance = connect_whole(path).start("probe")
    gc.collect()
    gc.disable()
    try:
        for _ in range(2):
            connect_whole(path).event(instance, "access", {"kong.request.get_header": "example.test"})
        wait_for(lambda: [reference() for reference in given] == [None, None])
    finally:
        gc.enable()


@pytest.mark.parametrize("phase", ["rewrite", "access", "response", "preread", "certificate"])
def test_a_phase_without_handler_is_a_failure(serve, connect_whole, phase, caplog):
    """Kong sends it where the class has lost a phase since Kong asked: the request must not pass."""

    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            pass

    path = serve(Plugin)
    for _ in range(2):
        kong = connect_whole(path)
        assert not kong.event(kong.start("probe"), phase)
        method = "kong.response.exit" if phase in ("preread", "certificate") else "kong.response.error"
        assert [(name, args[0]) for name, args in kong.made] == [(method, 500)]
    assert caplog.text.count("has no method") == 1
    assert f"Kong sends {phase}" in caplog.text


def test_a_log_without_handler_ends(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            pass

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "log")
    assert kong.made == []
    assert "Kong sends log" in caplog.text


@pytest.mark.parametrize("phase", ["rewrite", "access", "response"])
def test_an_exception_is_answered_with_500_and_the_next_request_is_fine(serve, connect, phase, caplog):
    class Plugin:
        def __init__(self, config):
            self.calls = 0

        def rewrite(self, kong):
            self.calls += 1
            if self.calls == 1:
                raise ValueError("broken on purpose")
            kong.log.info("fine")

        access = response = rewrite

    path = serve(Plugin)
    kong = connect(path)
    instance = kong.start("probe")
    answers = {"kong.request.get_header": "*/*", "kong.nginx.get_var": "0123456789abcdef0123456789abcdef"}
    assert not kong.event(instance, phase, answers)
    method, args = kong.made[-1]
    if kong.name == "MsgPack:1":
        assert (method, args) == ("kong.response.error", [500])
    else:
        assert method == "kong.response.exit"
        assert args[0] == 500
        assert json.loads(args[1]) == {
            "message": "An unexpected error occurred",
            "request_id": "0123456789abcdef0123456789abcdef",
        }
        assert args[2] == {"content-type": "application/json; charset=utf-8"}
    assert "ValueError: broken on purpose" in caplog.text
    assert "test_events.py" in caplog.text
    again = connect(path)
    assert again.event(again.start("probe"), phase)
    assert again.made == [("kong.log.info", ["fine"])]


@pytest.mark.parametrize(
    ("accept", "content_type", "id_part"),
    [
        (None, "application/json; charset=utf-8", '"request_id":"abc"'),
        ("text/html", "text/html; charset=utf-8", "request_id: abc</p>"),
        ("text/html;q=0.1, application/xml", "application/xml; charset=utf-8", "<requestid>abc</requestid>"),
        ("text/plain", "text/plain; charset=utf-8", "request_id: abc"),
        ("image/png", "application/json; charset=utf-8", '"request_id":"abc"'),
    ],
)
@pytest.mark.parametrize("request_id", ["abc", None])
def test_the_500_has_the_form_that_the_client_accepts(serve, accept, content_type, id_part, request_id):
    """Where Kong cannot be asked for its page, over a stock ProtoBuf:1; an older Kong has no id of the request."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            raise ValueError("broken on purpose")

    kong = ProtobufKong(serve(Plugin))
    answers = {"kong.request.get_header": accept, "kong.nginx.get_var": request_id}
    assert not kong.event(kong.start("probe"), "access", answers)
    _, (status, body, headers) = kong.made[-1]
    assert (status, headers) == (500, {"content-type": content_type})
    assert b"An unexpected error occurred" in body
    assert (id_part.encode() in body) is (request_id is not None)
    assert (b"request" in body) is (request_id is not None)
    kong.close()


def test_an_exception_in_log_lets_nothing_out(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            raise ValueError("broken on purpose")

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "log")
    assert kong.made == []
    assert "broken on purpose" in caplog.text


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_no_exception_ends_the_server(serve, connect, error):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            raise error

    path = serve(Plugin)
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access", {})
    assert connect(path).start("probe")


def test_nothing_but_finally_runs_after_exit(serve, connect):
    done: list[Any] = []
    finished = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.response.exit(403, {"message": "no"}, {"x-a": "b"})
                done.append("after exit")
            except Exception:
                done.append("except")
            finally:
                done.append("finally")
                try:
                    kong.log.info("too late")
                finally:
                    finished.set()

    kong = connect(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access")
    assert finished.wait(DEADLINE)
    assert done == ["finally"]
    assert [method for method, _ in kong.made] == ["kong.response.exit"]


@pytest.mark.parametrize("afterwards", ["pass", "raise ValueError('in finally')"])
def test_an_answer_is_final_whatever_the_handler_does_next(serve, connect, afterwards):
    scope: dict[str, Any] = {}
    exec(
        "class Plugin:\n"
        "    def __init__(self, config): pass\n"
        "    def access(self, kong):\n"
        "        try:\n"
        "            kong.response.exit(403)\n"
        "        except:\n"
        f"            {afterwards}\n",
        scope,
    )
    path = serve(scope["Plugin"])
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access")
    assert [method for method, _ in kong.made] == ["kong.response.exit"]
    kong.socket.shutdown(socket.SHUT_WR) if kong.name == "MsgPack:1" else None
    with pytest.raises(Closed):
        kong.receive()  # nothing more was sent


def test_headers_of_an_exit_without_body_are_kept(serve, connect):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.exit(401, None, {"www-authenticate": "Basic"})

    kong = connect(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access")
    status, body, headers = kong.made[0][1]
    assert (status, headers) == (401, {"www-authenticate": "Basic"})
    assert body in ("", b"")  # over MsgPack:1 a nil would cut off the headers


def test_a_refused_call_unwinds_the_handler_over_protobuf(serve):
    reached: list[str] = []
    unwound = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.request.get_header("x")
                reached.append("after")
            finally:
                unwound.set()

    path = serve(Plugin)
    kong = ProtobufKong(path)
    instance = kong.start("probe")
    assert not kong.event(instance, "access", {"kong.request.get_header": lambda name: REFUSED})
    assert unwound.wait(DEADLINE)
    assert reached == []
    kong.close()


@pytest.mark.parametrize(
    ("phase", "call"),
    [
        ("log", "kong.request.get_method"),
        ("rewrite", "kong.client.get_consumer"),
        ("access", "kong.response.get_status"),
    ],
)
def test_a_call_in_a_wrong_phase_never_leaves_the_server(serve, connect, phase, call):
    caught: list[PhaseError] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            target = kong
            for name in call.split(".")[1:]:
                target = getattr(target, name)
            try:
                target()
            except PhaseError as error:
                caught.append(error)

        rewrite = log = access

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), phase)
    assert kong.made == []
    assert call in str(caught[0]) and phase in str(caught[0])
    assert isinstance(caught[0], PDKError)
    assert caught[0].phases and phase not in caught[0].phases


@pytest.mark.parametrize(("subsystem", "made"), [("http", []), ("stream", ["kong.client.get_protocol"])])
def test_log_of_a_stream_is_told_from_log_of_a_request(serve, connect, subsystem, made):
    class Plugin:
        def __init__(self, config):
            pass

        def log(self, kong):
            with contextlib.suppress(PhaseError):
                kong.client.get_protocol()

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "log", {"kong.nginx.get_subsystem": subsystem})
    assert [method for method, _ in kong.made] == ["kong.nginx.get_subsystem", *made]


def test_python_style_gives_values(serve, connect):
    seen: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            seen.append(kong.request.get_method())

    kong = connect(serve(Plugin, lua_style=False))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_method": "GET"})
    assert seen == ["GET"]


def test_a_call_after_the_event_is_refused(serve, connect):
    kept: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kept.append(kong)

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    with pytest.raises(PDKError, match="after the handler"):
        kept[0].log.info("late")
    assert kong.made == []


def test_a_call_of_a_thread_that_the_handler_left_behind_is_answered_first(serve, connect):
    """Its answer must not be taken for something else on the connection."""
    calling, returning = threading.Event(), threading.Event()
    values: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            threading.Thread(target=lambda: values.append(kong.request.get_header("x"))).start()
            assert calling.wait(DEADLINE)
            returning.set()

    def answer(name: str) -> str:
        calling.set()
        assert returning.wait(DEADLINE)
        return "y"

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    if kong.name == "MsgPack:1":
        calling.set()  # Kong sees the call when it answers the event
    for number in range(3):
        assert kong.event(instance, "access", {"kong.request.get_header": answer})
        assert values == [("y", None)] * (number + 1)


def test_an_event_that_is_no_phase_runs_no_method(serve, connect):
    class Plugin:
        def __init__(self, config):
            pass

        def configure(self, kong):
            kong.log.info("ran")

    kong = connect(serve(Plugin))
    assert not kong.event(kong.start("probe"), "configure")
    assert ("kong.log.info", ["ran"]) not in kong.made


def test_an_argument_that_cannot_be_sent_is_a_typeerror_in_the_handler(serve, connect):
    caught: list[Exception] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.response.set_header("x", object())
            except TypeError as error:
                caught.append(error)

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")
    assert "kong.response.set_header" in str(caught[0])
    assert kong.made == []


def test_a_method_outside_the_interface_file_names_itself_and_the_hint(serve, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.request.get_start_time()

    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {})
    assert "kong.request.get_start_time" in caplog.text
    assert "KONG_PYTHON_PROTOCOL=msgpack" in caplog.text
    kong.close()


@pytest.mark.parametrize(
    ("name", "words"),
    [("get_metod", "did you mean kong.request.get_method"), ("xyzzy", "KONG_PYTHON_PROTOCOL=msgpack")],
)
def test_a_function_that_kong_does_not_have_is_named(serve, caplog, name, words):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            getattr(kong.request, name)()

    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {})
    assert f"Kong 3.9 has no function kong.request.{name}" in caplog.text
    assert words in caplog.text
    kong.close()


def test_slow_handlers_run_at_the_same_time(serve, connect):
    together = threading.Barrier(8)

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            together.wait(DEADLINE)  # passes only when all eight are here

    path = serve(Plugin)
    kongs = [connect(path) for _ in range(8)]
    instance = kongs[0].start("probe")
    results: list[bool] = []
    threads = [threading.Thread(target=lambda k=k: results.append(k.event(instance, "access"))) for k in kongs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == [True] * 8


def test_an_unknown_instance_makes_kong_start_it_anew(serve, connect):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.log.info("ran")

    path = serve(Plugin)
    kong = connect(path)
    instance = of_an_earlier_server = connect(serve(Plugin)).start("probe")
    with pytest.raises((Closed, RpcError), match=r"no plugin instance|^$"):
        kong.event(of_an_earlier_server, "access")
    again = connect(path)
    assert again.start("probe") == instance
    assert again.event(instance, "access")


def test_an_init_that_raises_fails_the_start(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            raise RuntimeError("cannot start")

    kong = connect(serve(Plugin))
    with pytest.raises((Closed, RpcError)):
        kong.start("probe")
    assert "RuntimeError: cannot start" in caplog.text


def test_a_plugin_may_put_anything_into_its_configuration(serve, connect):
    class Plugin:
        def __init__(self, config):
            config["compiled"] = object()

        def access(self, kong):
            pass

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe", {"a": 1}), "access")


class Unspeakable(Exception):
    def __str__(self):
        raise RuntimeError("no words")


@pytest.mark.parametrize("where", ["init", "access"])
def test_an_exception_that_has_no_text_is_logged_all_the_same(serve, connect, caplog, where):
    class Plugin:
        def __init__(self, config):
            if where == "init":
                raise Unspeakable

        def access(self, kong):
            raise Unspeakable

    kong = connect(serve(Plugin))
    if where == "init":
        with pytest.raises((Closed, RpcError), match=r"Unspeakable|^$"):
            kong.start("probe")
    else:
        assert not kong.event(kong.start("probe"), "access", {})
    assert "raised Unspeakable: (its __str__ raises RuntimeError)" in caplog.text


def test_verbose_names_each_call_and_event(serve, connect, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.request.get_method()

    caplog.set_level(logging.DEBUG)
    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_method": "GET"})
    assert any("kong.request.get_method in access" in message and "ms" in message for message in caplog.messages)


# --- ProtoBuf:1, where a handler does not wait for calls without a result


class Asked(ProtobufKong):
    """Reads call by call, and answers when it is told to."""

    instance = 0

    def next_call(self) -> tuple[str, list[Any]]:
        said = self.next()
        assert isinstance(said, PdkCall), said
        method = self.interface.method(said.method)
        return method.function, decode_arguments(method, said.arguments)

    def is_silent(self) -> bool:
        """Whether the server has said nothing more, after time enough to say it."""
        self.socket.settimeout(0.05)
        try:
            data = self.socket.recv(65536)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(DEADLINE)
        self.side.feed(data)
        return not data


def line_of(method: Any, text: str) -> int:
    """The line of a handler that contains a text."""
    lines, first = inspect.getsourcelines(method)
    return first + next(number for number, line in enumerate(lines) if text in line)


@pytest.fixture
def asked(serve):
    """Start an event of ``access`` of a class, on a connection whose calls a test answers one by one."""
    opened: list[Asked] = []

    def start(cls: type, phase: str = "access") -> Asked:
        kong = Asked(serve(cls), serve.interface)
        opened.append(kong)
        kong.instance = kong.start("probe")
        kong.send(calls.HandleEvent(kong.instance, phase))
        return kong

    yield start
    for kong in opened:
        kong.close()


def test_a_call_without_a_result_is_sent_with_the_end(asked):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_header("x-a", "b")
            kong.response.set_header("x-a", "c")

    kong = asked(Plugin)
    assert kong.next_call() == ("kong.service.request.set_header", ["x-a", "b"])
    assert kong.next_call() == ("kong.response.set_header", ["x-a", "c"])  # and no answer yet
    for _ in range(2):
        kong.reply(b"")
    assert kong.answer() is None
    kong.send(calls.HandleEvent(kong.instance, "access"))  # the replies are not taken for a call
    assert kong.next_call() == ("kong.service.request.set_header", ["x-a", "b"])


def test_the_replies_may_come_together_with_the_next_event(asked):
    """And in any pieces."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_header("x-a", "b")

    kong = asked(Plugin)
    for cut in range(0, 24, 3):
        assert kong.next_call() == ("kong.response.set_header", ["x-a", "b"])
        assert kong.answer() is None
        event = kong.side.call(kong.next_number(), calls.HandleEvent(kong.instance, "access"))
        together = kong.side.reply(b"") + event
        kong.socket.sendall(together[:cut])
        kong.socket.sendall(together[cut:])
    assert kong.next_call() == ("kong.response.set_header", ["x-a", "b"])


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (("response.set_header", "x-a", "b"), ("request.get_header", "x-a")),
        (("response.clear_header", "x-a"), ("request.get_method",)),
        (("service.request.set_header", "x-a", "b"), ("request.get_header", "x-a")),
        (("service.request.set_path", "/other"), ("request.get_path",)),
        (("ctx.shared.set", "k", "v"), ("ctx.shared.get", "k")),
        (("service.set_target", "host", 80), ("request.get_method",)),
        (("log.info", "a"), ("request.get_method",)),
        (("response.set_header", "x-a", "b"), ("nginx.get_var", "sent_http_x_a")),
        (("client.authenticate", {"id": "1"}, {"id": "2"}), ("client.get_consumer",)),
    ],
    ids=lambda call: call[0],
)
def test_the_order_of_the_calls_is_that_of_the_handler(asked, first, then):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_status(200)
            call(kong, *first)
            call(kong, *then)

    def call(kong, name, *args):
        for part in name.split("."):
            kong = getattr(kong, part)
        kong(*args)

    kong = asked(Plugin)
    made = [kong.next_call()[0] for _ in range(3)]
    assert made == ["kong.response.set_status", f"kong.{first[0]}", f"kong.{then[0]}"]


@pytest.mark.parametrize("phase", ["response", "log"])
def test_a_header_of_the_response_is_read_after_it_was_set(asked, phase):
    class Plugin:
        def __init__(self, config):
            pass

        def response(self, kong):
            kong.response.set_header("x-a", "b")
            kong.response.get_header("x-a")

        def log(self, kong):
            kong.ctx.shared.set("k", "v")
            kong.ctx.shared.get("k")

    kong = asked(Plugin, phase)
    made = [kong.next_call()[0] for _ in range(2)]
    names = (
        ["response.set_header", "response.get_header"] if phase == "response" else ["ctx.shared.set", "ctx.shared.get"]
    )
    assert made == [f"kong.{name}" for name in names]


def test_an_exit_comes_after_the_calls_before_it(asked):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_header("x-a", "b")
            kong.log.info("a")
            kong.response.exit(403)

    kong = asked(Plugin)
    made = [kong.next_call()[0] for _ in range(3)]
    assert made == ["kong.response.set_header", "kong.log.info", "kong.response.exit"]


@pytest.mark.parametrize("level", ["alert", "crit", "err", "warn", "notice", "info", "debug"])
def test_a_line_of_the_log_is_sent_at_once(asked, level):
    """With the calls before it, and the handler goes on before Kong has answered."""
    go_on, went_on = threading.Event(), threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_header("x-a", "b")
            getattr(kong.log, level)("now")
            went_on.set()
            go_on.wait(DEADLINE)
            kong.response.set_header("x-c", "d")

    kong = asked(Plugin)
    try:
        assert kong.next_call() == ("kong.response.set_header", ["x-a", "b"])
        assert kong.next_call() == (f"kong.log.{level}", ["now"])
        assert went_on.wait(DEADLINE)
        assert kong.is_silent()
    finally:
        go_on.set()
    assert kong.next_call() == ("kong.response.set_header", ["x-c", "d"])
    for _ in range(3):
        kong.reply(b"")
    assert kong.answer() is None


def test_a_call_that_kong_refuses_shows_at_a_later_one(serve, caplog):
    reached: list[str] = []
    unwound = threading.Event()

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                kong.service.request.set_header("x-a", "b")
                kong.service.request.set_path("no path")  # refused
                kong.service.request.set_method("GET")
                reached.append("the calls without a result")
                kong.request.get_path()
                reached.append("after")
            except Exception:
                reached.append("except")
            finally:
                unwound.set()

    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {"kong.service.request.set_path": REFUSED})
    assert unwound.wait(DEADLINE)
    kong.close()
    wait_for(lambda: caplog.records)
    assert reached == ["the calls without a result"]
    line = line_of(Plugin.access, "# refused")
    assert [record.getMessage() for record in caplog.records] == [
        "probe: Kong refused kong.service.request.set_path in access (its log says why), or has ended "
        f"({__file__}:{line})"
    ]


def test_a_call_that_kong_refuses_after_the_end_is_logged(serve, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_header("x-a", "b")
            kong.service.request.set_path("no path")  # refused
            kong.service.request.set_method("GET")

    path = serve(Plugin)
    kong = ProtobufKong(path)
    instance = kong.start("probe")
    assert not kong.event(instance, "access", {"kong.service.request.set_path": REFUSED})
    kong.close()
    line = line_of(Plugin.access, "# refused")
    wait_for(lambda: caplog.records)
    assert [record.getMessage() for record in caplog.records] == [
        "probe: Kong refused kong.service.request.set_path in access (its log says why), or has ended "
        f"({__file__}:{line})"
    ]
    again = ProtobufKong(path)
    assert again.event(instance, "access")
    again.close()


def test_a_kong_that_leaves_after_the_replies_has_refused_nothing(serve, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_header("x-a", "b")

    path = serve(Plugin)
    kong = ProtobufKong(path)
    assert kong.event(kong.start("probe"), "access")
    kong.close()
    assert serve.stop(path)
    assert not caplog.records


def test_a_refused_call_is_named_with_its_line_where_it_is_watched(serve, caplog):
    """Debug lines and counters make calls another way."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_header("x-a", "b")
            kong.service.request.set_path("no path")  # refused
            kong.request.get_path()

    caplog.set_level(logging.DEBUG)
    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {"kong.service.request.set_path": REFUSED})
    kong.close()
    place = f"({__file__}:{line_of(Plugin.access, '# refused')})"
    wait_for(
        lambda: any("Kong refused kong.service.request.set_path" in text and place in text for text in caplog.messages)
    )


def test_the_refusal_of_a_call_of_a_special_function_is_named(serve, caplog):
    """``set_body`` makes other calls, which the author does not see."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_raw_body(b"x")  # refused
            kong.service.request.set_body({"a": None}, "application/json")

    serve.interface = EXTENDED
    kong = ExtendedKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {"kong.service.request.set_raw_body": REFUSED})
    kong.close()
    place = f"({__file__}:{line_of(Plugin.access, '# refused')})"
    wait_for(
        lambda: any(
            "Kong refused kong.service.request.set_raw_body" in text and place in text for text in caplog.messages
        )
    )


def test_an_exception_after_calls_without_a_result_is_answered_behind_them(serve):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_header("x-a", "b")
            raise ValueError("broken on purpose")

    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {})
    assert kong.made[0] == ("kong.service.request.set_header", ["x-a", "b"])
    assert kong.made[-1][0] == "kong.response.exit" and kong.made[-1][1][0] == 500
    kong.close()


def test_so_many_calls_have_no_reply_at_most(asked):
    done: list[int] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            for number in range(3 * MOST_UNANSWERED):
                kong.service.request.set_header("x-a", str(number))
                done.append(number)

    kong = asked(Plugin)
    for number in range(MOST_UNANSWERED):
        assert kong.next_call() == ("kong.service.request.set_header", ["x-a", str(number)])
    assert kong.is_silent()
    assert len(done) == MOST_UNANSWERED - 1  # the last one waits for the replies
    for _ in range(MOST_UNANSWERED):
        kong.reply(b"")
    for number in range(MOST_UNANSWERED, 3 * MOST_UNANSWERED):
        assert kong.next_call() == ("kong.service.request.set_header", ["x-a", str(number)])
        kong.reply(b"")
    assert kong.answer() is None
    assert len(done) == 3 * MOST_UNANSWERED


def test_so_many_lines_of_the_log_have_no_reply_at_most(asked):
    """They are sent at once, and count as long as there is no reply."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            for number in range(2 * MOST_UNANSWERED):
                kong.log.err(str(number))

    kong = asked(Plugin)
    for number in range(MOST_UNANSWERED):
        assert kong.next_call() == ("kong.log.err", [str(number)])
    assert kong.is_silent()
    for _ in range(MOST_UNANSWERED):
        kong.reply(b"")
    for number in range(MOST_UNANSWERED, 2 * MOST_UNANSWERED):
        assert kong.next_call() == ("kong.log.err", [str(number)])
        kong.reply(b"")
    assert kong.answer() is None


def test_long_calls_do_not_wait_for_others(asked):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.service.request.set_raw_body(b"x" * MOST_UNSENT)
            kong.service.request.set_method("GET")

    kong = asked(Plugin)
    assert kong.next_call() == ("kong.service.request.set_raw_body", [b"x" * MOST_UNSENT])
    assert kong.is_silent()
    kong.reply(b"")
    assert kong.next_call() == ("kong.service.request.set_method", ["GET"])
    kong.reply(b"")
    assert kong.answer() is None


def test_long_calls_and_their_replies_do_not_block_each_other(serve):
    """Neither side reads while it sends more than the sockets hold."""

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            for _ in range(5):
                kong.service.request.set_raw_body(b"x" * 1_000_000)
                kong.request.get_header("x")

    kong = ProtobufKong(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": "y" * 1_000_000})
    assert [len(args[0]) for name, args in kong.made if name.endswith("set_raw_body")] == [1_000_000] * 5
    kong.close()
