"""Takes pip's tracebacks out of its output: they quote parts of URLs, and so of passwords."""

from __future__ import annotations

import re
from collections.abc import Collection

from kong_pdk.masking import MASK

CRASHED = "pip crashed: "
"""Stands in the place of a traceback, before its last line."""

_TRACEBACK = re.compile(r"^(?:ERROR: Exception:\n)?Traceback \(most recent call last\):\n", re.MULTILINE)
# The exception stands below the indented lines of its traceback. Further lines of its message are left out.
_EXCEPTION = re.compile(r"^[ \t][^\n]*\n([A-Za-z_][\w.]*)(?:: ([^\n]*))?$", re.MULTILINE)
_LATER = re.compile(r"^(?:ERROR|WARNING|error): (?!Exception:).*$", re.MULTILINE)
# These errors quote the URL, or the part of it that they cannot parse, without the rest that shows what is secret.
_OF_URLS = re.compile(r"(?:.*\.)?(?:InvalidURL|LocationParseError|InvalidSchema|InvalidProxyURL|MissingSchema)")


def without_traceback(output: str, secrets: Collection[str]) -> str:
    """Replace a traceback by one line that says what was raised.

    :param secrets: quoted text of which one is a part is masked.
    """
    begin = _TRACEBACK.search(output)
    if not begin:
        return output
    last = [*_TRACEBACK.finditer(output)][-1]
    raised = _EXCEPTION.search(output, last.end())
    said = _line(raised[1], raised[2] or "", secrets) if raised else "it says nothing"
    later = _LATER.findall(output, raised.end()) if raised else []
    return "\n".join([f"{output[: begin.start()]}ERROR: {CRASHED}{said}", *later, ""])


def _line(kind: str, message: str, secrets: Collection[str]) -> str:
    if _OF_URLS.fullmatch(kind):
        message = "a URL cannot be parsed"
    elif kind == "ValueError":
        message = re.sub(r"(['\"]).*\1", MASK, message)
    else:
        message = re.sub(r"(['\"])([^'\"]+)\1", lambda found: _unless_secret(found[0], found[2], secrets), message)
    name = kind.rpartition(".")[2]
    return f"{name}: {message}" if message else name


def _unless_secret(quoted: str, text: str, secrets: Collection[str]) -> str:
    return MASK if any(text in secret for secret in secrets) else quoted
