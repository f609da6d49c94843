"""Connects a session to its service, with retries over the targets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import time
from typing import Any

from kong_pdk.gateway.balancer import Address, Balancer, NoPeer
from kong_pdk.gateway.stream.session import BAD_GATEWAY, Session


class Unconnected(Exception):
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
            session.node.log.write("error", f"{message}, {session.described()}")
            if not remaining:
                raise Unconnected(message) from error
    raise AssertionError("the last try either connects or raises")


def _next_address(session: Session, balancer: Balancer) -> Address:
    try:
        return balancer.next_try(session)
    except NoPeer:
        message = "failure to get a peer from the ring-balancer"
        session.node.log.write("error", f"{message}, {session.described()}")
        raise Unconnected(message) from None


async def _open(address: Address) -> socket.socket:
    failure: OSError | None = None
    for family, where in await _resolved(address):
        connection = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await asyncio.get_running_loop().sock_connect(connection, where)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError("name resolution failed")


async def _resolved(address: Address) -> list[tuple[int, Any]]:
    try:
        version = ipaddress.ip_address(address.host).version
    except ValueError:
        found = await asyncio.get_running_loop().getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
        return [(family, where) for family, _, _, _, where in found]
    return [(socket.AF_INET6 if version == 6 else socket.AF_INET, (address.host, address.port))]
