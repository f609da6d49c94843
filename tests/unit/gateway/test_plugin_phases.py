"""Phases run the plugins in their order; a failed plugin is Kong's 500, except in log."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

import pytest
from kong_pdk.gateway.entities import PluginConfig
from kong_pdk.gateway.exchange import Exchange, Exit, Refused
from kong_pdk.gateway.phases import Registry, run_log, run_phase
from kong_pdk.gateway.servers.failures import PluginFailed
from unit.gateway.pdk.exchanges import scene


@dataclass
class Recorder:
    """A plugin that records its runs, and fails if configured so."""

    name: str
    priority: int
    ran: list[str]
    failure: BaseException | None = None
    phases: Collection[str] = ("rewrite", "access", "log")
    seen: list[str] = field(default_factory=list)

    async def run(self, exchange: Exchange, plugin: PluginConfig, phase: str) -> None:
        self.ran.append(self.name)
        self.seen.append(exchange.phase)
        if self.failure is not None:
            raise self.failure


def registry(*handlers: Recorder) -> Registry:
    plugins = [PluginConfig(handler.name, handler.name, {}) for handler in handlers]
    return Registry(plugins, {handler.name: handler for handler in handlers})


def test_higher_priority_runs_first() -> None:
    ran: list[str] = []
    low, high = Recorder("low", 1, ran), Recorder("high", 2, ran)
    asyncio.run(run_phase(scene().exchange, "access", registry(low, high)))
    assert ran == ["high", "low"]
    assert low.seen == ["access"]


def test_exit_skips_the_plugins_that_follow() -> None:
    ran: list[str] = []
    given = scene()
    answer = Exit(403, b"no")
    plugins = registry(Recorder("a", 2, ran, answer), Recorder("b", 1, ran))
    with pytest.raises(Exit) as raised:
        asyncio.run(run_phase(given.exchange, "access", plugins))
    assert raised.value is answer
    assert (ran, given.exchange.response.source) == (["a"], "exit")


@pytest.mark.parametrize("failure", [Refused("wrong phase"), PluginFailed("server is down")])
def test_failed_plugin_is_kongs_500(failure: Exception) -> None:
    ran: list[str] = []
    given = scene()
    plugins = registry(Recorder("a", 2, ran, failure), Recorder("b", 1, ran))
    with pytest.raises(Exit) as raised:
        asyncio.run(run_phase(given.exchange, "rewrite", plugins))
    assert raised.value.status == 500
    assert b"An unexpected error occurred" in (raised.value.body or b"")
    assert ran == ["a"]
    assert f"[error] kong: [a] failed to run its rewrite: {failure}" in given.written.getvalue()


@pytest.mark.parametrize("failure", [Refused("wrong phase"), PluginFailed("down"), RuntimeError("bug"), Exit(1, b"")])
def test_in_log_every_plugin_runs_despite_failures(failure: BaseException) -> None:
    ran: list[str] = []
    given = scene()
    ended: list[str] = []
    given.exchange.at_end.append(lambda: ended.append("connection"))
    plugins = registry(Recorder("a", 2, ran, failure), Recorder("b", 1, ran))
    asyncio.run(run_log(given.exchange, plugins))
    assert ran == ["a", "b"]
    assert ended == ["connection"]
    assert given.exchange.phase == "log"
