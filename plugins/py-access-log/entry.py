"""An entry of the log: what is taken from Kong's record of a request, without its secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

REDACTED = "REDACTED"

# Where a URL stands in the record; a query that others have sent on is in these headers.
_URLS = (("request", "uri"), ("request", "url"), ("upstream_uri",))
_URLS_IN_HEADERS = (("request", "headers", "referer"), ("response", "headers", "location"))
_PARAMETER = re.compile(r"(?<=[?&#;])([^=&#;?]*)=([^&#;]*)")


class Entries:
    """Makes lines of Kong's records."""

    def __init__(
        self, fields: Iterable[str], labels: Mapping[str, str], headers: Iterable[str], parameters: Iterable[str]
    ) -> None:
        """:param fields: dotted names of what is wanted, ``request.method``; all where there are none.

        :param labels: what is added to each entry.
        :param headers: whose values are secrets.
        :param parameters: names of query parameters whose values are secrets.
        """
        self._fields = [name.split(".") for name in fields]
        self._labels = dict(labels)
        self._headers = frozenset(name.lower() for name in headers)
        self._parameters = frozenset(name.lower() for name in parameters)

    def line(self, record: str) -> bytes:
        """Make a line of a record, which is JSON: ASCII, with its end.

        :raises ValueError: it is not JSON.
        """
        # Kong puts the bytes of headers into it as they are; what is no UTF-8 would be refused by collectors.
        given = json.loads(record.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        self._redact(given)
        entry = _chosen(given, self._fields) if self._fields else given
        return json.dumps({**entry, **self._labels}, separators=(",", ":")).encode() + b"\n"

    def _redact(self, record: dict[str, Any]) -> None:
        for side in ("request", "response"):
            headers = _at(record, (side, "headers"))
            if isinstance(headers, dict):
                headers.update(dict.fromkeys(self._secret(headers, self._headers), REDACTED))
        arguments = _at(record, ("request", "querystring"))
        if isinstance(arguments, dict):
            arguments.update(dict.fromkeys(self._secret(arguments, self._parameters), REDACTED))
        for *path, last in (*_URLS, *_URLS_IN_HEADERS):
            holder = _at(record, path)
            if isinstance(holder, dict) and isinstance(holder.get(last), str):
                holder[last] = _PARAMETER.sub(self._without_secret, holder[last])

    @staticmethod
    def _secret(given: Mapping[str, Any], names: frozenset[str]) -> list[str]:
        return [name for name in given if name.lower() in names]

    def _without_secret(self, found: re.Match[str]) -> str:
        secret = unquote_plus(found[1]).lower() in self._parameters
        return f"{found[1]}={REDACTED}" if secret else found[0]


def _at(record: Any, path: Iterable[str]) -> Any:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _chosen(record: Mapping[str, Any], fields: Iterable[list[str]]) -> dict[str, Any]:
    """Take some fields, in the shape that they have in the record; those that are not there are left out."""
    chosen: dict[str, Any] = {}
    for path in fields:
        value = _at(record, path)
        if value is not None:
            holder = chosen
            for name in path[:-1]:
                holder = holder.setdefault(name, {})
            holder[path[-1]] = value
    return chosen
