"""Reads a response body as a JSON document, and writes it in the same content coding."""

from __future__ import annotations

import codecs
import json
import zlib
from email.message import Message
from typing import Any

import simplejson

_GZIP, _ZLIB, _RAW = 31, zlib.MAX_WBITS, -zlib.MAX_WBITS  # the values for zlib
CODINGS = ("gzip", "deflate")
# Some of Python's other codecs take excessive time or memory.
_CHARSETS = frozenset(
    {"ascii", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
    | {"iso8859-1", "iso8859-15", "cp1252"}
)


class Unreadable(Exception):
    """The body is not JSON, or has an unknown coding or charset; the message has the details."""


class TooLarge(Exception):
    """The body has more bytes than allowed; the message has the limit."""


class Form:
    """The format of a body, from the headers of its response."""

    def __init__(self, content_type: str, content_encoding: str | None) -> None:
        """:param content_encoding: None if the body is not compressed."""
        self._header = Message()
        self._header["content-type"] = content_type
        # Some services send several types; clients use the first or the last.
        self.media_types = [each.partition(";")[0].strip().lower() for each in content_type.split(",")]
        charset = self._header.get_param("charset")
        self.charset = charset if isinstance(charset, str) else None
        coding = (content_encoding or "").strip().lower().removeprefix("x-")
        self.coding = "" if coding == "identity" else coding

    @property
    def content_type_in_utf8(self) -> str | None:
        """The Content-Type for the body in UTF-8; None if the present one is right."""
        if self.charset is None or self.charset.lower() in ("utf-8", "utf8"):
            return None
        self._header.set_param("charset", "utf-8")
        return str(self._header["content-type"])


def load(body: bytes, form: Form, most: int) -> Any:
    """Read a body. Its numbers become int and Decimal, so that they are written back unchanged.

    :param most: the most bytes, before and after decompression.
    :raises Unreadable: the body is not JSON.
    :raises TooLarge: the body has more bytes.
    """
    if len(body) > most:
        raise TooLarge(f"it has more than {most} bytes")
    text = _text(_decompressed(body, form.coding, most), form.charset)
    try:
        return simplejson.loads(text, use_decimal=True)
    except (ValueError, ArithmeticError) as error:
        raise Unreadable(f"it is not JSON: {error}") from error
    except RecursionError as error:
        raise Unreadable("it is nested too deep") from error


def dump(document: Any, form: Form) -> bytes:
    """Write a document as UTF-8, in its original content coding."""
    try:
        text = simplejson.dumps(document, ensure_ascii=False, separators=(",", ":"), use_decimal=True).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which needs an escape
        text = simplejson.dumps(document, separators=(",", ":"), use_decimal=True).encode()
    if not form.coding:
        return text
    compressor = zlib.compressobj(wbits=_GZIP if form.coding == "gzip" else _ZLIB)
    return compressor.compress(text) + compressor.flush()


def _decompressed(body: bytes, coding: str, most: int) -> bytes:
    if not coding:
        return body
    if coding == "gzip":
        return _inflated(body, _GZIP, most)
    if coding != "deflate":
        raise Unreadable(f"its content coding {coding!r} is not known")
    try:
        return _inflated(body, _ZLIB, most)
    except Unreadable:  # many servers send "deflate" without zlib's header
        return _inflated(body, _RAW, most)


def _inflated(body: bytes, kind: int, most: int) -> bytes:
    """Decompress up to the limit: a few kilobytes may contain gigabytes."""
    parts: list[bytes] = []
    room = most
    while body:  # gzip may have several members
        decompressor = zlib.decompressobj(kind)
        try:
            parts.append(decompressor.decompress(body, room + 1))
        except zlib.error as error:
            raise Unreadable(f"it cannot be decompressed: {error}") from error
        room -= len(parts[-1])
        if room < 0:
            raise TooLarge(f"it has more than {most} bytes when it is decompressed")
        if not decompressor.eof:
            raise Unreadable("it cannot be decompressed: it is cut off")
        body = decompressor.unused_data
    return b"".join(parts)


def _text(body: bytes, charset: str | None) -> str:
    name = charset or json.detect_encoding(body)
    try:
        codec = codecs.lookup(name).name
        if codec not in _CHARSETS:
            raise Unreadable(f"its charset {name} is not known")
        return body.decode("utf-8-sig" if codec == "utf-8" else codec)  # removes a byte order mark
    except (LookupError, ValueError) as error:
        raise Unreadable(f"it is not text in the charset {name}: {error}") from error
