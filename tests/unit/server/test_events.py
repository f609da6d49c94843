"""What Kong sees of a handler, over both protocols."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from typing import Any

import pytest
from fake_kong import REFUSED, Closed, ProtobufKong, RpcError
from kong_pdk import PDKError, PhaseError
from waiting import DEADLINE


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
