"""Calls and results in which our plugin server differs from the recorded one on purpose, each with its reason.

The handler must get the same values, or better ones where the recorded values show a known fault of Kong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from conformance.frames import NOTHING, PdkCall
from conformance.messages_of_calls import arguments_of
from conformance.recordings import STREAM, Case, recorded_methods
from kong_pdk.wire.pdk_values.protobuf_results import decode_result

BODY_BUFFER = 8192
"""Bytes of a request's body that nginx keeps in memory by default; Kong reads no larger one into a string."""

_QUERY_ARG = "kong.request.get_query_arg"
_RAW_BODY = "kong.request.get_raw_body"


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
    recorded_function = recorded.function if recorded else None
    if function == "kong.nginx.get_subsystem" and phase == "log":
        # Whether Kong refuses some calls in log depends on the kind of request.
        return OtherCall("stream" if case.kind == STREAM else "http")
    if phase == "log" and last and function == last.method + "s" and last.answer == b"":
        # The stock message cannot tell an empty header from an absent one.
        return OtherCall(_headers(case, function))
    if recorded and recorded_function == _QUERY_ARG and case.protocol == "ProtoBuf:1":
        # Over the stock messages a client could make Kong raise by an argument without a value.
        values = _query(case, recorded)
        if function == "kong.request.get_query":
            return OtherCall(values, instead=True)
        return OtherCall(True, instead=True) if recorded.refused and args and values.get(args[0]) is True else None
    if recorded_function == _RAW_BODY and function == "kong.request.get_body" and case.protocol == "MsgPack:1":
        # Kong raises on a body that is in a file, and then never answers: this call asks first.
        return OtherCall(NOTHING, instead=True) if len(case.body) > BODY_BUFFER else OtherCall({})
    return None


def other_result(case: Case, args: list[Any], call: PdkCall, noted: Any) -> tuple[Any, str | None] | None:
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
    if function == "kong.service.request.set_body" and _is_nil(noted) and not call.refused:
        return None, "no Content-Type"
    if function.endswith(".get_header") and call.answer == b"" and call.method == function and args:
        empty = _headers(case, f"{function}s").get(str(args[0]).lower()) == ""
        in_log = any(call is made for event in case.events if event.phase == "log" for made in event.pdk_calls)
        return ("", None) if empty and (case.recording.extended or in_log) else None
    return None


def _is_nil(noted: Any) -> bool:
    return noted is None or (isinstance(noted, dict) and "$message" in noted and noted.get("fields") is None)


def _query(case: Case, recorded: PdkCall) -> dict[str, Any]:
    """Give the query arguments as a Lua table, or one argument, as Kong gave them."""
    found: dict[str, Any] = {}
    for part in case.recorded["request"]["path"].partition("?")[2].split("&"):
        name, equals, text = part.partition("=")
        if name:
            found.setdefault(_unquoted(name), []).append(_unquoted(text) if equals else True)
    values = {name: items if len(items) > 1 else items[0] for name, items in found.items()}
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
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "surrogateescape")
