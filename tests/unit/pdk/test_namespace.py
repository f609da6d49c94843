"""Calls of PDK methods: from the method's name and arguments to the call on the wire."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from kong_pdk.pdk.kong import kong

Made = list[tuple[str, list[object]]]


@pytest.fixture
def made() -> Made:
    return []


@pytest.fixture
def pdk(made) -> Any:
    def call(method: str, args: Any) -> tuple[str, None]:
        made.append((method, list(args)))
        return f"value {len(made)}", None

    return kong(call, "kong")


def test_the_result_is_that_of_the_call(pdk):
    assert pdk.request.get_header("host") == ("value 1", None)


@pytest.mark.parametrize("args", [(), ("a",), (None,), ("a", None), (b"\xff", [1, {}], None, 5)])
def test_arguments_by_position_are_checked_by_kong(pdk, made, args):
    pdk.request.get_header(*args)
    assert made == [("kong.request.get_header", list(args))]


@pytest.mark.parametrize(
    ("args", "named", "sent"),
    [
        ((403,), {"headers": {"a": "b"}}, [403, None, {"a": "b"}]),
        ((), {"status": 403, "body": "no"}, [403, "no"]),
        ((403,), {"body": None}, [403]),
        ((), {"body": "no", "status": 200, "headers": None}, [200, "no"]),
    ],
)
def test_arguments_by_name_are_put_where_kong_expects_them(pdk, made, args, named, sent):
    pdk.response.exit(*args, **named)
    assert made == [("kong.response.exit", sent)]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({"nam": "a"}, "kong.request.get_header: missing a required argument: 'name'"),
        ({"name": "a", "second": "b"}, "kong.request.get_header: got an unexpected keyword argument 'second'"),
    ],
)
def test_a_wrong_name_is_an_error_of_the_function_and_nothing_is_sent(pdk, made, named, message):
    with pytest.raises(TypeError) as raised:
        pdk.request.get_header(**named)
    assert str(raised.value) == message
    assert made == []


def test_a_part_that_can_be_called_has_its_own_functions(pdk, made):
    pdk.log("a", None)
    pdk.log.inspect({"a": 1})
    pdk.log.inspect.off()
    assert made == [("kong.log", ["a", None]), ("kong.log.inspect", [{"a": 1}]), ("kong.log.inspect.off", [])]


@pytest.mark.parametrize(
    ("path", "args"), [("request", []), ("nosuch.function", [1]), ("request.of_a_newer_kong", ["a"]), ("a.b.c.d", [])]
)
def test_an_unknown_name_may_be_known_to_kong(pdk, made, path, args):
    part = pdk
    for name in path.split("."):
        part = getattr(part, name)
    part(*args)
    assert made == [(f"kong.{path}", args)]


def test_a_part_is_made_once(pdk):
    assert vars(pdk).keys() == {"_call", "_path"}
    assert pdk.service.request is pdk.service.request
    assert vars(pdk).keys() == {"_call", "_path", "service"}


def test_events_do_not_share_parts(pdk):
    other = kong(lambda method, args: ("other", None), "kong")
    assert other.request.get_method() == ("other", None)
    assert pdk.request.get_method() == ("value 1", None)


def test_the_repr_of_a_part(pdk):
    assert repr(pdk) == "<kong>"
    assert repr(pdk.client.tls) == "<kong.client.tls>"
    assert repr(pdk.request.nosuch) == "<kong.request.nosuch>"
    assert {"get_header", "get_raw_body"} <= set(dir(pdk.request))
    assert {"client", "vault"} <= set(dir(pdk))
    assert "Give a header of the request." in pdk.request.get_header.__doc__


def test_pythons_own_protocols_make_no_calls(pdk, made):
    assert not hasattr(pdk, "__len__")
    assert not hasattr(pdk.request, "_private")
    assert copy.copy(pdk.request).get_path() == ("value 1", None)
    assert made == [("kong.request.get_path", [])]


def test_shared_values_are_not_attributes(pdk, made):
    """As in Lua, the attributes would always be true, and values set on them would be lost."""
    with pytest.raises(AttributeError, match=r"call kong\.ctx\.shared\.get\('user'\)"):
        assert pdk.ctx.shared.user
    with pytest.raises(AttributeError, match=r"call kong\.ctx\.shared\.set\('user', value\)"):
        pdk.ctx.shared.user = "alice"
    assert not hasattr(pdk.ctx.shared, "user")
    assert made == []
    pdk.ctx.shared.set("user", "alice")
    assert made == [("kong.ctx.shared.set", ["user", "alice"])]
