"""Kong's error page: the gateway imitates it, and a plugin server writes it where Kong cannot be asked to."""

from __future__ import annotations

import re
from http import HTTPStatus

UNEXPECTED = "An unexpected error occurred"
"""Kong's words for a 500."""

# Kong's words where they differ from "first word capitalised" of the standard phrase.
_MESSAGES = {
    418: "I'm a teapot",
    421: "Misdirected request",
    425: "Too early",
    494: "Request header or cookie too large",
    500: UNEXPECTED,
    502: "An invalid response was received from the upstream server",
    503: "The upstream server is currently unavailable",
    504: "The upstream server is timing out",
    413: "Payload too large",
    414: "URI too long",
    416: "Range not satisfiable",
    422: "Unprocessable entity",
}

_JSON = "application/json; charset=utf-8"
_HTML = "text/html; charset=utf-8"
_XML = "application/xml; charset=utf-8"
_PLAIN = "text/plain; charset=utf-8"
# gRPC has its errors in headers: the page is empty, and its type is blank where the client alone asked for it.
_GRPC = " "
_TYPES = {
    "text/html": _HTML,
    "text/*": _PLAIN,
    "application/json": _JSON,
    "application/*": _JSON,
    "*/*": _JSON,
    "application/xml": _XML,
    "text/plain": _PLAIN,
    "application/grpc": _GRPC,
}
# Each with its part that names the request: Kong before 3.5 has no ids of requests.
_TEMPLATES = {
    _JSON: ('{{\n  "message":"{message}"{part}\n}}', ',\n  "request_id":"{id}"'),
    _HTML: (
        '<!doctype html>\n<html>\n  <head>\n    <meta charset="utf-8">\n    <title>Error</title>\n  </head>\n'
        "  <body>\n    <h1>Error</h1>\n    <p>{message}.</p>\n{part}  </body>\n</html>\n",
        "    <p>request_id: {id}</p>\n",
    ),
    _XML: (
        '<?xml version="1.0" encoding="UTF-8"?>\n<error>\n  <message>{message}</message>\n{part}</error>\n',
        "  <requestid>{id}</requestid>\n",
    ),
    _PLAIN: ("{message}\n{part}", "request_id: {id}\n"),
    _GRPC: ("", ""),
}
FORMS = {
    **{name: kind for kind in (_JSON, _HTML, _XML, _PLAIN) for name in (kind, kind.partition(";")[0])},
    "application/grpc": _GRPC,
}
"""The Content-Types, written just so, that choose a form of Kong's."""
_QUALITY = re.compile(r";\s*q\s*=\s*(1(?:\.0{1,3})?|0(?:\.\d{1,3})?)")


def message_of(status: int) -> str:
    """Kong's message for a status that no plugin gave words for."""
    known = _MESSAGES.get(status)
    if known is not None:
        return known
    try:
        return HTTPStatus(status).phrase.capitalize().replace("Http", "HTTP").replace("-uri", "-URI")
    except ValueError:
        return f"The upstream server responded with {status}"


def media_type(accept: str | None) -> str:
    """The content type of an error page for a client's ``Accept`` (None: it sent none)."""
    best, quality = _JSON, 0.0
    for entry in (accept or "").lower().split(","):
        name = entry.partition(";")[0].strip()
        found = _QUALITY.search(entry)
        weight = float(found[1]) if found else 1.0
        if name in _TYPES and weight > quality:
            best, quality = _TYPES[name], weight
    return best


def error_page(
    accept: str | None, message: str, request_id: str | None, content_type: str | None = None
) -> tuple[str, bytes]:
    """The content type and body of ``kong.response.error`` and of Kong's own errors.

    ``request_id`` is None where there is none. A ``content_type`` chooses the form before ``accept`` does, and is
    given back as it is. Raises KeyError for a type that Kong has no form for.
    """
    form = media_type(accept) if content_type is None else FORMS[content_type]
    page, part = _TEMPLATES[form]
    text = page.format(message=message, part="" if request_id is None else part.format(id=request_id))
    return content_type or form, text.encode("utf-8", "surrogateescape")
