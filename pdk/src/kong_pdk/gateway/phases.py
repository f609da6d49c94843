"""Chooses the plugins for a request, their configuration and order, and runs them. Failures become Kong's 500."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kong_pdk.error_page import UNEXPECTED
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.error_responses import error_exit
from kong_pdk.gateway.exchange import Exchange, Exit, Refused
from kong_pdk.gateway.routing import HTTP_PROTOCOLS
from kong_pdk.gateway.servers.failures import PluginFailed

# Kong's order from the most specific configuration to the least: (route, service, consumer).
_PRECEDENCE = (
    (True, True, True),
    (True, False, True),
    (False, True, True),
    (True, True, False),
    (False, False, True),
    (True, False, False),
    (False, True, False),
    (False, False, False),
)

Scope = tuple[str | None, str | None, str | None]


class Handler(Protocol):
    """A plugin's code: in this process (key-auth) or behind a plugin server."""

    @property
    def name(self) -> str: ...

    @property
    def priority(self) -> int: ...

    @property
    def phases(self) -> Collection[str]: ...

    async def run(self, exchange: Exchange, plugin: PluginConfig, phase: str) -> None:
        """Run one phase. Raises :class:`~kong_pdk.gateway.exchange.Exit` to respond to the client."""
        ...


@dataclass(frozen=True)
class Applied:
    """A handler, and its configuration for this request."""

    handler: Handler
    plugin: PluginConfig


class Registry:
    """The plugin entries of one configuration that apply to one subsystem, whose protocols are ``protocols``.

    Kong uses a plugin's protocols only to choose between the HTTP and the stream subsystem.
    """

    def __init__(
        self,
        plugins: Iterable[PluginConfig],
        handlers: Mapping[str, Handler],
        protocols: Collection[str] = HTTP_PROTOCOLS,
    ) -> None:
        self._scopes: dict[str, dict[Scope, PluginConfig]] = {}
        for plugin in plugins:
            if plugin.consumer_group is not None:  # the gateway has no consumer groups
                continue
            if plugin.enabled and plugin.name in handlers and set(protocols).intersection(plugin.protocols):
                scope = (plugin.route_id, plugin.service_id, plugin.consumer_id)
                self._scopes.setdefault(plugin.name, {})[scope] = plugin
        # Kong runs higher priorities first, and of equal priorities the greater name.
        names = sorted(self._scopes, key=lambda name: (handlers[name].priority, name), reverse=True)
        self._ordered = [handlers[name] for name in names]

    def applied(self, exchange: Exchange, phase: str) -> Iterator[Applied]:
        """The plugins of this phase in their order. Lazy, since a plugin in ``access`` may set the consumer.

        ``rewrite`` and ``certificate`` run before the route is known, so only global plugins run in them.
        """
        unrouted = phase in {"rewrite", "certificate"}
        for handler in self._ordered:
            if phase in handler.phases:
                plugin = self._configuration(exchange, handler.name, unrouted)
                if plugin is not None:
                    yield Applied(handler, plugin)

    def has_global(self, phase: str) -> bool:
        """Whether a globally configured plugin handles this phase."""
        return any(
            phase in handler.phases and (None, None, None) in self._scopes[handler.name] for handler in self._ordered
        )

    def has(self, exchange: Exchange, phase: str) -> bool:
        """Whether a plugin handles this phase for this request."""
        return any(True for _ in self.applied(exchange, phase))

    def _configuration(self, exchange: Exchange, name: str, unrouted: bool) -> PluginConfig | None:
        scopes = self._scopes[name]
        if unrouted:
            return scopes.get((None, None, None))
        route = exchange.route.id if exchange.route else None
        service = exchange.service.id if exchange.service else None
        consumer = exchange.consumer.id if exchange.consumer else None
        for with_route, with_service, with_consumer in _PRECEDENCE:
            scope = (
                route if with_route else None,
                service if with_service else None,
                consumer if with_consumer else None,
            )
            plugin = scopes.get(scope)
            if plugin is not None:
                return plugin
        return None


async def run_phase(exchange: Exchange, phase: str, registry: Registry) -> None:
    """Run any phase except ``log``.

    Raises :class:`~kong_pdk.gateway.exchange.Exit` if a plugin responds to the client, and with status 500 if a plugin
    fails. As in Kong, ``exchange.response.source`` is then ``exit``.
    """
    exchange.phase = phase
    try:
        for applied in registry.applied(exchange, phase):
            await _run(exchange, applied, phase)
    except Exit:
        exchange.response.source = "exit"
        raise


async def _run(exchange: Exchange, applied: Applied, phase: str) -> None:
    try:
        await applied.handler.run(exchange, applied.plugin, phase)
    except (Refused, PluginFailed) as error:
        _report(exchange, applied, phase, error)
        raise error_exit(exchange, 500, UNEXPECTED) from error


async def run_log(exchange: Exchange, registry: Registry) -> None:
    """Run ``log`` after the client has its response. The failure of a plugin is only logged."""
    while exchange.at_end:
        exchange.at_end.pop()()
    exchange.phase = "log"
    tasks = [_run_log_handler(exchange, applied) for applied in registry.applied(exchange, "log")]
    await asyncio.gather(*tasks)


async def _run_log_handler(exchange: Exchange, applied: Applied) -> None:
    try:
        await applied.handler.run(exchange, applied.plugin, "log")
    except Exit:
        return
    except Exception as error:  # noqa: BLE001 - the response is sent, and the other plugins must run
        _report(exchange, applied, "log", error)


def _report(exchange: Exchange, applied: Applied, phase: str, error: Exception) -> None:
    exchange.node.log.write(
        "error", f"[{applied.plugin.name}] failed to run its {phase}: {error}, {exchange.log_context()}"
    )
