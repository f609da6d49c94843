"""The proxy's ASGI application: runs Kong's phases for a request, proxies it and sends the response."""

from __future__ import annotations

import asyncio
import secrets
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import httpcore

from kong_pdk.gateway.access_log import AccessLog
from kong_pdk.gateway.balancer import Balancer
from kong_pdk.gateway.client_side import (
    Client,
    ClientBody,
    ClientGone,
    ClientStuck,
    ClientTooSlow,
    Receive,
    Scope,
    Send,
    protocol_of,
    request_of,
)
from kong_pdk.gateway.error_responses import accept_of, bodiless_page, nginx_error
from kong_pdk.gateway.exchange import Exchange, Exit, Node, ServiceResponse
from kong_pdk.gateway.forwarding import response_headers
from kong_pdk.gateway.phases import Registry, run_log, run_phase
from kong_pdk.gateway.response_headers import (
    exit_headers,
    final_headers,
    may_have_body,
    merge,
    upgrade_headers,
    with_length,
)
from kong_pdk.gateway.routing import Router, route
from kong_pdk.gateway.stream.routes import StreamRouter
from kong_pdk.gateway.tunnel import Tunnel
from kong_pdk.gateway.upstream import Connections, Failure, Sender

# The status that nginx logs if the client closes its connection before the response.
CLIENT_CLOSED_REQUEST = 499
# For these statuses nginx closes the connection without a response.
_CLOSE_SILENTLY = frozenset({444, CLIENT_CLOSED_REQUEST})
_REFUSED_METHODS = frozenset({"CONNECT", "TRACE"})


@dataclass(frozen=True)
class StreamSubsystem:
    """The routes and plugins for TCP connections. Plugins have other instances than in the HTTP subsystem."""

    router: StreamRouter
    registry: Registry


@dataclass
class Generation:
    """Everything that is made from one configuration. A request or TCP session keeps its generation to its end.

    ``active`` counts the unfinished requests and sessions of the generation. ``stream`` is None without a stream
    listener.
    """

    node: Node
    router: Router
    registry: Registry
    balancer: Balancer
    stream: StreamSubsystem | None = None
    active: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def enter(self) -> None:
        """Count a request or session that begins."""
        self.active += 1
        self.idle.clear()

    def leave(self) -> None:
        """Count a request or session that has ended, including its log phase."""
        self.active -= 1
        if not self.active:
            self.idle.set()

    async def drained(self) -> None:
        """Wait until all requests and sessions of this generation have ended."""
        while self.active:
            await self.idle.wait()


class Application:
    """The proxy's ASGI application. ``generation`` is replaced by a reload."""

    def __init__(self, generation: Generation, connections: Connections, access_log: AccessLog) -> None:
        self.generation = generation
        self.access_log = access_log
        self._connections = connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        generation = self.generation
        settings = generation.node.settings
        headers = protocol_of(scope).conn.headers

        def on_spooled(file: Path) -> None:
            text = f"a client request body is buffered to a temporary file {file}"
            generation.node.log.write("warn", f"{text}, {exchange.log_context()}")

        folder = settings.prefix / "client_body_temp"
        body = ClientBody(receive, headers, folder, settings.body_buffer_size, on_spooled)
        request = request_of(scope, body.read)
        exchange = Exchange(generation.node, request, secrets.token_hex(16))
        exchange.upstream.method = request.method
        exchange.upstream.raw_query = request.raw_query
        exchange.upstream.headers = list(request.headers)
        statistics = generation.node.statistics
        statistics.requests += 1
        statistics.writing += 1
        cycle = _RequestCycle(generation, exchange, body, Client(scope, send), self._connections)
        generation.enter()
        try:
            try:
                await cycle.run()
            finally:
                statistics.writing -= 1
            self.access_log.write(exchange, cycle.status, cycle.client.sent)
            await run_log(exchange, generation.registry)
        finally:
            generation.leave()
            body.close()


