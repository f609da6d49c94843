"""HTTP/1 on a client's connection: uvicorn's h11 protocol, as tolerant to clients as nginx."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import STATUS_PHRASES, H11Protocol
from uvicorn.server import ServerState

from kong_pdk.error_page import error_page, message_of
from kong_pdk.gateway import KONG_VERSION
from kong_pdk.gateway.exchange import RawHeaders, Statistics

# From this number of bytes on, waiting for more saves nothing.
_FLUSH_BYTES = 65536


class GatheringTransport(asyncio.Transport):
    """Collects data and writes it in the next turn of the event loop: a response's head together with its body.

    Separate writes would cost a system call each, and wake up the client each time.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._gathered = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Collect data for the next turn."""
        if not self._gathered and data:
            self._loop.call_soon(self._flush)
        self._gathered += data
        if len(self._gathered) > _FLUSH_BYTES:
            self._flush()

    def close(self) -> None:
        """Send all collected data, then close."""
        self._flush()
        self._transport.close()

    def abort(self) -> None:
        """Close at once and drop unsent data."""
        self._gathered.clear()
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)

    def _flush(self) -> None:
        if self._gathered:
            data, self._gathered = self._gathered, bytearray()
            self._transport.write(data)


# nginx's client_header_timeout in seconds, and its large_client_header_buffers (4 of 8 KiB) in bytes.
HEADER_TIMEOUT = 60.0
MAX_HEAD = 32768
KEEP_ALIVE = 65
# How long a graceful end waits for the first request of a connection. nginx waits for as long as HEADER_TIMEOUT.
FIRST_REQUEST = 1.0

# uvicorn fails on a status without a phrase in its table, but an upstream may send any status.
STATUS_PHRASES.update(dict.fromkeys(range(600, 1000), b""))

_NON_ASCII = re.compile(rb"[\x80-\xff]")
# "%-" begins no valid escape, so these escapes cannot be confused with those of the client.
_ESCAPED_BYTE = re.compile(rb"%-([89A-F][0-9A-F])")
_METHOD = re.compile(rb"[A-Z_-]+")


def _silent_logger() -> logging.Logger:
    logger = logging.Logger("kong.connections", logging.CRITICAL + 1)
    logger.addHandler(logging.NullHandler())
    return logger


class Connection(h11.Connection):
    """An HTTP/1 server connection that accepts bytes above 0x7e in a request's target, like nginx."""

    def __init__(self) -> None:
        super().__init__(h11.SERVER, MAX_HEAD)
        self.target = b""
        self.headers: RawHeaders = []
        self.on_disconnect: Callable[[], None] | None = None
        self._in_request_line = True

    def receive_data(self, data: bytes) -> None:
        """Pass bytes of the client to h11, with the bytes escaped that h11 refuses in a request line."""
        if self._in_request_line and self.their_state is h11.IDLE:
            line, end, rest = data.partition(b"\n")
            self._in_request_line = not end
            data = _NON_ASCII.sub(lambda match: b"%%-%02X" % match[0][0], line) + end + rest
        super().receive_data(data)

    def next_event(self) -> Any:
        """The next event. A request's target and headers are kept as the client sent them."""
        event = super().next_event()
        if isinstance(event, h11.Request):
            if not _METHOD.fullmatch(event.method):  # by nginx's rule, which is stricter than HTTP's
                raise h11.RemoteProtocolError("an invalid method")
            self._in_request_line = True
            self.target = _ESCAPED_BYTE.sub(lambda match: bytes((int(match[1], 16),)), event.target)
            self.headers = event.headers.raw_items()
        return event


class Protocol(H11Protocol):
    """A client's connection. The application finds it as ``scope["extensions"]["kong"]``."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.conn: Connection = Connection()
        self.logger = self.access_logger = _silent_logger()
        self.access_log = False
        self._statistics: Statistics = app_state["statistics"]
        self._head_timer: asyncio.TimerHandle | None = None
        self._tunnel: asyncio.StreamReader | None = None
        self._is_ending = False

    @property
    def awaits_request(self) -> bool:
        """Whether an end of the gateway waits for the first request of this connection."""
        return self._is_ending and self.cycle is None and not self.transport.is_closing()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin with a connected client, which has a minute to send a request's head."""
        super().connection_made(GatheringTransport(transport, self.loop))
        self._statistics.connections_active += 1
        self._statistics.connections_accepted += 1
        self._statistics.connections_handled += 1
        self._head_timer = self.loop.call_later(HEADER_TIMEOUT, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        """End a connection, and notify the request in progress or the tunnel."""
        self._stop_head_timer()
        if self._tunnel is not None:
            self._tunnel.feed_eof()
        self._statistics.connections_active -= 1
        if self.conn.on_disconnect is not None:
            self.conn.on_disconnect()
        super().connection_lost(exc)
        # uvicorn does not close a broken TLS transport, and asyncio warns about it.
        self.transport.close()

    def data_received(self, data: bytes) -> None:
        """Handle data of the client: HTTP, or after an upgrade bytes for the tunnel."""
        if self._tunnel is None:
            super().data_received(data)
        else:
            self._tunnel.feed_data(data)

    def switch(self, headers: RawHeaders) -> asyncio.StreamReader:
        """Answer 101 to a request for an upgrade, and return a reader for the client's further data.

        The connection is closed when the application has finished the request.
        """
        switching = h11.InformationalResponse(status_code=101, headers=headers, reason=b"Switching Protocols")
        self.transport.write(self.conn.send(switching) or b"")
        self.cycle.response_started = True
        self._tunnel = asyncio.StreamReader()
        # The reader pauses the transport when the service reads slowly.
        self._tunnel.set_transport(self.transport)
        self._tunnel.feed_data(self.conn.trailing_data[0])
        if self.transport.is_closing():
            self._tunnel.feed_eof()
        self.flow.resume_reading()
        return self._tunnel

    def handle_events(self) -> None:
        """Start a task for a request whose head is complete."""
        before = self.scope
        super().handle_events()
        if self.scope is not before:
            self._stop_head_timer()
            self.scope["extensions"] = {"kong": self}  # type: ignore[dict-item]
            if self._is_ending:
                self.cycle.keep_alive = False
        elif self.conn.their_state is h11.IDLE and self._head_timer is None:
            self._head_timer = self.loop.call_later(HEADER_TIMEOUT, self._head_timed_out)

    def shutdown(self) -> None:
        """End the connection after the request in flight. A new one gets a moment to send its first request."""
        if self.cycle is None:
            self._is_ending = True
            self.loop.call_later(FIRST_REQUEST, self._close_without_request)
        else:
            super().shutdown()

    def _close_without_request(self) -> None:
        if self.awaits_request:
            self.transport.close()

    def abort(self) -> None:
        """Break off the connection, so that the client sees that its response is incomplete."""
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP as Kong does, and close."""
        kind, body = error_page("*/*", message_of(400), "")
        headers = [
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
            ("Server", f"kong/{KONG_VERSION}"),
        ]
        try:
            events = (
                h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
                h11.Data(data=body),
                h11.EndOfMessage(),
            )
            self.transport.write(b"".join(self.conn.send(event) or b"" for event in events))
        except h11.LocalProtocolError:
            # A response to an earlier request of this connection is being sent.
            self.transport.abort()
            return
        if self.cycle is not None:  # a request whose body is invalid: its application can send nothing any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.close()

    def _should_upgrade(self) -> bool:
        return False

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_timed_out(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()
