"""Kong's error page, for the gateway, and for a plugin server whose Kong does not offer ``kong.response.error``."""

from __future__ import annotations

import re
from http import HTTPStatus

UNEXPECTED = "An unexpected error occurred"
"""Kong's message for status 500."""

# Kong's messages that are not the standard phrase with a capital first word.
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
# gRPC has its errors in headers: the page is empty, and its Content-Type is a blank unless the plugin gives one.
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
# The page of each type, and its line with the id of the request, which Kong before 3.5 does not have.
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
"""The Content-Types for which Kong has a page, in Kong's spelling."""
_QUALITY = re.compile(r";\s*q\s*=\s*(1(?:\.0{1,3})?|0(?:\.\d{1,3})?)")


def message_of(status: int) -> str:
    """Give Kong's default message for a status."""
    known = _MESSAGES.get(status)
    if known is not None:
        return known
    try:
        return HTTPStatus(status).phrase.capitalize().replace("Http", "HTTP").replace("-uri", "-URI")
    except ValueError:
        return f"The upstream server responded with {status}"


def media_type(accept: str | None) -> str:
    """Give the Content-Type of an error page.

    :param accept: the client's ``Accept`` header; None without one.
    """
    best, quality = _JSON, 0.0
    for entry in (accept or "").lower().split(","):
        name = entry.partition(";")[0].strip()
        match = _QUALITY.search(entry)
        weight = float(match[1]) if match else 1.0
        if name in _TYPES and weight > quality:
            best, quality = _TYPES[name], weight
    return best


def error_page(
    accept: str | None, message: str, request_id: str | None, content_type: str | None = None
) -> tuple[str, bytes]:
    """Give the Content-Type and the body of ``kong.response.error`` and of Kong's own errors.

    :param accept: the client's ``Accept`` header; None without one.
    :param request_id: None for a Kong without ids of requests.
    :param content_type: a type of :data:`FORMS` that wins over ``accept``, and is returned as it is.
    :raises KeyError: Kong has no page of this type.
    """
    form = media_type(accept) if content_type is None else FORMS[content_type]
    page, part = _TEMPLATES[form]
    text = page.format(message=message, part="" if request_id is None else part.format(id=request_id))
    return content_type or form, text.encode("utf-8", "surrogateescape")
