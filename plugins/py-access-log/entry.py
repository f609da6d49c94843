"""The entries of the log: the configured fields of Kong's record of a request, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import unquote_plus

REDACTED = "REDACTED"

# The fields of the record with URLs, and the headers with URLs, whose queries may have secrets, too.
_URLS = (("request", "uri"), ("request", "url"), ("upstream_uri",))
_URLS_IN_HEADERS = (("request", "headers", "referer"), ("response", "headers", "location"))
_PARAMETER = re.compile(r"(?<=[?&#;])([^=&#;?]*)=([^&#;]*)")


class Entries:
    """Turns Kong's records into lines."""

    def __init__(
        self, fields: Iterable[str], labels: Mapping[str, str], headers: Iterable[str], parameters: Iterable[str]
    ) -> None:
        """:param fields: dotted names of fields, such as ``request.method``; empty for all.

        :param labels: texts that are added to each entry.
        :param headers: names of headers with secret values.
        :param parameters: names of query parameters with secret values.
        """
        self._fields = [name.split(".") for name in fields]
        self._labels = dict(labels)
        self._headers = frozenset(name.lower() for name in headers)
        self._parameters = frozenset(name.lower() for name in parameters)

    def line(self, record: str) -> bytes:
        """Turn a record, which is JSON, into a line of ASCII with its line end.

        :raises ValueError: the record is not JSON.
        """
        # Kong copies the bytes of headers into the record, and collectors refuse bytes that are not UTF-8.
        full = json.loads(record.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
        self._redact(full)
        entry = _chosen(full, self._fields) if self._fields else full
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
    def _secret(values: Mapping[str, Any], names: frozenset[str]) -> list[str]:
        return [name for name in values if name.lower() in names]

    def _without_secret(self, match: re.Match[str]) -> str:
        secret = unquote_plus(match[1]).lower() in self._parameters
        return f"{match[1]}={REDACTED}" if secret else match[0]


def _at(record: Any, path: Iterable[str]) -> Any:
    for name in path:
        record = record.get(name) if isinstance(record, dict) else None
    return record


def _chosen(record: Mapping[str, Any], fields: Iterable[list[str]]) -> dict[str, Any]:
    """Take some fields, nested as in the record; fields that the record does not have are omitted."""
    chosen: dict[str, Any] = {}
    for path in fields:
        value = _at(record, path)
        if value is not None:
            holder = chosen
            for name in path[:-1]:
                holder = holder.setdefault(name, {})
            holder[path[-1]] = value
    return chosen
