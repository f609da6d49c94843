"""Takes a client's TCP connection through Kong's phases and carries its bytes to the service and back."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
import time
import traceback
from collections.abc import Callable
from typing import Any

from kong_pdk.gateway.acceptor import close_after_last_byte, reset
from kong_pdk.gateway.access_log import StreamAccessLog
from kong_pdk.gateway.app import Generation
from kong_pdk.gateway.balancer import Address, Balancer, NoPeer
from kong_pdk.gateway.entities import Service
from kong_pdk.gateway.exchange import Endpoints, Exit, endpoints_of
from kong_pdk.gateway.phases import run_log, run_phase
from kong_pdk.gateway.stream.relay import Relay
from kong_pdk.gateway.stream.routes import StreamRouter
from kong_pdk.gateway.stream.session import BAD_GATEWAY, INTERNAL_ERROR, Session, session_of


class ConnectFailed(Exception):
    """No connection to the service was to be had; ``status`` is what nginx ends the session with."""

    status = BAD_GATEWAY


async def connect(session: Session, balancer: Balancer) -> socket.socket:
    """A connection to the service. Raises :class:`Unconnected` when the last try has failed."""
    upstream = session.upstream
    session.proxy_latency = int((time.time() - session.start_time) * 1000)
    for remaining in range(upstream.retries, -1, -1):
        address = _next_address(session, balancer)
        try:
            return await asyncio.wait_for(_open(address), upstream.connect_timeout)
        except (OSError, asyncio.TimeoutError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "timed out"
            session.tries[-1] |= {"state": "failed", "code": BAD_GATEWAY}
            message = f"connect() to {address.host}:{address.port} failed ({reason})"
            session.node.log.write("error", f"{message}, {session.log_context()}")
            if not remaining:
                raise ConnectFailed(message) from error
    raise AssertionError("the last try either connects or raises")


def _next_address(session: Session, balancer: Balancer) -> Address:
    try:
        return balancer.next_try(session)
    except NoPeer:
        message = "failure to get a peer from the ring-balancer"
        session.node.log.write("error", f"{message}, {session.log_context()}")
        raise ConnectFailed(message) from None


async def _open(address: Address) -> socket.socket:
    failure: OSError | None = None
    for family, socket_address in await _resolve(address):
        connection = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connection, socket_address)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError("name resolution failed")


async def _resolve(address: Address) -> list[tuple[int, Any]]:
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        addresses = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return [(family, address_info) for family, _, _, _, address_info in addresses]
    return [(socket.AF_INET6 if version == 6 else socket.AF_INET, (address.host, address.port))]


# How long a client may go on sending to a session that is over, in seconds.
_LINGER_SECONDS = 2.0


class _SessionEnded(Exception):
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
            session = session_of(generation.node, endpoints_of(client))
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
            await self._proxy(generation, session, client)
        except (_SessionEnded, ConnectFailed) as error:
            session.status = error.status
            reset(client)  # an end without a word would look like that of a whole session
        except Exception as error:  # noqa: BLE001 - whatever it is, this session alone ends
            text = "".join(traceback.format_exception(type(error), error, error.__traceback__))
            session.node.log.write("error", f"unexpected {text}{session.log_context()}")
            session.status = INTERNAL_ERROR
            reset(client)
        session.duration = session.seconds()
        self._access_log.write(session)
        tasks = [self._log(generation, session)]
        if client.fileno() >= 0:
            tasks.append(close_after_last_byte(client, _LINGER_SECONDS))
        await asyncio.gather(*tasks)

    async def _log(self, generation: Generation, session: Session) -> None:
        """Run ``log``; where no route or no service was found Kong does not come to the plugins."""
        if session.route is not None and generation.stream is not None:
            await run_log(session, generation.stream.registry)

    async def _proxy(self, generation: Generation, session: Session, client: socket.socket) -> None:
        subsystem = generation.stream
        if subsystem is None:  # streams were taken out of the settings by a reload; the listener stays until a restart
            raise _SessionEnded(INTERNAL_ERROR, "no stream_listen")
        _set_route(session, subsystem.router)
        try:
            await run_phase(session, "preread", subsystem.registry)
        except Exit as answer:
            raise _SessionEnded(answer.status, "a plugin ended it") from None
        with contextlib.closing(await connect(session, generation.balancer)) as upstream:
            half_close = generation.node.settings.stream_half_close
            relay = Relay(session, client, upstream, session.upstream.read_timeout, half_close)
            ended_by = await relay.run()
        if ended_by is not None:
            session.node.log.write("info", f"{ended_by} while proxying connection, {session.log_context()}")


def _set_route(session: Session, router: StreamRouter) -> None:
    """Fill in route, service and the address to connect to; raise _Ended where there is none."""
    endpoints = Endpoints(
        session.request.client_ip, session.request.client_port, session.server_ip, session.server_port
    )
    match = router.match(endpoints)
    if match is None:
        raise _refusal(session, "no Route found with those values")
    service = match.service
    if service is None:
        raise _refusal(session, "no Service found with those values")
    if service.protocol != "tcp":
        raise _refusal(
            session,
            f"service {service.name or service.id}: protocol {service.protocol} is not supported on streams "
            "by this gateway, which has tcp",
        )
    session.route, session.service = match.route, service
    _set_upstream(session, service)


def _set_upstream(session: Session, service: Service) -> None:
    upstream = session.upstream
    upstream.scheme, upstream.host, upstream.port = service.protocol, service.host, service.port
    upstream.retries = service.retries
    upstream.connect_timeout = service.connect_timeout / 1000
    upstream.write_timeout = service.write_timeout / 1000
    upstream.read_timeout = service.read_timeout / 1000


def _refusal(session: Session, message: str) -> _SessionEnded:
    session.node.log.write("error", f"{message}, {session.log_context()}")
    return _SessionEnded(INTERNAL_ERROR, message)
