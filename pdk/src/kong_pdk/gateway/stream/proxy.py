"""Takes a client's TCP connection through Kong's phases and carries its bytes to the service and back."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import traceback
from collections.abc import Callable

from kong_pdk.gateway.acceptor import close_after_last_byte, reset
from kong_pdk.gateway.app import Generation
from kong_pdk.gateway.ends import Ends, ends_of
from kong_pdk.gateway.entities import Service
from kong_pdk.gateway.exchange import Exit
from kong_pdk.gateway.phases import run_log, run_phase
from kong_pdk.gateway.stream.access_log import StreamAccessLog
from kong_pdk.gateway.stream.relay import Relay
from kong_pdk.gateway.stream.routes import StreamRouter
from kong_pdk.gateway.stream.session import INTERNAL_ERROR, Session, session_of
from kong_pdk.gateway.stream.upstream import Unconnected, connect

# How long a client may go on sending to a session that is over, in seconds.
_LINGER = 2.0


class _Ended(Exception):
    """The session ends before any byte was carried, with this status of nginx's."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StreamProxy:
    """Serves connections; each keeps the configuration that it began with. ``current`` gives the one in force."""

    def __init__(self, current: Callable[[], Generation], access_log: StreamAccessLog) -> None:
        self._current = current
        self._access_log = access_log

    async def serve(self, client: socket.socket) -> None:
        """Serve one connection to its end, and close it. A cancelled session is cut off."""
        generation = self._current()
        try:
            session = session_of(generation.node, ends_of(client))
        except OSError:
            client.close()  # it was gone again before it was served
            return
        statistics = generation.node.statistics
        statistics.connections_accepted += 1
        statistics.connections_handled += 1
        statistics.connections_active += 1
        generation.enter()
        try:
            await self._serve(generation, session, client)
        finally:
            reset(client)  # does nothing to one that is closed
            statistics.connections_active -= 1
            generation.leave()

    async def _serve(self, generation: Generation, session: Session, client: socket.socket) -> None:
        try:
            await self._carry(generation, session, client)
        except (_Ended, Unconnected) as error:
            session.status = error.status
            reset(client)  # an end without a word would look like that of a whole session
        except Exception as error:  # noqa: BLE001 - whatever it is, this session alone ends
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            session.node.log.write("error", f"unexpected {text}{session.described()}")
            session.status = INTERNAL_ERROR
            reset(client)
        session.duration = session.seconds()
        self._access_log.write(session)
        over = [self._log(generation, session)]
        if client.fileno() >= 0:
            over.append(close_after_last_byte(client, _LINGER))
        await asyncio.gather(*over)

    async def _log(self, generation: Generation, session: Session) -> None:
        """Run ``log``; where no route or no service was found Kong does not come to the plugins."""
        if session.route is not None and generation.stream is not None:
            await run_log(session, generation.stream.registry)

    async def _carry(self, generation: Generation, session: Session, client: socket.socket) -> None:
        side = generation.stream
        if side is None:  # streams were taken out of the settings by a reload; the listener stays until a restart
            raise _Ended(INTERNAL_ERROR, "no stream_listen")
        _route(session, side.router)
        try:
            await run_phase(session, "preread", side.registry)
        except Exit as answer:
            raise _Ended(answer.status, "a plugin ended it") from None
        with contextlib.closing(await connect(session, generation.balancer)) as upstream:
            half_close = generation.node.settings.stream_half_close
            relay = Relay(session, client, upstream, session.upstream.read_timeout, half_close)
            ended_by = await relay.run()
        if ended_by is not None:
            session.node.log.write("info", f"{ended_by} while proxying connection, {session.described()}")


def _route(session: Session, router: StreamRouter) -> None:
    """Fill in route, service and the address to connect to; raise _Ended where there is none."""
    ends = Ends(session.request.client_ip, session.request.client_port, session.server_ip, session.server_port)
    match = router.match(ends)
    if match is None:
        raise _refusal(session, "no Route found with those values")
    service = match.service
    if service is None:
        raise _refusal(session, "no Service found with those values")
    if service.protocol != "tcp":
        raise _refusal(
            session,
            f"service {service.name or service.id}: protocol {service.protocol} is not one of this gateway's for "
            "streams, which is tcp",
        )
    session.route, session.service = match.route, service
    _address(session, service)


def _address(session: Session, service: Service) -> None:
    upstream = session.upstream
    upstream.scheme, upstream.host, upstream.port = service.protocol, service.host, service.port
    upstream.retries = service.retries
    upstream.connect_timeout = service.connect_timeout / 1000
    upstream.write_timeout = service.write_timeout / 1000
    upstream.read_timeout = service.read_timeout / 1000


def _refusal(session: Session, message: str) -> _Ended:
    session.node.log.write("error", f"{message}, {session.described()}")
    return _Ended(INTERNAL_ERROR, message)
