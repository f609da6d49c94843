"""The two ends of a client's connection, and what is known of a client that has not asked for anything."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from kong_pdk.gateway.exchange import Body, Request


@dataclass(frozen=True)
class Ends:
    """Addresses and ports: the client's, and where it has arrived."""

    source_ip: str
    source_port: int
    destination_ip: str
    destination_port: int


def ends_of(connection: socket.socket) -> Ends:
    """Both ends of a connection. Raises OSError when it is gone."""
    source, destination = connection.getpeername(), connection.getsockname()
    return Ends(source[0], source[1], destination[0], destination[1])


def bare_request(ends: Ends, scheme: str) -> Request:
    """A request in which nothing stands but the client's address."""
    return Request(
        method="",
        raw_path=b"",
        raw_query=b"",
        http_version="",
        headers=[],
        scheme=scheme,
        host="",
        port=ends.destination_port,
        client_ip=ends.source_ip,
        client_port=ends.source_port,
        read_body=_no_body,
    )


async def _no_body() -> Body:
    return Body()
