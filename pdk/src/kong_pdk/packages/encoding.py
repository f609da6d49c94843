"""Decodes requirements files as pip does: by a byte order mark, a coding line, UTF-8, or the encoding of the locale."""

from __future__ import annotations

import codecs
import locale
import re

# In pip's order: what begins like UTF-16 is UTF-16 to it.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)
_CODING_LINE = re.compile(rb"#.*?coding[:=]\s*([-\w.]+)")
_HINT = "save the file as UTF-8"


class EncodingError(Exception):
    """A file that pip cannot decode; the message names the byte, ``hint`` says what to do."""

    def __init__(self, line: int, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


def decode(content: bytes) -> str:
    """Decode a requirements file.

    :raises EncodingError: pip cannot decode it, or it holds NUL characters.
    """
    encoding, mark, hint = _encoding(content)
    try:
        text = _decoded(content[mark:], encoding)
    except LookupError:
        raise EncodingError(1, f"the coding line names {encoding}, which Python does not know", hint) from None
    except UnicodeDecodeError as error:
        line = _newlines(content[mark : mark + error.start], encoding) + 1
        message = f"the file is not {encoding.upper()}: byte 0x{error.object[error.start]:02x} at {mark + error.start}"
        raise EncodingError(line, message, hint) from None
    except UnicodeError:
        raise EncodingError(1, f"the file is not {encoding}, which its coding line names", hint) from None
    before, nul, _ = text.partition("\0")
    if nul:
        message = "the file holds a NUL byte, as UTF-16 without a byte order mark does, or a file that is not text"
        raise EncodingError(before.count("\n") + 1, message)
    return text


def _encoding(content: bytes) -> tuple[str, int, str]:
    """Give the encoding, the length of the byte order mark, and the hint for a file that is not in that encoding."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, len(mark), f"{_HINT}; its byte order mark says {encoding.upper()}"
    for line in content.split(b"\n")[:2]:
        if found := _CODING_LINE.match(line):
            return found[1].decode("ascii"), 0, f"{_HINT}, or correct its coding line"
    return "utf-8", 0, f"{_HINT}, or name its encoding in the first line, as in # -*- coding: latin-1 -*-"


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        preferred = locale.getpreferredencoding(False)
        if encoding != "utf-8" or codecs.lookup(preferred).name in ("utf-8", "ascii"):
            raise
        return content.decode(preferred)


def _newlines(content: bytes, encoding: str) -> int:
    return content.decode(encoding, "replace").count("\n")
