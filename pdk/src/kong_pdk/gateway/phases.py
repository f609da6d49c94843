"""Runs the plugins of a request's phases, in order, and turns what goes wrong in one into Kong's 500."""

from __future__ import annotations

import asyncio

from kong_pdk.error_page import UNEXPECTED
from kong_pdk.gateway.errors import error_exit
from kong_pdk.gateway.exchange import Exchange, Exit, Refused
from kong_pdk.gateway.plugins import Applied, Registry
from kong_pdk.gateway.servers.failures import PluginFailed


async def run_phase(exchange: Exchange, phase: str, registry: Registry) -> None:
    """Run any phase but ``log``.

    Raises :class:`~kong_pdk.gateway.exchange.Exit` when a plugin answers the client, and with status 500 when
    a plugin fails. ``exchange.response.source`` is ``exit`` then, as in Kong.
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
    """Run ``log`` when the client has its response. A plugin that fails is only logged."""
    while exchange.at_end:
        exchange.at_end.pop()()
    exchange.phase = "log"
    tasks = [_log(exchange, applied) for applied in registry.applied(exchange, "log")]
    await asyncio.gather(*tasks)


async def _log(exchange: Exchange, applied: Applied) -> None:
    try:
        await applied.handler.run(exchange, applied.plugin, "log")
    except Exit:
        return
    except Exception as error:  # noqa: BLE001 - nobody is left to answer, and the other plugins must run
        _report(exchange, applied, "log", error)


def _report(exchange: Exchange, applied: Applied, phase: str, error: Exception) -> None:
    exchange.node.log.write(
        "error", f"[{applied.plugin.name}] failed to run its {phase}: {error}, {exchange.described()}"
    )
