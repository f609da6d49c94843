"""Where our plugin server asks Kong something else than the recorded one did, each with its reason.

The values that the handler gets must be the same, or better where the recorded ones are Kong's known faults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

from conformance.recordings import NOTHING, STREAM, Case, PdkCall

BODY_BUFFER = 8192
"""Bytes of a request's body that nginx keeps in memory by default; Kong reads no larger one into a string."""

QUERY_ARG = "kong.request.get_query_arg"
_RAW_BODY = "kong.request.get_raw_body"


@dataclass(frozen=True)
class Liberty:
    """What Kong would have answered, and whether the question stands for the recorded call or came before it."""

    answer: Any
    instead: bool = False


def taken(case: Case, phase: str, function: str, args: list[Any], recorded: PdkCall | None) -> Liberty | None:
    """The liberty that our server took with this call, if it may.

    :param recorded: the call that was recorded in this place.
    """
    wanted = recorded.method.replace("/", ".") if recorded else None
    if function == "kong.nginx.get_subsystem" and phase == "log":
        # Whether Kong refuses some calls in log depends on whose log it is.
        return Liberty("stream" if case.kind == STREAM else "http")
    if wanted == QUERY_ARG and function == "kong.request.get_query" and case.protocol == "ProtoBuf:1":
        # Over the stock messages any client could make Kong raise, by an argument without a value.
        return Liberty(query(case), instead=True)
    if wanted == _RAW_BODY and function == "kong.request.get_body" and case.protocol == "MsgPack:1":
        # Kong raises on a body that it has in a file, and then never answers: this is how to ask first.
        return Liberty(NOTHING if len(case.body) > BODY_BUFFER else {})
    if wanted == "kong.request.get_header" and function == "kong.request.get_headers" and phase == "log":
        return Liberty(headers(case))
    return None


def value(case: Case, function: str, args: list[Any]) -> tuple[Any, str | None] | None:
    """What the handler is to get, where the recorded one got something else: a value, or None and a part of the error.

    None where it is to get the same.
    """
    if function == QUERY_ARG and case.protocol == "ProtoBuf:1":
        found = query(case).get(args[0]) if args else None
        return (found[0] if isinstance(found, list) else found), None
    if function == _RAW_BODY and case.protocol == "MsgPack:1" and len(case.body) > BODY_BUFFER:
        return None, "larger than"
    return None


def query(case: Case) -> dict[str, Any]:
    """The arguments of the request, as Lua's table of them."""
    found: dict[str, Any] = {}
    for part in case.request["path"].partition("?")[2].split("&"):
        name, given, text = part.partition("=")
        if name:
            found.setdefault(_unquoted(name), []).append(_unquoted(text) if given else True)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def headers(case: Case) -> dict[str, Any]:
    """The headers of the request, as Lua's table of them."""
    found: dict[str, list[str]] = {}
    for name, text in case.request["headers"]:
        found.setdefault(name.lower(), []).append(text)
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _unquoted(text: str) -> str:
    return unquote_to_bytes(text.replace("+", " ")).decode("utf-8", "surrogateescape")
