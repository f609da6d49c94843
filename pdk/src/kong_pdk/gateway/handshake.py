"""The phase ``certificate``: plugins that run in a TLS handshake, after the client's hello."""

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

# nginx's client_header_timeout, which limits handshakes too, in seconds.
HANDSHAKE_TIMEOUT = 60.0
# Time for the client to close the connection after the alert, in seconds.
_LINGER_SECONDS = 2.0
# A TLS record: type alert, version 3.3, length 2, fatal, internal_error.
_ALERT = bytes((21, 3, 3, 0, 2, 2, 80))


@dataclass
class Handshake(Exchange):
    """A TLS handshake as an exchange, of which only the addresses are known.

    ``server_name`` is the name that the client requests (SNI). The later requests of the connection do not see this
    exchange.
    """

    server_name: str | None = None

    def log_context(self) -> str:
        """The client and the requested name as nginx adds them to a line of its error log."""
        request = self.request
        # The name comes from the client and may contain line breaks.
        name = "" if self.server_name is None else f", server name: {json.dumps(self.server_name)}"
        return f"client: {request.client_ip}, server: 0.0.0.0:{request.port}{name}"


class CertificatePhase:
    """Runs the phase before the TLS handshakes of connections. ``current`` returns the current configuration."""

    def __init__(self, current: Callable[[], Generation]) -> None:
        self._current = current

    async def passes(self, connection: socket.socket) -> bool:
        """Whether the handshake may go on; if not, the connection is closed here, with an alert.

        Without a plugin for the phase nothing is read from the connection. With one, no client bypasses the phase: a
        hello that cannot be parsed is refused, although OpenSSL might accept it.
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
        # The version that OpenSSL will choose: the listeners support 1.2 and 1.3.
        handshake.request.tls_version = "TLSv1.3" if hello.speaks_tls_1_3 else "TLSv1.2"
        generation.enter()
        try:
            await run_phase(handshake, "certificate", generation.registry)
        except Exit:
            return False
        except Exception as error:  # noqa: BLE001 - any error fails only this handshake
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
    """Fail the handshake with the alert that OpenSSL sends when a callback fails, and close the connection."""
    try:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(BlockingIOError):
            # The hello was only peeked at; closing with unread data would lose the alert.
            connection.recv(LONGEST_HELLO)
        await asyncio.wait_for(loop.sock_sendall(connection, _ALERT), _LINGER_SECONDS)
    except (OSError, asyncio.TimeoutError):
        connection.close()
        return
    await close_after_last_byte(connection, _LINGER_SECONDS)
