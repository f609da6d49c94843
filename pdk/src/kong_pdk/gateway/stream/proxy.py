"""Proxies a client's TCP connection: runs Kong's phases and carries bytes to the service and back."""

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
    """All tries to connect to the service failed. ``status`` is nginx's status of the session."""

    status = BAD_GATEWAY


async def connect(session: Session, balancer: Balancer) -> socket.socket:
    """A connection to the service. Raises :class:`ConnectFailed` when the last try has failed."""
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


# Time for the client to close its connection after the end of the session, in seconds.
_LINGER_SECONDS = 2.0


class _SessionEnded(Exception):
    """The session ends before any byte was carried, with this status in nginx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class StreamProxy:
    """Serves connections, each with one configuration to its end. ``current`` returns the current configuration."""

    def __init__(self, current: Callable[[], Generation], access_log: StreamAccessLog) -> None:
        self._current = current
        self._access_log = access_log

    async def serve(self, client: socket.socket) -> None:
        """Serve one connection to its end, and close it. A cancelled session ends with a TCP reset."""
        generation = self._current()
        try:
            session = session_of(generation.node, endpoints_of(client))
        except OSError:
            client.close()  # the client has closed it already
            return
        statistics = generation.node.statistics
        statistics.connections_accepted += 1
        statistics.connections_handled += 1
        statistics.connections_active += 1
        generation.enter()
        try:
            await self._serve(generation, session, client)
        finally:
            reset(client)  # does nothing if it is closed
            statistics.connections_active -= 1
            generation.leave()

    async def _serve(self, generation: Generation, session: Session, client: socket.socket) -> None:
        try:
            await self._proxy(generation, session, client)
        except (_SessionEnded, ConnectFailed) as error:
            session.status = error.status
            reset(client)  # a normal close would look like the end of a successful session
        except Exception as error:  # noqa: BLE001 - any error ends only this session
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
        """Run ``log``. As in Kong, no plugin runs if there is no route or no service."""
        if session.route is not None and generation.stream is not None:
            await run_log(session, generation.stream.registry)

    async def _proxy(self, generation: Generation, session: Session, client: socket.socket) -> None:
        subsystem = generation.stream
        if subsystem is None:  # a reload removed stream_listen, and the listener stays open until a restart
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
    """Set route, service and the address to connect to. Raises _SessionEnded if there is none."""
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
