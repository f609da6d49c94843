"""Kong's access log: nginx's combined format and the request's id."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from kong_pdk.gateway.exchange import Exchange
from kong_pdk.gateway.forwarding import joined, real_ip
from kong_pdk.gateway.logs import Stream

# nginx writes these as \xHH in a log, so that nobody can write lines of their own into it.
_UNSAFE = re.compile(rb'[\x00-\x1f\x7f-\xff"\\]')


def _text(value: bytes | None) -> str:
    if not value:
        return "-"
    return _UNSAFE.sub(lambda found: b"\\x%02X" % found[0][0], value).decode("ascii")


@dataclass(frozen=True)
class AccessLog:
    """Writes one line for each request; without a stream it writes nothing."""

    stream: Stream | None

    def write(self, exchange: Exchange, status: int, sent: int) -> None:
        """Note a request that is over: its status and the bytes of the body that the client got."""
        if self.stream is None:
            return
        request = exchange.request
        target = request.raw_path + (b"?" + request.raw_query if request.raw_query else b"")
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S %z", time.localtime(exchange.start_time))
        self.stream.write(
            f"{real_ip(request, exchange.node.settings)} - - [{stamp}] "
            f'"{request.method} {_text(target)} HTTP/{request.http_version}" {status} {sent} '
            f'"{_text(joined(request.headers, b"referer"))}" '
            f'"{_text(joined(request.headers, b"user-agent"))}" '
            f'kong_request_id: "{exchange.request_id}"'
        )
