"""``kong.service.request.set_body`` with what would not arrive as it is: null, false, and lists that are empty."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kong_pdk.wire import json_text
from kong_pdk.wire.arguments import as_form

FUNCTION = "kong.service.request.set_body"
_JSON = "application/json"
_FORM = "application/x-www-form-urlencoded"
_Result: TypeAlias = tuple[Any, str | None]
_Call: TypeAlias = Callable[[str, Sequence[object]], _Result]


def set_body(call: _Call, args: Sequence[Any]) -> _Result:
    """Set the body that goes upstream: JSON is written here where Kong would write something else.

    :param call: has Kong make a PDK call.
    :raises ArgumentError: the body cannot be written.
    """
    if not args or not isinstance(args[0], (Mapping, list, tuple)) or not json_text.needed(FUNCTION, args[0]):
        return call(FUNCTION, args)
    body = args[0]
    mimetype = args[1] if len(args) > 1 else call("kong.request.get_header", ["content-type"])[0]
    if mimetype is None:  # Kong does not know either what to make of the table, and gives nil
        return None, None
    kind = str(mimetype).partition(";")[0]
    if kind == _JSON:
        call("kong.service.request.set_raw_body", [json_text.text(FUNCTION, body)])
        call("kong.service.request.set_header", ["content-type", kind])
        return True, None
    if kind == _FORM and isinstance(body, Mapping):
        return call(FUNCTION, [as_form(body), mimetype])
    return call(FUNCTION, args)
