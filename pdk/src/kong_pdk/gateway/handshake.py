"""The phase ``certificate``: plugins that take part in a TLS handshake, between the client's hello and our answer."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass

from kong_pdk.gateway.acceptor import close_after_last_byte
from kong_pdk.gateway.app import Generation
from kong_pdk.gateway.client_hello import LONGEST_HELLO, ClientHello, NotTls, peek
from kong_pdk.gateway.exchange import Exchange, Exit, bare_request, endpoints_of
from kong_pdk.gateway.phases import run_phase

# nginx's client_header_timeout, which bounds its handshakes too, in seconds.
HANDSHAKE_TIMEOUT = 60.0
# How long a client may take to close after the alert, in seconds.
_LINGER_SECONDS = 2.0
# A TLS record: alert, version 3.3, two bytes: fatal, internal_error.
_ALERT = bytes((21, 3, 3, 0, 2, 2, 80))


@dataclass
class Handshake(Exchange):
    """A TLS handshake in the place of a request: only the client's address is known.

    ``server_name`` is the name that the client asks for (SNI). Nothing of it is seen by the requests of the
    connection.
    """

    server_name: str | None = None

    def log_context(self) -> str:
        """What nginx adds to a line of the error log: who is served, and the name asked for."""
        request = self.request
        # The client may have put anything into it, ends of lines too.
        name = "" if self.server_name is None else f", server name: {json.dumps(self.server_name)}"
        return f"client: {request.client_ip}, server: 0.0.0.0:{request.port}{name}"


class CertificatePhase:
    """Runs the phase for connections that are about to shake hands. ``current`` gives the configuration in force."""

    def __init__(self, current: Callable[[], Generation]) -> None:
        self._current = current

    async def passes(self, connection: socket.socket) -> bool:
        """Whether the handshake may go on; where not, the client has been told and the connection is closed.

        Without a plugin for the phase nothing is read and nothing is waited for. With one, nobody gets past it:
        what is no hello, or none that we read as OpenSSL might, is refused.
        """
        if not self._current().registry.has_global("certificate"):
            return True
        try:
            hello = await asyncio.wait_for(peek(connection), HANDSHAKE_TIMEOUT)
        except NotTls:
            await _send_alert(connection)
            return False
        except (OSError, asyncio.TimeoutError):
            connection.close()
            return False
        if hello is None:
            connection.close()
            return False
        if await self._run(connection, hello):
            return True
        await _send_alert(connection)
        return False

    async def _run(self, connection: socket.socket, hello: ClientHello) -> bool:
        generation = self._current()
        try:
            endpoints = endpoints_of(connection)
        except OSError:
            return False
        handshake = Handshake(
            node=generation.node,
            request=bare_request(endpoints, "https"),
            request_id="",
            phase="certificate",
            server_name=hello.server_name,
        )
        # What OpenSSL is about to choose: the listeners have 1.2 and 1.3.
        handshake.request.tls_version = "TLSv1.3" if hello.speaks_tls_1_3 else "TLSv1.2"
        generation.enter()
        try:
            await run_phase(handshake, "certificate", generation.registry)
        except Exit:
            return False
        except Exception as error:  # noqa: BLE001 - whatever it is, this handshake alone fails
            generation.node.log.write(
                "error", f"unexpected {type(error).__name__}: {error} in certificate, {handshake.log_context()}"
            )
            return False
        finally:
            for end in handshake.at_end:
                end()
            generation.leave()
        return True


async def _send_alert(connection: socket.socket) -> None:
    """Fail the handshake as OpenSSL does when a callback fails."""
    try:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            connection.recv(LONGEST_HELLO)  # what was only looked at: closing with it unread would cut the alert off
        await asyncio.wait_for(loop.sock_sendall(connection, _ALERT), _LINGER_SECONDS)
    except (OSError, asyncio.TimeoutError):
        connection.close()
        return
    await close_after_last_byte(connection, _LINGER_SECONDS)
