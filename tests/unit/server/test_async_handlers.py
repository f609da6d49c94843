"""Handlers that are ``async def``, over both protocols, on servers of every engine."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import sys
import threading
from pathlib import Path

import pytest
from fake_kong import REFUSED, Closed, ProtobufKong
from gevent import monkey
from kong_pdk import PDKError, PhaseError, stop_times
from kong_pdk.plugin.phase_methods import async_phases
from waiting import DEADLINE, wait_for

HOST = {"kong.request.get_header": "example.test"}


SOURCE = Path(__file__).read_text("utf-8").splitlines()


def place(text):
    """``FILE:LINE`` of a line of this file."""
    return f"{__file__}:{next(number for number, line in enumerate(SOURCE, 1) if line.strip() == text)}"


def statuses(kong):
    return [(function, args[0]) for function, args in kong.made]


class Base:
    def __init__(self, config):
        self.config = config


def test_calls_are_awaited(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            host, err = await kong.request.get_header("host")
            assert err is None
            await asyncio.sleep(0)
            await kong.response.set_header("x-hello", f"{self.config['message']} {host}")
            await kong.response.set_header("x-again", "yes")

    kong = connect(serve(Plugin))
    instance = kong.start("probe", {"message": "hello"})
    for _ in range(3):
        kong.made.clear()
        assert kong.event(instance, "access", HOST)
        assert kong.made == [
            ("kong.request.get_header", ["host"]),
            ("kong.response.set_header", ["x-hello", "hello example.test"]),
            ("kong.response.set_header", ["x-again", "yes"]),
        ]


def test_phases_of_both_kinds_take_turns_on_one_connection(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            await kong.response.set_header("x-host", (await kong.request.get_header("host"))[0])

        def response(self, kong):
            kong.response.set_header("x-host", kong.request.get_header("host")[0])

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    for _ in range(3):
        for phase in ("access", "response"):
            kong.made.clear()
            assert kong.event(instance, phase, HOST)
            assert kong.made[-1] == ("kong.response.set_header", ["x-host", "example.test"])


def test_without_lua_style(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            await kong.response.set_header("x-host", await kong.request.get_header("host"))

    kong = connect(serve(Plugin, lua_style=False))
    assert kong.event(kong.start("probe"), "access", HOST)
    assert kong.made[-1] == ("kong.response.set_header", ["x-host", "example.test"])


def test_an_exception_is_answered_with_500(serve, connect_whole, caplog):
    class Plugin(Base):
        async def access(self, kong):
            await kong.request.get_header("host")
            await asyncio.sleep(0)
            raise ValueError("broken on purpose")

    path = serve(Plugin)
    kong = connect_whole(path)
    assert not kong.event(kong.start("probe"), "access", HOST)
    assert kong.made[-1] == ("kong.response.error", [500])
    assert "ValueError: broken on purpose" in caplog.text
    assert "test_async_handlers.py" in caplog.text


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError, StopIteration])
def test_no_exception_ends_the_server(serve, connect_whole, error, caplog):
    class Plugin(Base):
        async def access(self, kong):
            await kong.request.get_header("host")
            raise error

        async def log(self, kong):
            await asyncio.create_task(self.fail())

        async def fail(self):
            raise error

        async def response(self, kong):
            pass

    path = serve(Plugin)
    for phase in ("access", "log"):
        kong = connect_whole(path)
        kong.event(kong.start("probe"), phase, HOST)
    assert kong.event(kong.start("probe"), "response")
    assert "probe: the access handler" in caplog.text
    assert "probe: the log handler" in caplog.text


def test_exit_ends_the_handler(serve, connect_whole):
    done = []

    class Plugin(Base):
        async def access(self, kong):
            try:
                await kong.response.exit(403, "no")
            except Exception:
                done.append("except")
            finally:
                await asyncio.sleep(0)
                done.append("finally")
            done.append("after")

    path = serve(Plugin)
    for _ in range(2):
        kong = connect_whole(path)
        assert not kong.event(kong.start("probe"), "access")
        assert statuses(kong) == [("kong.response.exit", 403)]
    wait_for(lambda: done == ["finally", "finally"], lambda: str(done))


def test_exit_in_a_gathered_coroutine(serve, connect_whole, caplog):
    class Plugin(Base):
        async def access(self, kong):
            await asyncio.gather(kong.request.get_header("host"), self.refuse(kong), asyncio.sleep(DEADLINE))

        async def refuse(self, kong):
            await kong.response.exit(403, "no")

    kong = connect_whole(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", HOST)
    assert statuses(kong)[-1] == ("kong.response.exit", 403)
    assert not caplog.records


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no groups of tasks")
def test_exit_in_a_group_of_tasks(serve, connect_whole, caplog):
    class Plugin(Base):
        async def access(self, kong):
            async with asyncio.TaskGroup() as group:
                group.create_task(kong.response.exit(403, "no"))
                group.create_task(asyncio.sleep(DEADLINE))

    kong = connect_whole(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access")
    assert statuses(kong) == [("kong.response.exit", 403)]
    assert not caplog.records


def test_gathered_calls_are_made_one_after_another(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            got = await asyncio.gather(*(kong.request.get_header(f"x-{number}") for number in range(20)))
            await kong.response.set_header("x-all", ",".join(value for value, _ in got))

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", {"kong.request.get_header": lambda name: name.upper()})
    assert kong.made[-1][1][1] == ",".join(f"X-{number}" for number in range(20))


@pytest.mark.parametrize("phase", ["access", "log"])
def test_a_call_that_is_not_awaited_is_an_error(serve, connect_whole, phase, caplog, recwarn):
    class Plugin(Base):
        async def access(self, kong):
            kong.response.exit(403)

        async def log(self, kong):
            kong.log.info("no")

    path = serve(Plugin)
    for _ in range(2):
        kong = connect_whole(path)
        assert kong.event(kong.start("probe"), phase) is (phase == "log")
    assert kong.made == ([] if phase == "log" else [("kong.response.error", [500])])
    function = "kong.log.info" if phase == "log" else "kong.response.exit"
    call = 'kong.log.info("no")' if phase == "log" else "kong.response.exit(403)"
    assert f"{phase} did not await {function} ({place(call)})" in caplog.text
    assert caplog.text.count("did not await") == 1
    assert not recwarn.list


def test_a_call_that_kong_does_not_allow(serve, connect):
    errors = []

    class Plugin(Base):
        async def rewrite(self, kong):
            try:
                await kong.client.get_protocol()
            except PhaseError as error:
                errors.append(error)
            await kong.request.get_header("host")

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "rewrite", HOST)
    assert len(errors) == 1


def test_a_refused_call_without_a_result_is_logged_with_its_place(serve, caplog):
    class Plugin(Base):
        async def access(self, kong):
            await kong.response.set_header("x", "y")
            await asyncio.sleep(0)
            await kong.request.get_header("host")

    kong = ProtobufKong(serve(Plugin))
    assert not kong.event(kong.start("probe"), "access", {"kong.response.set_header": REFUSED})
    wait_for(lambda: "kong.response.set_header" in caplog.text, lambda: caplog.text)
    assert place('await kong.response.set_header("x", "y")') in caplog.text
    kong.close()


def test_a_call_whose_task_is_cancelled_is_made_all_the_same(serve, connect):
    asked, cancelled = threading.Event(), threading.Event()

    class Plugin(Base):
        async def access(self, kong):
            task = asyncio.create_task(kong.request.get_header("x-slow"))
            await asyncio.to_thread(asked.wait, DEADLINE)
            task.cancel()
            cancelled.set()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            await kong.response.set_header("x-host", (await kong.request.get_header("host"))[0])

    def slow(name):
        asked.set()
        assert cancelled.wait(DEADLINE)
        return name

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    for _ in range(2):
        asked.clear()
        cancelled.clear()
        kong.made.clear()
        assert kong.event(instance, "access", {"kong.request.get_header": slow})
        assert kong.made[-1] == ("kong.response.set_header", ["x-host", "host"])


def test_a_call_that_is_cancelled_before_it_begins_is_not_made_and_no_mistake(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            task = asyncio.create_task(kong.request.get_header("x-early"))
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await kong.request.get_header("host")

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", HOST)
    assert [args for _, args in kong.made] == [["host"]]


@pytest.mark.skipif(monkey.is_module_patched("threading"), reason="such a thread is a greenlet beside the loop")
def test_a_call_on_another_event_loop_is_an_error_with_a_hint(serve, connect):
    errors = []

    class Plugin(Base):
        async def access(self, kong):
            await asyncio.to_thread(asyncio.run, self.elsewhere(kong))
            await kong.request.get_header("host")

        async def elsewhere(self, kong):
            try:
                await kong.request.get_header("x-elsewhere")
            except PDKError as error:
                errors.append(str(error))

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", HOST)
    assert [args for _, args in kong.made] == [["host"]]
    assert len(errors) == 1
    assert "asyncio.run_coroutine_threadsafe" in errors[0]


def test_a_call_that_is_under_way_at_the_end_of_the_handler(serve, connect):
    asked = threading.Event()

    class Plugin(Base):
        async def access(self, kong):
            self.task = asyncio.create_task(kong.request.get_header("x-slow"))
            await asyncio.to_thread(asked.wait, DEADLINE)

    def slow(name):
        asked.set()
        return name

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    for _ in range(2):
        asked.clear()
        assert kong.event(instance, "access", {"kong.request.get_header": slow})


def test_no_call_after_the_end_of_the_handler(serve, connect):
    errors, ended = [], asyncio.Event()

    class Plugin(Base):
        async def access(self, kong):
            self.task = asyncio.create_task(self.late(kong))
            await kong.request.get_header("host")

        async def late(self, kong):
            await ended.wait()
            try:
                await kong.request.get_header("x-late")
            except PDKError as error:
                errors.append(str(error))

        async def response(self, kong):
            ended.set()
            await self.task

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    assert kong.event(instance, "access", HOST)
    assert kong.event(instance, "response")
    assert errors == ["kong.request.get_header was called after the handler of its event had returned"]
    assert [args for _, args in kong.made] == [["host"]]


def test_a_call_of_another_thread(serve, connect):
    class Plugin(Base):
        async def access(self, kong):
            loop = asyncio.get_running_loop()
            host, _ = await asyncio.to_thread(self.ask, kong, loop)
            await kong.response.set_header("x-host", host)

        def ask(self, kong, loop):
            return asyncio.run_coroutine_threadsafe(kong.request.get_header("host"), loop).result(DEADLINE)

    kong = connect(serve(Plugin))
    assert kong.event(kong.start("probe"), "access", HOST)
    assert kong.made[-1] == ("kong.response.set_header", ["x-host", "example.test"])


def test_many_handlers_sleep_at_once_on_one_thread(serve, connect):
    count = 300
    woken = asyncio.Event()
    asleep = []

    class Plugin(Base):
        async def access(self, kong):
            asleep.append(threading.get_ident())
            await woken.wait()
            await kong.response.set_header("x", "y")

        async def log(self, kong):
            woken.set()

    path = serve(Plugin)
    kongs = [connect(path) for _ in range(count)]
    instance = kongs[0].start("probe")
    threads = [threading.Thread(target=kong.event, args=(instance, "access")) for kong in kongs]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(asleep) == count, lambda: str(len(asleep)))
    other = connect(path)
    assert other.event(instance, "log")
    for thread in threads:
        thread.join(DEADLINE)
    assert len(set(asleep)) == 1
    assert all(kong.made == [("kong.response.set_header", ["x", "y"])] for kong in kongs)


def test_context_variables_are_those_of_the_event(serve, connect):
    name = contextvars.ContextVar("name", default="none")

    class Plugin(Base):
        async def access(self, kong):
            before = name.get()
            name.set("mine")
            await asyncio.sleep(0)
            await kong.response.set_header("x-names", f"{before} {name.get()}")

    kong = connect(serve(Plugin))
    instance = kong.start("probe")
    for _ in range(2):
        assert kong.event(instance, "access")
        assert kong.made[-1] == ("kong.response.set_header", ["x-names", "none mine"])


def test_a_handler_that_kong_leaves(serve, caplog):
    ended = threading.Event()

    class Plugin(Base):
        async def access(self, kong):
            try:
                await kong.request.get_header("host")
            finally:
                await asyncio.sleep(0)
                ended.set()

    class Leaving(ProtobufKong):
        def value(self, method, args, answers):
            raise Closed

    kong = Leaving(serve(Plugin))
    instance = kong.start("probe")
    with pytest.raises(Closed):
        kong.event(instance, "access")
    kong.close()
    assert ended.wait(DEADLINE)


def test_the_end_of_the_server_cancels_handlers(serve, connect_whole, monkeypatch):
    monkeypatch.setattr(stop_times, "EVENTS", 0.05)
    begun, ended = threading.Event(), threading.Event()

    class Plugin(Base):
        async def access(self, kong):
            begun.set()
            try:
                await asyncio.sleep(DEADLINE)
            finally:
                await kong.request.get_header("host")
                ended.set()

    path = serve(Plugin)
    kong = connect_whole(path)
    instance = kong.start("probe")
    outcome = []
    thread = threading.Thread(target=lambda: outcome.append(kong.event(instance, "access", HOST)))
    thread.start()
    assert begun.wait(DEADLINE)
    assert serve.stop(path)
    thread.join(DEADLINE)
    assert ended.is_set()
    assert outcome == [False]
    assert kong.made == [("kong.request.get_header", ["host"]), ("kong.response.error", [500])]


def test_close_may_be_a_coroutine_too(serve, connect):
    loops = []

    class Plugin(Base):
        async def access(self, kong):
            loops.append(asyncio.get_running_loop())

        async def close(self):
            await asyncio.sleep(0)
            loops.append(asyncio.get_running_loop())

    path = serve(Plugin)
    kong = connect(path)
    assert kong.event(kong.start("probe"), "access")
    assert serve.stop(path, DEADLINE)
    assert len(loops) == 2
    assert len(set(loops)) == 1


def test_handlers_that_are_coroutine_functions():
    async def handler(self, kong, phase=None):
        pass

    class Callable:
        async def __call__(self, kong):
            pass

    class Plugin:
        access = handler
        rewrite = functools.partialmethod(handler, phase="rewrite")
        response = staticmethod(handler)
        preread = Callable()

        def log(self, kong):
            pass

    assert async_phases(Plugin) == ("rewrite", "access", "response", "preread")
