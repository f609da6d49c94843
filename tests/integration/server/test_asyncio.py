"""asyncio in handlers that run at the same time, in every mode, over both protocols."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_kong import FakeKong
from server_process import ONE, Connect, Serve
from waiting import DEADLINE

PLUGIN = '''
import asyncio
import contextvars
import threading
import time

ours = contextvars.ContextVar("ours")
shared = asyncio.new_event_loop()
in_a_thread = asyncio.new_event_loop()
threading.Thread(target=in_a_thread.run_forever, daemon=True).start()


async def numbers():
    for number in range(3):
        await asyncio.sleep(0.001)
        yield number


async def work(kong, name):
    """Whatever others do meanwhile, a coroutine keeps its loop, its task, its context and its generators."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    ours.set(name)
    taken = []
    async for number in numbers():
        taken.append(number)
        time.sleep(0.001)  # greenlets switch within the coroutine
        taken.append(kong.request.get_header("x-wait")[0])  # and here
        assert asyncio.get_running_loop() is loop
        assert asyncio.current_task() is task
    in_threads = await asyncio.gather(*(asyncio.to_thread(asyncio.run, asyncio.sleep(0.001, n)) for n in range(2)))
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    child, _ = await process.communicate()
    assert ours.get() == name
    return f"{name} {taken} {in_threads} {child.decode().strip()} {process.returncode}"


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        name, _ = kong.request.get_header("x-name")
        if name.startswith("run"):
            value = asyncio.run(work(kong, name))
        elif name.startswith("loop"):
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            value = loop.run_until_complete(work(kong, name))
            loop.close()
        else:
            value = asyncio.run_coroutine_threadsafe(work(kong, name), in_a_thread).result(10)
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            kong.response.set_header("x-value", value)

    def rewrite(self, kong):
        async def inner():
            asyncio.run(work(kong, "x"))

        asyncio.run(inner())

    def response(self, kong):
        async def ask():
            kong.request.get_header("x-wait")

        shared.run_until_complete(ask())
'''


def test_handlers_run_event_loops_side_by_side(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN, PATH="/usr/bin:/bin")
    names = [f"{kind}{number}" for kind in ("run", "loop", "thread") for number in range(4)]
    with_a_loop = [name for name in names if not name.startswith("thread")]
    together = threading.Barrier(len(with_a_loop), timeout=DEADLINE)
    first = threading.local()

    def answer(header: str, *_: object) -> str:
        if header == "x-name":
            return str(first.name)
        if first.name in with_a_loop and not hasattr(first, "waited"):
            first.waited = together.wait()  # every handler is within its coroutine before one goes on
        return "waited"

    def event(name: str, kong: FakeKong) -> list[tuple[str, list[object]]]:
        first.name = name
        assert kong.event(kong.start("probe", {"name": name}), "access", {"kong.request.get_header": answer})
        return kong.made

    kongs = [connect(served) for _ in names]
    with ThreadPoolExecutor(len(names)) as threads:
        made = list(threads.map(event, names, kongs))
    taken = [0, "waited", 1, "waited", 2, "waited"]
    for name, calls in zip(names, made, strict=True):
        assert ("kong.response.set_header", ["x-value", f"{name} {taken} [0, 1] child 0"]) in calls
    assert "raised" not in served.said()


@pytest.mark.parametrize("mode", ONE)
def test_a_loop_within_a_coroutine_is_an_error_with_advice(serve: Serve, connect: Connect, mode: str) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    assert not kong.event(kong.start("probe"), "rewrite")
    said = served.wait_for_log(
        "the rewrite handler raised RuntimeError: asyncio.run() cannot be called from a running event loop; "
        "it is called within a coroutine, which can await instead"
    )
    named = 'choose engine = "threads" in the module, or KONG_PYTHON_ENGINE=threads' in said
    assert named == (mode == "gevent")


@pytest.mark.parametrize("mode", ONE)
def test_a_loop_that_requests_share_is_an_error_with_advice(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    running, go_on = threading.Event(), threading.Event()

    def wait(header: str, *_: object) -> str | None:
        if header != "x-wait":  # the error page depends on others
            return None
        running.set()
        assert go_on.wait(DEADLINE)
        return header

    def event(kong: FakeKong) -> bool:
        return kong.event(kong.start("probe"), "response", {"kong.request.get_header": wait})

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(event, connect(served))
        assert running.wait(DEADLINE)
        assert not event(connect(served))
        go_on.set()
        assert first.result(DEADLINE)
    assert (
        "the response handler raised RuntimeError: This event loop is already running; another request runs it; call "
        "asyncio.run in each handler, or run one loop in a thread of its own and give it coroutines by "
        "asyncio.run_coroutine_threadsafe"
    ) in served.said()
