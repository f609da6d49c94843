"""What authors get from PDK calls: one shape for each function, whichever protocol brought it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from kong_pdk.wire.pdk import Method, RawBody

_MULTI_MAPS = frozenset(
    {
        "kong.request.get_headers",
        "kong.request.get_query",
        "kong.response.get_headers",
        "kong.service.response.get_headers",
    }
)
_BODIES = frozenset(
    {
        "kong.request.get_raw_body",
        "kong.response.get_raw_body",
        "kong.service.response.get_raw_body",
    }
)
# Over ProtoBuf:1 these give the empty value for Lua's nil, which is what it nearly always stands for.
_NIL_WHEN_EMPTY = frozenset(
    {
        "kong.client.get_protocol",
        "kong.nginx.get_tls1_version_str",
        "kong.nginx.get_var",
        "kong.nginx.set_ctx",
        "kong.request.get_header",
        "kong.response.get_header",
        "kong.service.response.get_header",
        "kong.service.response.get_status",
        "kong.service.set_upstream",
    }
)


def from_msgpack(method: str, value: Any) -> tuple[Any, str | None]:
    """Give value and error of a call, from what a step brought."""
    if method in _MULTI_MAPS:
        return _multi_map(value), None
    if method in _BODIES:
        return _body(value), None
    if method == "kong.request.get_uri_captures":
        return _captures(value), None
    return value, None


def from_protobuf(method: Method, value: Any) -> tuple[Any, str | None]:
    """Give value and error of a call, from what its result message held."""
    if isinstance(value, RawBody):
        return _raw_body(value)
    function = method.function
    if function in _MULTI_MAPS:
        return _multi_map(value), None
    if function in _NIL_WHEN_EMPTY and not value and method.output != "Value":
        return None, None
    if function == "kong.request.get_uri_captures":
        return _captures(value), None
    return value, None


def query_argument(name: object, get_query: Callable[[], Any]) -> Any:
    """Give ``kong.request.get_query_arg``'s value from all arguments.

    Over ProtoBuf:1 Kong raises on an argument without a value, which any client could send.
    """
    values = get_query().get(name)
    return values[0] if values else None


def _multi_map(value: Any) -> dict[str, list[Any]]:
    """Give each name's values as a list, a single one too; an argument without a value is True."""
    if not isinstance(value, dict):  # an empty Lua table arrives as an empty list
        return {}
    return {name: (items or [True]) if isinstance(items, list) else [items] for name, items in value.items()}


def _body(value: Any) -> Any:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _captures(value: Any) -> dict[str, dict[Any, str]]:
    """Give the groups of the route's regular expression, the unnamed ones by number, from 1 as in Lua."""
    if not isinstance(value, dict):
        return {"unnamed": {}, "named": {}}
    unnamed = value.get("unnamed") or {}
    if isinstance(unnamed, list):
        unnamed = dict(enumerate(unnamed, start=1))
    return {"unnamed": {int(number): text for number, text in unnamed.items()}, "named": value.get("named") or {}}


def _raw_body(value: RawBody) -> tuple[bytes | None, str | None]:
    if value.error is not None:
        return None, value.error
    if value.path is None:
        return value.content or b"", None
    try:
        return Path(value.path).read_bytes(), None
    except OSError as error:
        return None, (
            f"the request body is in Kong's file {value.path}, which this server cannot read ({error.strerror}); "
            "run it as Kong's user and on Kong's file system"
        )