class _RequestCycle:
    """One request and its response."""

    def __init__(
        self, generation: Generation, exchange: Exchange, body: ClientBody, client: Client, connections: Connections
    ) -> None:
        self.client = client
        self.status = CLIENT_CLOSED_REQUEST
        self._generation = generation
        self._exchange = exchange
        self._body = body
        self._connections = connections

    async def run(self) -> None:
        """Run the phases and send the response. Failures become Kong's error responses."""
        try:
            answer = await self._run_phases()
            if answer is not None and not self.client.gone:
                await self._send_exit(answer)
        except ClientGone:
            self.client.gone = True
        except ClientStuck:
            self.client.abort()
        if self.client.gone:
            self._exchange.response.status = self.status = CLIENT_CLOSED_REQUEST

    async def _run_phases(self) -> Exit | None:
        """Run the phases and proxy the request; return the response that is still to be sent, if any."""
        exchange, registry = self._exchange, self._generation.registry
        try:
            if not exchange.request.http_version.startswith("1."):
                return self._refuse_http_version()
            if exchange.request.method in _REFUSED_METHODS:
                return nginx_error(exchange, 405)
            await run_phase(exchange, "rewrite", registry)
            exchange.response.source = "exit"
            route(exchange, self._generation.router)
            await run_phase(exchange, "access", registry)
            await self.client.cancelled_when_gone(self._proxy)
            await self._finish_buffered()
        except Exit as answer:
            return answer
        except ClientTooSlow:
            return nginx_error(exchange, 408)
        except (ClientGone, ClientStuck):
            raise
        except Exception as error:  # noqa: BLE001 - for any error the client gets Kong's 500
            return self._unexpected(error)
        return None

    def _refuse_http_version(self) -> Exit:
        """Refuse HTTP/2 like an nginx without http2. A request with the method PRI is the beginning of HTTP/2."""
        exchange = self._exchange
        text = "HTTP/2 is not served: the embedded gateway speaks only HTTP/1.1"
        exchange.node.log.write("notice", f"{text}, {exchange.log_context()}")
        answer = nginx_error(exchange, 400) if exchange.request.method == "PRI" else Exit(505, None)
        answer.headers.append((b"Connection", b"close"))
        return answer

    def _unexpected(self, error: Exception) -> Exit:
        text = f"unexpected {type(error).__name__}: {error}"
        if not isinstance(error, OSError):
            text += "\n" + "".join(traceback.format_exception(type(error), error, error.__traceback__))
        self._exchange.node.log.write("error", f'{text}, request_id: "{self._exchange.request_id}"')
        return nginx_error(self._exchange, 500)

    async def _proxy(self) -> None:
        exchange = self._exchange
        start = time.time()
        exchange.proxy_latency = int((start - exchange.start_time) * 1000)
        sender = Sender(self._connections, self._generation.balancer, exchange, self._body)
        answer = await sender.send()
        received = answer.response
        try:
            exchange.upstream_latency = int((time.time() - start) * 1000)
            exchange.response.source = "service"
            headers = response_headers(received.headers)
            exchange.service_response = ServiceResponse(received.status, headers)
            exchange.response.status = received.status
            exchange.response.headers = merge(exchange.response.headers, headers)
            is_buffered = self._is_buffered()
            if received.status == 101:
                await self._tunnel(received)
            elif is_buffered:
                exchange.service_response.body = await self._read_whole(received)
            else:
                await self._stream_response(received)
        finally:
            await answer.close()

    def _is_buffered(self) -> bool:
        """Whether the complete response is read before the client gets it. The response to an upgrade never is."""
        exchange = self._exchange
        is_buffered = exchange.upstream.buffering or self._generation.registry.has(exchange, "response")
        if is_buffered and exchange.upgrade:
            text = "response buffering was turned off: connection upgrade (websocket)"
            exchange.node.log.write("notice", f"{text}, {exchange.log_context()}")
        return is_buffered and not exchange.upgrade

    async def _tunnel(self, answer: httpcore.Response) -> None:
        """Carry bytes between client and service after the service has accepted the upgrade."""
        exchange = self._exchange
        self.status = answer.status
        exchange.response.headers = upgrade_headers(final_headers(exchange), answer.headers)
        client = self.client.switch(exchange.response.headers)
        service = answer.extensions["network_stream"]
        tunnel = Tunnel(client, service, exchange.upstream.read_timeout)
        reason = await tunnel.run()
        if reason is not None:
            level = "info" if tunnel.timed_out else "error"
            exchange.node.log.write(level, f"{reason} while proxying upgraded connection, {exchange.log_context()}")

    async def _read_whole(self, answer: httpcore.Response) -> bytes:
        try:
            return await answer.aread()
        except Failure as error:
            self._exchange.service_response = None
            self._exchange.response.headers = []
            raise self._upstream_error(error) from error

    async def _finish_buffered(self) -> None:
        """Run ``response`` on a buffered response and send it. The phase runs to its end even if the client leaves."""
        exchange = self._exchange
        service = exchange.service_response
        if service is None or service.body is None or self.client.gone:
            return
        await run_phase(exchange, "response", self._generation.registry)
        status = exchange.response.status or service.status
        body = service.body if exchange.response.body is None else exchange.response.body
        if exchange.request.method != "HEAD":
            exchange.response.headers = with_length(exchange.response.headers, status, body)
        await self._send(status, body)

    def _upstream_error(self, error: Exception) -> Exit:
        self._exchange.node.log.write("error", f"upstream prematurely closed connection: {error}")
        return nginx_error(self._exchange, 504 if isinstance(error, httpcore.TimeoutException) else 502)

    async def _stream_response(self, answer: httpcore.Response) -> None:
        exchange = self._exchange
        await self._start(answer.status)
        try:
            async for piece in answer.aiter_stream():
                await self.client.write(piece, more=True)
        except Failure as error:
            exchange.node.log.write(
                "error",
                f"upstream broke off its response ({type(error).__name__}: {error}), "
                f'request_id: "{exchange.request_id}"',
            )
            self.client.abort()
            return
        await self.client.write(b"", more=False)

    async def _send_exit(self, answer: Exit) -> None:
        exchange = self._exchange
        if self.client.started:
            self.client.abort()
            return
        if answer.status in _CLOSE_SILENTLY:
            self.status = exchange.response.status = answer.status
            self.client.hang_up()
            return
        content_type, body = None, answer.body
        if body is None:
            accept = accept_of(exchange) or exchange.node.settings.error_default_type
            content_type, body = bodiless_page(answer.status, accept, exchange.request_id)
        if answer.status < 200:
            exchange.node.log.write("error", f"a plugin has answered with {answer.status}, which is not a final status")
            answer = nginx_error(exchange, 500)
            body = answer.body or b""
        exchange.response.headers = exit_headers(exchange, answer, content_type, body)
        exchange.response.status = answer.status
        await self._send(answer.status, body)

    async def _start(self, status: int) -> None:
        self.status = status
        self._exchange.response.headers = final_headers(self._exchange)
        await self.client.start(status, self._exchange.response.headers)

    async def _send(self, status: int, body: bytes) -> None:
        await self._start(status)
        await self.client.write(body if may_have_body(status) else b"", more=False)
