"""Which engine and how many workers: an option, then the plugin's module, then the variables, then auto and one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from kong_pdk import settings
from kong_pdk.mode import Mode, announcement, choose, default, disagreement, reason, text
from kong_pdk.settings import SettingError

THREADS = Mode("threads", 1)


@dataclass(frozen=True)
class Wish:
    name: str
    engine: str | None = None
    workers: int | None = None
    phases: tuple[str, ...] = ("access", "log")
    async_phases: tuple[str, ...] = ()
    needs_threads: str | None = None


CAREFUL = Wish("careful", needs_threads="careful.py:1 imports threading")


@pytest.mark.parametrize(
    ("wishes", "option", "engine"),
    [
        ([Wish("a")], None, "loop"),
        ([CAREFUL], None, "threads"),
        ([Wish("a"), CAREFUL], None, "threads"),
        ([CAREFUL], "auto", "threads"),
        ([Wish("a", "gevent")], "auto", "loop"),
        ([CAREFUL], "loop", "loop"),
        ([Wish("a", "loop", needs_threads="a.py:1 imports queue")], None, "loop"),
        ([Wish("a", "loop"), CAREFUL], None, "threads"),
        ([Wish("a", "loop"), Wish("b", "gevent")], None, "gevent"),
    ],
)
def test_auto_is_the_loop_unless_a_source_needs_threads(wishes, option, engine):
    assert choose(wishes, default({}), option) == Mode(engine, 1)


def test_a_module_that_asks_for_auto_gets_it_where_the_variables_say_something_else():
    variables = default({"KONG_PYTHON_ENGINE": "gevent"})
    assert choose([Wish("a", "auto")], variables).engine == "loop"
    assert choose([Wish("a", "auto", needs_threads="a.py:1 imports queue")], variables).engine == "threads"


@pytest.mark.parametrize(
    ("wish", "option", "environ", "words"),
    [
        (Wish("a"), None, {}, "its source needs no threads"),
        (CAREFUL, None, {}, "careful.py:1 imports threading"),
        (CAREFUL, "auto", {"KONG_PYTHON_ENGINE": "gevent"}, "careful.py:1 imports threading"),
        (CAREFUL, "loop", {}, "--engine"),
        (Wish("a", "gevent"), None, {}, "its module"),
        (Wish("a"), None, {"KONG_PYTHON_ENGINE": "gevent"}, "KONG_PYTHON_ENGINE"),
    ],
)
def test_the_reason_for_the_engine_is_told(wish, option, environ, words):
    assert reason(wish, option, environ) == words


@pytest.mark.parametrize(
    ("async_phases", "words", "line"),
    [
        ((), "loop, 2 workers", "a: its handlers run by the engine loop (why)"),
        (
            ("log",),
            "loop + asyncio, 2 workers",
            "a: its handlers run by the engine loop (why); by asyncio: log (async def)",
        ),
        (("access", "log"), "asyncio, 2 workers", "a: its handlers run by asyncio (they are async def)"),
    ],
)
def test_async_handlers_are_told(async_phases, words, line):
    wish = Wish("a", async_phases=async_phases)
    assert text(wish, Mode("loop", 2)) == words
    assert announcement(wish, Mode("loop", 2), "why") == line


def test_an_option_wins_over_the_module_and_that_over_the_variables():
    variables = default({"KONG_PYTHON_ENGINE": "gevent", "KONG_PYTHON_WORKERS": "3"})
    assert choose([Wish("a")], variables) == Mode("gevent", 3)
    assert choose([Wish("a", "threads", 2)], variables) == Mode("threads", 2)
    assert choose([Wish("a", "threads", 2)], variables, "gevent", 5) == Mode("gevent", 5)
    assert choose([Wish("a", workers=2)], variables, workers=4) == Mode("gevent", 4)


def test_plugins_of_one_server_share_a_mode():
    wishes = [Wish("a", "gevent", 2), Wish("b"), Wish("c", "threads", 4)]
    assert choose(wishes, THREADS) == Mode("threads", 4)
    assert choose(wishes[:2], THREADS) == Mode("gevent", 2)


def test_who_does_not_get_what_it_asks_for_is_named():
    wishes = [Wish("a", "gevent"), Wish("b"), Wish("c", "threads", 4)]
    message = disagreement(wishes, Mode("threads", 4))
    assert message.startswith("a: runs by threads in 4 worker(s)")
    assert disagreement(wishes[1:], Mode("threads", 4)) is None


def test_auto_is_a_worker_for_each_core(monkeypatch):
    monkeypatch.setattr(settings, "count_cores", lambda: 6)
    assert default({"KONG_PYTHON_WORKERS": "auto"}).workers == 6


@pytest.mark.parametrize(("name", "value"), [("KONG_PYTHON_ENGINE", "asyncio"), ("KONG_PYTHON_WORKERS", "0")])
def test_a_wrong_value_is_refused_with_the_right_ones(name, value):
    with pytest.raises(SettingError, match=f"{name} is '{value}'; set it to "):
        default({name: value})
