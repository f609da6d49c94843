"""``kong.service.request.set_body`` with what would not arrive as it is: null, false, and lists that are empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kong_pdk.wire import json_text
from kong_pdk.wire.arguments import as_form
from kong_pdk.wire.errors import ArgumentError

FUNCTION = "kong.service.request.set_body"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_NO_TYPE = (
    "the request has no Content-Type, so Kong has not set the body; give the type as second argument, "
    f'"{_JSON}" for example'
)
_Result: TypeAlias = tuple[Any, str | None]
_Call: TypeAlias = Callable[[str, Sequence[object]], _Result]


def set_body(call: _Call, args: Sequence[Any]) -> _Result:
    """Set the body that goes upstream: JSON is written here where Kong would write something else.

    :param call: has Kong make a PDK call.
    :raises ArgumentError: the body cannot be written.
    """
    if not args or not isinstance(args[0], (Mapping, list, tuple)):
        kind = type(args[0]).__name__ if args else "left out"
        raise ArgumentError(
            f"{FUNCTION}: argument 1 must be a dict or a list, not {kind}; text and bytes are set by "
            "kong.service.request.set_raw_body"
        )
    value, error = _set(call, args)
    return (None, _NO_TYPE) if value is None and error is None else (value, error)


def _set(call: _Call, args: Sequence[Any]) -> _Result:
    """Set the body; None and no error where neither the plugin nor the request says what it is."""
    body = args[0]
    if not json_text.needed(FUNCTION, body):
        return call(FUNCTION, args)
    mimetype = args[1] if len(args) > 1 else call("kong.request.get_header", ["content-type"])[0]
    if mimetype is None:
        return None, None
    kind = str(mimetype).partition(";")[0]
    if kind == _JSON:
        call("kong.service.request.set_raw_body", [json_text.text(FUNCTION, body)])
        call("kong.service.request.set_header", ["content-type", kind])
        return True, None
    if kind == _FORM and isinstance(body, Mapping):
        return call(FUNCTION, [as_form(body), mimetype])
    return call(FUNCTION, args)
