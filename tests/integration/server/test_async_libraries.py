"""The asynchronous libraries of the field in ``async def`` handlers, on every engine, over both protocols."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from fake_kong import FakeKong
from local_servers import Answer, Request, http_service, tcp_service
from server_process import Connect, Serve
from waiting import DEADLINE

PLUGIN = """
import asyncio
import threading

import aiohttp
import httpx
import redis.asyncio

threads = set()


class Plugin:
    def __init__(self, config):
        self.config = config
        self.httpx = httpx.AsyncClient()
        self.redis = redis.asyncio.Redis(port=config["redis_port"])

    async def access(self, kong):
        name, _ = await kong.request.get_header("x-name")
        threads.add(threading.get_ident())
        url = self.config["url"]
        async with aiohttp.ClientSession() as session:
            answers = await asyncio.gather(
                self.by_httpx(f"{url}/httpx-{name}"),
                self.by_aiohttp(session, f"{url}/aiohttp-{name}"),
                self.redis.get(f"key-{name}"),
                self.by_subprocess(name),
            )
        await kong.response.set_header("x-value", f"{answers} {len(threads)}")

    async def by_httpx(self, url):
        return (await self.httpx.get(url)).text

    async def by_aiohttp(self, session, url):
        async with session.get(url) as response:
            return await response.text()

    async def by_subprocess(self, name):
        if not self.config["has_subprocesses"]:
            return name
        process = await asyncio.create_subprocess_exec("echo", name, stdout=asyncio.subprocess.PIPE)
        output, _ = await process.communicate()
        return output.decode().strip()

    def log(self, kong):
        kong.log.info("plain")

    async def close(self):
        await self.httpx.aclose()
        await self.redis.aclose()
        print("closed", flush=True)
"""


def _redis(connection: socket.socket) -> None:
    """Answer as redis does: GET by the key, anything else by OK."""
    received = connection.makefile("rb")
    while line := received.readline():
        words = [received.read(int(received.readline()[1:]) + 2)[:-2] for _ in range(int(line[1:]))]
        connection.sendall(b"$%d\r\n%s\r\n" % (len(words[1]), words[1]) if words[0] == b"GET" else b"+OK\r\n")


def test_they_work_side_by_side(serve: Serve, connect: Connect, mode: str) -> None:
    together = threading.Barrier(8, timeout=DEADLINE)

    def answer(request: Request) -> Answer:
        if "httpx" in request.path:
            together.wait()  # all handlers wait for their answers before one goes on
        return Answer(body=request.path.encode())

    def event(name: str, kong: FakeKong) -> str:
        assert kong.event(instance, "access", {"kong.request.get_header": name})
        return str(dict(args for function, args in kong.made if function == "kong.response.set_header")["x-value"])

    with ExitStack() as stack:
        port, redis_port = stack.enter_context(http_service(answer)), stack.enter_context(tcp_service(_redis))
        served = serve(PLUGIN, PATH="/usr/bin:/bin")
        names = [f"name{number}" for number in range(8)]
        kongs = [connect(served) for _ in names]
        config = {"url": f"http://127.0.0.1:{port}", "redis_port": redis_port}
        config["has_subprocesses"] = "gevent" not in mode  # gevent watches those of the process's first thread alone
        instance = kongs[0].start("probe", config)
        with ThreadPoolExecutor(len(names)) as threads:
            values = list(threads.map(event, names, kongs))
        for name, value in zip(names, values, strict=True):
            assert value == f"{[f'/httpx-{name}', f'/aiohttp-{name}', f'key-{name}'.encode(), name]} 1"
        assert kongs[0].event(instance, "log")
        for kong in kongs:
            kong.close()
        assert served.stop() == 0
    assert "closed" in served.said()
    assert "error]" not in served.said()
    assert "warn]" not in served.said()


@pytest.mark.parametrize("phases", [("access", "log"), ("access",)])
def test_the_log_tells_how_handlers_run(phases: tuple[str, ...], serve: Serve) -> None:
    text = "class Plugin:\n    def __init__(self, config): pass\n    async def access(self, kong): pass\n"
    if "log" in phases:
        text += "    def log(self, kong): pass\n"
    said = serve(text, "--engine", "auto").said()
    if "log" in phases:
        assert "probe: its handlers run by the engine loop (its source needs no threads); by asyncio: access" in said
    else:
        assert "probe: its handlers run by asyncio (they are async def)" in said
