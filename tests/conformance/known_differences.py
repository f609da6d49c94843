"""Where we are not as recorded, each with its reason: cases, calls of our plugin server, and values of its handlers.

A rule describes the contents of a case, not its number, so that it holds for other recordings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from conformance.frames import NOTHING, PdkCall
from conformance.recordings import STREAM, Case, recorded_methods
from conformance.values import arguments_of
from kong_pdk.wire.pdk_values.protobuf_results import decode_result

SERVER, GATEWAY = "server", "gateway"
MOST = 0.02
"""The largest part of all cases that may differ, in each direction."""

PROPERTY = "conformance"
"""The property of a test by which conftest.py counts the cases."""

BODY_BUFFER = 8192
"""Bytes of a request's body that nginx keeps in memory by default; Kong reads no larger one into a string."""

_QUERY_ARG = "kong.request.get_query_arg"
_RAW_BODY = "kong.request.get_raw_body"
_HEADER_SETTER = r"kong\.(response|service\.request)\.(set|add)_header"


@dataclass(frozen=True)
class Rule:
    """A rule: its direction, its cases, its reason, and a pattern of the difference."""

    direction: str
    reason: str
    applies: Callable[[Case], bool]
    difference: str


def _orders(case: Case, functions: str) -> Iterator[list[Any]]:
    """The arguments of the calls of the functions that match a pattern."""
    made = (order for orders in case.orders.values() for order in orders)
    return (args for method, args in made if re.fullmatch(functions, method.replace("/", ".")))


def _loses_headers(case: Case) -> bool:
    exits = _orders(case, r"kong\.response\.(exit|error)")
    return case.protocol == "MsgPack:1" and any(len(args) == 3 and args[1] is None for args in exits)


def _has_no_name(case: Case) -> bool:
    stock = case.protocol == "ProtoBuf:1" and not case.recording.extended
    return stock and any(args in ([], [None]) for args in _orders(case, r"kong\.request\.get_header"))


RULES = (
    Rule(
        SERVER,
        "a nil body costs Kong the headers behind it (MsgPack:1), so ours sends an empty string",
        _loses_headers,
        r"kong\.response\.\w+\(\d+, '', .* was called, kong\.response\.\w+\(\d+, None, .* was recorded",
    ),
    Rule(
        SERVER,
        "get_header without a name is an error in Python, and does not ask Kong for the header '' (ProtoBuf:1, stock)",
        _has_no_name,
        r"the handler ended, kong\.request\.get_header\('',\) was recorded",
    ),
    Rule(
        SERVER,
        "a header without a value is an error in Python that names the line, and no 500 of Kong's",
        lambda case: any(args[1:] in ([], [None]) for args in _orders(case, _HEADER_SETTER)),
        r"_header: argument 2, the value, is None|the handler ended, kong\.[\w.]+_header\('[^']*',\) was recorded",
    ),
)


def rule_for(direction: str, case: Case) -> Rule | None:
    """Find the rule of a case; None for a case that must agree."""
    return next((rule for rule in RULES if rule.direction == direction and rule.applies(case)), None)


def judge(case: Case, direction: str, mode: str, run: Callable[[], None], request: pytest.FixtureRequest) -> None:
    """Run a case. It must agree with the recording, or differ as its rule says.

    :param run: raises an AssertionError where something differs.
    """
    rule = rule_for(direction, case)
    request.node.user_properties.append((PROPERTY, [direction, mode, case.name, rule.reason if rule else ""]))
    if rule is None:
        run()
        return
    with pytest.raises(AssertionError, match=rule.difference):
        run()


@dataclass(frozen=True)
class OtherCall:
    """Kong's answer to another call, and whether the call replaces the recorded one or is an additional one."""

    answer: Any
    instead: bool = False


def other_call(
    case: Case, phase: str, call: tuple[str, list[Any]], recorded: PdkCall | None, last: PdkCall | None
) -> OtherCall | None:
    """Give Kong's answer to a call that was not recorded, where our server may make it.

    :param call: the function and its arguments; recorded: the recorded call in its place; last: the one before.
    """
    function, args = call
    wanted = recorded.function if recorded else None
    if function == "kong.nginx.get_subsystem" and phase == "log":
        # Whether Kong refuses some calls in log depends on the kind of request.
        return OtherCall("stream" if case.kind == STREAM else "http")
    if phase == "log" and last and function == last.method + "s" and last.answer == b"":
        # The stock message cannot tell an empty header from an absent one.
        return OtherCall(_headers(case, function))
    if recorded and wanted == _QUERY_ARG and case.protocol == "ProtoBuf:1":
        # Over the stock messages a client could make Kong raise by an argument without a value.
        values = _query(case, recorded)
        if function == "kong.request.get_query":
            return OtherCall(values, instead=True)
        return OtherCall(True, instead=True) if recorded.refused and args and values.get(args[0]) is True else None
    if wanted == _RAW_BODY and function == "kong.request.get_body" and case.protocol == "MsgPack:1":
        # Kong raises on a body that is in a file, and then never answers: this call asks first.
        return OtherCall(NOTHING, instead=True) if len(case.body) > BODY_BUFFER else OtherCall({})
    return None


def other_result(case: Case, phase: str, args: list[Any], call: PdkCall, noted: Any) -> tuple[Any, str | None] | None:
    """Give the handler's result where it differs from the recorded one: a value, or None and a part of the error.

    :param noted: the recorded value.
    :return: None where it gets the same.
    """
    function = call.function
    if function == _QUERY_ARG and case.protocol == "ProtoBuf:1" and noted is None and args:
        found = _query(case, call).get(args[0])
        found = found[0] if isinstance(found, list) else found
        return (found, None) if found is True or not call.refused else None
    if function == _RAW_BODY and case.protocol == "MsgPack:1" and len(case.body) > BODY_BUFFER:
        return None, "larger than"
    if function == "kong.service.set_upstream" and not noted and not call.refused:
        return None, "has no upstream"
    is_nil = noted is None or (isinstance(noted, dict) and "$message" in noted and noted.get("fields") is None)
    if function == "kong.service.request.set_body" and is_nil and not call.refused:
        return None, "no Content-Type"
    if function.endswith(".get_header") and call.answer == b"" and call.method == function and args:
        empty = _headers(case, f"{function}s").get(str(args[0]).lower()) == ""
        return ("", None) if empty and (case.recording.extended or phase == "log") else None
    return None


def _query(case: Case, recorded: PdkCall) -> dict[str, Any]:
    """Give the query arguments as a Lua table, or one argument, as Kong gave them."""
    found: dict[str, list[Any]] = {}
    for part in case.recorded["request"]["path"].partition("?")[2].replace("+", " ").split("&"):
        name, given, text = (unquote_to_bytes(each).decode("utf-8", "surrogateescape") for each in part.partition("="))
        if name:
            found.setdefault(name, []).append(text if given else True)
    values = _lua_table(found)
    method = recorded_methods()[recorded.method]
    if isinstance(recorded.answer, bytes) and (value := decode_result(method, recorded.answer)):
        values[arguments_of(recorded)[0]] = value
    return values


def _headers(case: Case, function: str) -> dict[str, Any]:
    """Give the headers that a function returns, as a Lua table."""
    message = case.recorded["request" if function.startswith("kong.request.") else "response"]
    found: dict[str, list[str]] = {}
    for name, text in message["headers"]:
        found.setdefault(name.lower(), []).append(text)
    return _lua_table(found)


def _lua_table(found: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}
