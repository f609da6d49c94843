"""Functions that no plugin server has: a Python error with a hint, over both protocols."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from kong_pdk import PDKError, UnknownFunctionError
from kong_pdk.pdk.kong import absent
from kong_pdk.server.pdk_hints import why_unknown
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.pdk_functions import functions

FUNCTIONS = frozenset(functions()) | {method.function for method in EXTENDED}
USES: dict[str, Callable[[Any], object]] = {
    "kong.cache": lambda kong: kong.cache.get("key", None, lambda: 1),
    "kong.db": lambda kong: kong.db.consumers.select_by_username("bob"),
    "kong.dao": lambda kong: bool(kong.dao),
    "kong.configuration": lambda kong: kong.configuration.prefix,
    "kong.version": lambda kong: f"{kong.version}",
    "kong.worker_events": lambda kong: kong.worker_events.post("a", "b"),
    "kong.default_workspace": lambda kong: kong.default_workspace,
    "kong.timer": lambda kong: kong.timer.at(0, print),
    "kong.kong": lambda kong: kong.kong.request.get_header("host"),
    "kong.ctx.plugin": lambda kong: kong.ctx.plugin.set("a", 1),
    "kong.log.error": lambda kong: kong.log.error("x"),
    "kong.log.warning": lambda kong: kong.log.warning("x"),
    "kong.response.set_body": lambda kong: kong.response.set_body("x"),
    "kong.response.set_raw_body": lambda kong: kong.response.set_raw_body("x"),
    "kong.request.set_header": lambda kong: kong.request.set_header("a", "b"),
    "kong.request.clear_query_arg": lambda kong: kong.request.clear_query_arg("a"),
    "kong.service.response.set_header": lambda kong: kong.service.response.set_header("a", "b"),
    "kong.service.request.get_header": lambda kong: kong.service.request.get_header("a"),
}
HINTS = {
    "kong.cache": "self",
    "kong.db": "Admin API",
    "kong.configuration": "Plugin.__init__",
    "kong.ctx.plugin": "kong.ctx.shared.set",
    "kong.log.error": "call kong.log.err",
    "kong.log.warning": "call kong.log.warn",
    "kong.response.set_body": "kong.response.exit(status, body, headers)",
    "kong.response.set_raw_body": "kong.service.response.get_raw_body()",
    "kong.request.set_header": "call kong.service.request.set_header",
    "kong.request.clear_query_arg": "call kong.service.request.clear_query_arg",
    "kong.service.response.set_header": "call kong.response.set_header",
    "kong.service.request.get_header": "call kong.request.get_header",
}


@pytest.mark.parametrize("lua_style", [True, False], ids=["lua style", "plain"])
def test_each_is_an_error_where_it_is_written(serve, connect_any, lua_style):
    raised: dict[str, str] = {}

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            for name, use in USES.items():
                with pytest.raises(UnknownFunctionError) as error:
                    use(kong)
                raised[name] = str(error.value)
                assert isinstance(error.value, PDKError)

    kong = connect_any(serve(Plugin, lua_style=lua_style))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == []
    assert raised.keys() == USES.keys()
    for name, text in raised.items():
        assert text.startswith(f"a plugin server has no {name}; ")
        assert HINTS.get(name, "") in text


def test_the_log_has_the_line_of_the_plugin(serve, connect_any, caplog):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            kong.response.set_body("x")

    kong = connect_any(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access")
    said = "the access handler raised AbsentError: a plugin server has no kong.response.set_body; a response's body is"
    assert said in caplog.text
    assert re.search(r"headers\) \(.*test_absent_functions\.py:\d+\)", caplog.text)


def test_a_plugin_may_ask_whether_there_is_one(serve, connect_any):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            assert not hasattr(kong, "cache")
            assert getattr(kong, "version", "3.x") == "3.x"
            assert hasattr(kong.request, "get_header")

    kong = connect_any(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")


@pytest.mark.parametrize(
    "use", [
        str, "{}".format, "%s".__mod__, bool, int, float, len, list, lambda value: value == "3.9",
        lambda value: value != "3.9", lambda value: value < 3, lambda value: value["a"], lambda value: "a" in value,
        lambda value: value + "a", lambda value: "a" + value, lambda value: {"3.9": 1}[value],
    ],
)  # fmt: skip
def test_a_name_that_a_newer_kong_may_have_is_no_value(serve, connect, use):
    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            with pytest.raises((TypeError, KeyError)) as raised:
                use(kong.node.of_a_newer_kong)
            assert "kong.node.of_a_newer_kong" in str(raised.value)

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access")


def test_no_function_that_kong_has_is_said_to_be_absent():
    assert {name for name in FUNCTIONS if absent.hint(name) is not None} == set()


def test_the_hints_name_functions_that_there_are():
    parts = {name.rpartition(".")[0] for name in FUNCTIONS}
    names = [*USES, *absent._HINTS, *(f"kong.request.set_{name}" for name in ("method", "path", "raw_body", "nothing"))]
    for name in names:
        for named in re.findall(r"kong\.[a-z_.]*[a-z]", str(absent.hint(name))):
            assert named in FUNCTIONS | parts, name


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("kong.response.set_body", "a plugin server has no kong.response.set_body; "),
        ("kong.request.set_nothing", "kong.service.request has add_header, clear_header, "),
        ("kong.get_raw_query", "did you mean kong.request.get_raw_query?"),
        ("kong.request.get_raw_bodi", "did you mean kong.request.get_raw_body?"),
    ],
)
def test_why_a_function_cannot_be_called(function, words):
    assert words in why_unknown(function)


def test_a_function_of_kong_enterprise_is_named(serve, connect_any, caplog):
    got: list[Any] = []

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            try:
                got.append(kong.client.get_consumer_groups())
            except UnknownFunctionError as error:
                got.append(str(error))

    kong = connect_any(serve(Plugin))
    answers = {"kong.client.get_consumer_groups": [{"name": "gold"}]}
    assert kong.event(kong.start("probe"), "access", answers)
    if kong.name == "MsgPack:1":
        assert got == [([{"name": "gold"}], None)]
    else:
        assert "Kong Enterprise" in got[0] and "KONG_PYTHON_PROTOCOL=msgpack" in got[0]
