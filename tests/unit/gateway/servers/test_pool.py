"""Connections are kept as nginx keeps them: the last one given back is the first one taken."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from kong_pdk.gateway.servers import pool as module
from kong_pdk.gateway.servers.failures import Closed, Unreachable
from kong_pdk.gateway.servers.pool import Pool
from unit.gateway.servers.scripted_servers import Streams, serving
from waiting import DEADLINE, async_wait_for


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)


def run(path: Path, work: Callable[[Pool], Awaitable[None]], serve: Streams = echo) -> None:
    async def inner() -> None:
        pool = Pool(path, DEADLINE)
        async with serving(path, serve):
            try:
                await work(pool)
            finally:
                pool.close()

    asyncio.run(inner())


def test_last_in_first_out(tmp_path: Path) -> None:
    async def work(pool: Pool) -> None:
        first, second = await pool.take(), await pool.take()
        pool.give(first)
        pool.give(second)
        assert await pool.take() is second
        assert await pool.take() is first
        for connection in (first, second):
            connection.close()

    run(tmp_path / "s", work)


def test_idle_connection_that_the_server_closed_is_not_taken(tmp_path: Path) -> None:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(100))

    async def work(pool: Pool) -> None:
        first = await pool.take()
        await first.send(b"x")
        assert await first.receive() == b"x"
        with pytest.raises(Closed):
            await first.receive()
        pool.give(first)
        second = await pool.take()
        assert second is not first
        second.close()

    run(tmp_path / "s", work, once)


def test_at_most_the_limit_stay_idle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_CONNECTIONS", 2)

    async def work(pool: Pool) -> None:
        connections = [await pool.take() for _ in range(3)]
        for connection in connections:
            pool.give(connection)
        assert [connection.usable for connection in connections] == [False, True, True]

    run(tmp_path / "s", work)


def test_idle_connections_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IDLE_SECONDS", 0.01)

    async def work(pool: Pool) -> None:
        connection = await pool.take()
        pool.give(connection)
        await async_wait_for(lambda: not connection.usable)
        another = await pool.take()
        assert another is not connection
        another.close()

    run(tmp_path / "s", work)


def test_connection_given_back_after_the_end_is_closed(tmp_path: Path) -> None:
    async def work(pool: Pool) -> None:
        connection = await pool.take()
        pool.close()
        pool.give(connection)
        assert not connection.usable

    run(tmp_path / "s", work)


def test_a_missing_server_is_reported_with_the_path(tmp_path: Path) -> None:
    path = tmp_path / "nobody"
    with pytest.raises(Unreachable, match=f"{path} failed"):
        asyncio.run(Pool(path).take())
