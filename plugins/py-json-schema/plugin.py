"""Lets through only requests whose JSON body fits a JSON Schema. See docs/plugins/py-json-schema.md."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import kong_pdk.pdk.plain as kong
from jsonschema.exceptions import ValidationError

from .bounded_schema import TooManyReferences, compile_schema, errors_of, reason_for
from .strict_json import Malformed, parse, short

Schema = [
    {"schema": {"type": "string", "required": True}},
    {
        "methods": {
            "type": "set",
            "elements": {"type": "string", "match": "^[A-Z]+$"},
            "required": True,
            "default": ["POST", "PUT", "PATCH"],
        }
    },
    {
        "content_types": {
            "type": "set",
            "elements": {"type": "string", "match": "^[^/;%s]+/[^/;%s]+$"},
            "required": True,
            "default": ["application/json"],
        }
    },
    {"allow_empty_body": {"type": "boolean", "required": True, "default": False}},
    {"max_body_bytes": {"type": "integer", "required": True, "default": 1048576, "between": [1, 1073741824]}},
    {"max_depth": {"type": "integer", "required": True, "default": 32, "between": [1, 64]}},
    {"max_values": {"type": "integer", "required": True, "default": 10000, "between": [1, 10000000]}},
    {"max_references": {"type": "integer", "required": True, "default": 50000, "between": [1, 100000000]}},
    {"max_errors": {"type": "integer", "required": True, "default": 10, "between": [1, 100]}},
    {"verbose_response": {"type": "boolean", "required": True, "default": True}},
]
version = "1.0.0"
# The priority of Kong's own validator: after plugins that authenticate and limit, before those that change the body.
priority = 999
lua_style = False

_LONGEST_PATH = 300
_MOST_HEADERS = 1000  # Kong gives no more


class Plugin:
    """One configuration. Nothing changes after ``__init__``, so requests share it without a lock."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._validator = compile_schema(config["schema"])
        self._methods = frozenset(config["methods"])
        self._types = frozenset(name.lower() for name in config["content_types"])
        self._allow_empty = config["allow_empty_body"]
        self._max_bytes = config["max_body_bytes"]
        self._max_depth = config["max_depth"]
        self._max_values = config["max_values"]
        self._max_references = config["max_references"]
        self._max_errors = config["max_errors"]
        self._verbose = config["verbose_response"]

    def access(self, kong: kong.kong) -> None:
        if kong.request.get_method() not in self._methods:
            return
        try:
            self._check(kong.request.get_headers(_MOST_HEADERS), kong)
        except Refusal as refusal:
            answer: dict[str, Any] = {"message": refusal.message}
            if self._verbose and refusal.errors:
                answer["errors"] = refusal.errors
            kong.response.exit(refusal.status, json.dumps(answer), {"Content-Type": "application/json; charset=utf-8"})

    def _check(self, headers: Mapping[str, list[str]], kong: kong.kong) -> None:
        if sum(map(len, headers.values())) >= _MOST_HEADERS:
            raise Refusal(431, "Request has too many headers")
        if not all(_at_most(length, self._max_bytes) for length in headers.get("content-length", ())):
            raise self._too_long()
        body = kong.request.get_raw_body()
        if len(body) > self._max_bytes:
            raise self._too_long()
        if not body:
            if self._allow_empty:
                return
            raise Refusal(400, "Request body is empty")
        self._check_type(headers)
        value = _parsed(body)
        self._measure(value)
        try:
            errors = errors_of(self._validator, value, self._max_errors, self._max_references)
        except TooManyReferences:
            raise Refusal(
                413, f"Request body needs more than {self._max_references} references of the schema"
            ) from None
        if errors:
            raise Refusal(400, "Request body does not fit the schema", [_described(error) for error in errors])

    def _too_long(self) -> Refusal:
        return Refusal(413, f"Request body is longer than {self._max_bytes} bytes")

    def _check_type(self, headers: Mapping[str, list[str]]) -> None:
        given = headers.get("content-type", [])
        name, _, parameters = given[0].partition(";") if len(given) == 1 else ("", "", "")
        if name.strip().lower() not in self._types or not _is_utf8(parameters):
            allowed = " or ".join(sorted(self._types))
            raise Refusal(415, f"Content-Type must be {allowed}, in UTF-8")
        if any(coding.strip().lower() != "identity" for coding in headers.get("content-encoding", ())):
            raise Refusal(415, "Request body must not have a Content-Encoding")

    def _measure(self, value: Any) -> None:
        """Refuse a body that is nested too deeply, or has so many values that a check would take too long."""
        level, count = [value], 0
        for _ in range(self._max_depth + 1):
            count += len(level)
            if count > self._max_values:
                raise Refusal(413, f"Request body has more than {self._max_values} values")
            level = [item for each in level for item in _items(each)]
            if not level:
                return
        raise Refusal(400, f"Request body is nested more than {self._max_depth} levels deep")


class Refusal(Exception):
    """Ends the request with an answer to the client."""

    def __init__(self, status: int, message: str, errors: list[dict[str, Any]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors or []


def _parsed(body: bytes) -> Any:
    try:
        return parse(body)
    except Malformed as error:
        raise Refusal(400, "Request body is not valid JSON", [{**error.place, "reason": error.reason}]) from None


def _described(error: ValidationError) -> dict[str, Any]:
    """Describe an error by its place and the broken rule, without the client's value."""
    steps = (str(step).replace("~", "~0").replace("/", "~1") for step in error.absolute_path)
    path = "".join(f"/{step}" for step in steps)
    return {"path": short(path, _LONGEST_PATH), "keyword": error.validator, "reason": reason_for(error)}


def _at_most(length: str, most: int) -> bool:
    """Whether a Content-Length is a number and small enough; it may have more digits than ``int`` takes."""
    digits = length.lstrip("0") or "0"
    return digits.isascii() and digits.isdecimal() and len(digits) <= len(str(most)) and int(digits) <= most


def _is_utf8(parameters: str) -> bool:
    """Whether no parameter of a Content-Type names another charset."""
    pairs = (parameter.partition("=") for parameter in parameters.split(";"))
    named = (value.strip().strip('"').lower() for name, _, value in pairs if name.strip().lower() == "charset")
    return all(charset == "utf-8" for charset in named)


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()
