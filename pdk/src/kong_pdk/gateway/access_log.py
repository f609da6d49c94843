"""Kong's access logs: nginx's combined format with the request's id, and the format ``basic`` for streams."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.forwarding import joined, real_ip
from kong_pdk.gateway.nginx_logs import Stream
from kong_pdk.gateway.stream.session import Session

# nginx writes these bytes as \xHH, so that a client cannot add lines to the log.
_UNSAFE = re.compile(rb'[\x00-\x1f\x7f-\xff"\\]')


def _escaped(value: bytes | None) -> str:
    if not value:
        return "-"
    return _UNSAFE.sub(lambda match: b"\\x%02X" % match[0][0], value).decode("ascii")


@dataclass(frozen=True)
class AccessLog:
    """Writes a line for each request, or nothing if there is no stream."""

    stream: Stream | None

    def write(self, exchange: Exchange, status: int, sent: int) -> None:
        """Log a finished request.

        :param sent: bytes of the response's body that were sent to the client.
        """
        if self.stream is None:
            return
        request = exchange.request
        target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(exchange.start_time))
        self.stream.write(
            f"{real_ip(request, exchange.node.settings)} - - [{stamp}] "
            f'"{request.method} {_escaped(target)} HTTP/{request.http_version}" {status} {sent} '
            f'"{_escaped(joined(request.headers, b"referer"))}" '
            f'"{_escaped(joined(request.headers, b"user-agent"))}" '
            f'kong_request_id: "{exchange.request_id}"'
        )


@dataclass(frozen=True)
class StreamAccessLog:
    """Writes a line for each TCP session, or nothing if there is no stream."""

    stream: Stream | None

    def write(self, session: Session) -> None:
        """Log a finished session."""
        if self.stream is None:
            return
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(session.start_time))
        self.stream.write(
            f"{session.request.client_ip} [{stamp}] TCP {session.status:03d} {session.sent} {session.received} "
            f"{session.seconds():.3f}"
        )
