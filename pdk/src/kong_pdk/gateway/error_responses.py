"""The error pages of Kong and nginx, for responses that do not come from the upstream."""

from __future__ import annotations

from http import HTTPStatus

from kong_pdk.error_page import error_page, message_of
from kong_pdk.gateway.exchange import Exchange, Exit, RawHeaders
from kong_pdk.gateway.forwarding import joined

# Statuses that nginx passes to Kong's error handler. For others nginx has its own pages.
_HANDLED_BY_KONG = {400, 404, 405, 408, 411, 412, 413, 414, 417, 494, 500, 502, 503, 504}
_NGINX_PHRASES = {
    401: "Authorization Required",
    405: "Not Allowed",
    408: "Request Time-out",
    413: "Request Entity Too Large",
    414: "Request-URI Too Large",
    416: "Requested Range Not Satisfiable",
    421: "Misdirected Request",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
_NGINX_PAGES = {
    301, 302, 303, 307, 308, *range(400, 417), 421, 429, 500, 501, 502, 503, 504, 505, 507,
} - {407}  # fmt: skip
_GRPC_OF_STATUS = {
    401: (16, "Unauthenticated"),
    403: (7, "PermissionDenied"),
    404: (5, "NotFound"),
    409: (6, "AlreadyExists"),
    429: (8, "ResourceExhausted"),
    501: (12, "Unimplemented"),
    503: (14, "Unavailable"),
    504: (4, "DeadlineExceeded"),
}
_GRPC_OF_CLASS = {2: (0, "OK"), 4: (3, "InvalidArgument"), 5: (13, "Internal")}


def grpc_headers(status: int) -> RawHeaders:
    """The headers that Kong adds to its own responses with a gRPC Content-Type."""
    number, message = _GRPC_OF_STATUS.get(status) or _GRPC_OF_CLASS.get(status // 100, (2, "Unknown"))
    return [(b"grpc-status", b"%d" % number), (b"grpc-message", message.encode())]


def bodiless_page(status: int, accept: str | None, request_id: str) -> tuple[str | None, bytes]:
    """Content type (None: no header) and body of the response to ``ngx.exit`` without a body."""
    if status in _HANDLED_BY_KONG:
        return error_page(accept, message_of(status), request_id)
    if status not in _NGINX_PAGES:
        return None, b""
    phrase = f"{status} {_NGINX_PHRASES.get(status) or HTTPStatus(status).phrase}"
    page = (
        f"<html>\r\n<head><title>{phrase}</title></head>\r\n<body>\r\n"
        f"<center><h1>{phrase}</h1></center>\r\n</body>\r\n</html>\r\n"
    )
    return "text/html; charset=UTF-8", page.encode()


def accept_of(exchange: Exchange) -> str | None:
    """The client's ``Accept`` headers joined to one value, or None."""
    value = joined(exchange.request.headers, b"accept")
    return None if value is None else value.decode("utf-8", "surrogateescape")


def error_exit(
    exchange: Exchange,
    status: int,
    message: str | None = None,
    headers: RawHeaders | None = None,
    content_type: str | None = None,
) -> Exit:
    """The response of ``kong.response.error`` in the format of ``content_type``, or else in an accepted one."""
    text = message_of(status) if message is None else message
    kind, body = error_page(accept_of(exchange), text, exchange.request_id, content_type)
    return Exit(status, body, [(b"Content-Type", kind.encode()), *(headers or [])])


def nginx_error(exchange: Exchange, status: int) -> Exit:
    """The response to an error in nginx rather than in a plugin, formatted by Kong's error handler."""
    exchange.response.source = "error"
    accept = accept_of(exchange) or exchange.node.settings.error_default_type
    kind, body = error_page(accept, message_of(status), exchange.request_id)
    return Exit(status, body, [(b"Content-Type", kind.encode())])
