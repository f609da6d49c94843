"""Rewrites JSON responses of a service: removes, masks, sets and renames values by JSONPaths, and headers.

A response that cannot be rewritten is refused, unless the configuration lets it pass: values that must be masked never
reach the client.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import kong_pdk.pdk.plain as kong
from jsonpath import JSONPathError

from .body import CODINGS, Form, TooLarge, Unreadable, dump, load
from .rules import ACTIONS, Rule

_HEADER = {"type": "string", "len_min": 1, "match": "^[%w!#$%%&'*+.^_`|~-]+$"}
_REFUSE = {"type": "string", "required": True, "default": "refuse", "one_of": ["refuse", "pass"]}
_STATUSES = {"patterns": ["^%d%d%d$", "^%d%d%d%-%d%d%d$"], "err": "expected a status, 404, or a range, 400-499"}

Schema = (
    {
        "rules": {
            "type": "array",
            "default": [],
            "elements": {
                "type": "record",
                "fields": [
                    {"action": {"type": "string", "required": True, "one_of": list(ACTIONS)}},
                    {"path": {"type": "string", "required": True, "starts_with": "$"}},
                    {"mask": {"type": "string"}},
                    {"keep_last": {"type": "integer", "between": [1, 64]}},
                    {"value": {"type": "string", "len_min": 0}},
                    {"json": {"type": "string"}},
                    {"name": {"type": "string"}},
                ],
            },
        }
    },
    {
        "headers": {
            "type": "record",
            "fields": [
                {"remove": {"type": "array", "default": [], "elements": _HEADER}},
                {"set": {"type": "map", "default": {}, "keys": _HEADER, "values": {"type": "string"}}},
                {"add": {"type": "map", "default": {}, "keys": _HEADER, "values": {"type": "string"}}},
            ],
        }
    },
    {
        "content_types": {
            "type": "array",
            "required": True,
            "default": ["application/json", "application/*+json"],
            "elements": {"type": "string"},
        }
    },
    {
        "statuses": {
            "type": "array",
            "default": [],
            "elements": {"type": "string", "match_any": _STATUSES},
        }
    },
    {"max_body_bytes": {"type": "integer", "required": True, "default": 1048576, "between": [1, 67108864]}},
    {"on_too_large": _REFUSE},
    {"on_unreadable": _REFUSE},
    {"on_unbuffered": _REFUSE},
)
version = "1.0.0"
# Among the last: a handler that answers the client ends the response phase for plugins of lower priority.
priority = 5
lua_style = False

_ALL = "100-599"
_KONGS_OWN = frozenset({"connection", "content-encoding", "content-length", "transfer-encoding"})
_DIGESTS = ("content-md5", "digest", "content-digest", "repr-digest")


class Plugin:
    """One configuration with its compiled rules."""

    def __init__(self, config: dict[str, Any]) -> None:
        """:raises ValueError: a rule or a header is invalid."""
        self._rules = [Rule(number, given) for number, given in enumerate(config.get("rules") or [], 1)]
        headers = config.get("headers") or {}
        self._remove: list[str] = headers.get("remove") or []
        self._set: dict[str, str] = headers.get("set") or {}
        self._add: dict[str, str] = headers.get("add") or {}
        for name in (*self._remove, *self._set, *self._add):
            if name.lower() in _KONGS_OWN:
                raise ValueError(f"the header {name} belongs to the form of the response; it cannot be rewritten")
        self._types = [each.lower() for each in config["content_types"]]
        self._statuses = [_range(text) for text in config.get("statuses") or [_ALL]]
        self._most = int(config["max_body_bytes"])
        self._passes = {name: config[f"on_{name}"] == "pass" for name in ("too_large", "unreadable", "unbuffered")}

    def access(self, kong: kong.kong) -> None:
        """Ask the service for a response that can be rewritten: a whole body in a known content coding."""
        if not self._passes["unbuffered"]:
            _refuse_unbuffered(kong)
        if self._rules:
            accepted = kong.request.get_header("accept-encoding")
            kong.service.request.set_header("accept-encoding", _known_codings(accepted))
            kong.service.request.clear_header("range")
            kong.service.request.clear_header("if-range")

    def response(self, kong: kong.kong) -> None:
        """Rewrite the service's response."""
        if kong.response.get_source() != "service":
            return
        status = kong.response.get_status()
        if not any(first <= status <= last for first, last in self._statuses):
            return
        form = Form(kong.response.get_header("content-type") or "", kong.response.get_header("content-encoding"))
        self._rewrite_headers(kong)
        if self._rules and (status == 304 or self._is_rewritten(form)):
            self._rewrite_body(kong, status, form)

    def _is_rewritten(self, form: Form) -> bool:
        return any(fnmatchcase(each, pattern) for each in form.media_types for pattern in self._types)

    def _rewrite_headers(self, kong: kong.kong) -> None:
        for name in self._remove:
            kong.response.clear_header(name)
        for name, value in self._set.items():
            kong.response.set_header(name, value)
        for name, value in self._add.items():
            kong.response.add_header(name, value)

    def _rewrite_body(self, kong: kong.kong, status: int, form: Form) -> None:
        tag = kong.response.get_header("etag")
        if tag and not tag.startswith("W/"):  # a strong one identifies the bytes of the service
            kong.response.set_header("etag", f"W/{tag}")
        kong.response.clear_header("accept-ranges")
        body = kong.service.response.get_raw_body()
        if not body:
            # The headers of such a response describe a body that it does not have.
            if status == 304 or kong.request.get_method() == "HEAD":
                _clear(kong, "content-length", *_DIGESTS)
            return
        try:
            rewritten = self._rewritten(body, form)
        except (TooLarge, Unreadable) as error:
            self._fail(kong, error)
            return
        if rewritten is not None:
            _clear(kong, *_DIGESTS)
            content_type = form.content_type_in_utf8
            kong.response.exit(status, rewritten, {"content-type": content_type} if content_type else None)

    def _rewritten(self, body: bytes, form: Form) -> bytes | None:
        """Give the new body; None if no rule has an effect."""
        document = load(body, form, self._most)
        if not isinstance(document, dict | list):
            return None
        try:
            found = [rule.apply(document) for rule in self._rules]
            return dump(document, form) if any(found) else None
        except (JSONPathError, RecursionError) as error:
            raise Unreadable("it is nested too deep") from error

    def _fail(self, kong: kong.kong, error: TooLarge | Unreadable) -> None:
        if self._passes["too_large" if isinstance(error, TooLarge) else "unreadable"]:
            kong.log.warn(f"the response is passed on as it is: {error}")
            return
        kong.log.err(f"the response is refused: {error}")
        _clear(kong, "content-encoding", "etag", "last-modified", "expires", *_DIGESTS)
        kong.response.exit(502, {"message": "The response cannot be rewritten"}, {"cache-control": "no-store"})


def _refuse_unbuffered(kong: kong.kong) -> None:
    """Refuse requests whose responses Kong sends to the client without a call of ``response``."""
    version = kong.request.get_http_version()
    if version is None or version >= 2:
        kong.response.exit(505, {"message": "Use HTTP/1.1"})
    if "websocket" in (kong.request.get_header("upgrade") or "").lower():
        kong.response.exit(400, {"message": "No protocol upgrade here"})


def _known_codings(accepted: str | None) -> str:
    """Keep the codings of an Accept-Encoding that can be decompressed here."""
    offers = [offer.strip() for offer in (accepted or "").split(",")]
    known = [offer for offer in offers if offer.partition(";")[0].strip().lower() in (*CODINGS, "identity")]
    return ", ".join(known) or "identity"


def _clear(kong: kong.kong, *names: str) -> None:
    for name in names:
        kong.response.clear_header(name)


def _range(text: str) -> tuple[int, int]:
    first, _, last = text.partition("-")
    return int(first), int(last or first)
