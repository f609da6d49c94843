"""Plugins configure Python's ``logging``, in every mode, and the server's own lines are never lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from server_process import ONE, Connect, Serve, Served

PLUGIN = """
import logging
{at_import}

class Plugin:
    def __init__(self, config):
        {in_init}

    def access(self, kong):
        {in_handler}
        logging.debug("a %s line", "debug")
        logging.getLogger("audit").info("an info line")
        logging.getLogger(__name__).warning("a warn line")

    def response(self, kong):
        raise ValueError("broken on purpose")
"""
LINES = ["a debug line", "an info line", "a warn line"]


def plugin(at_import: str = "", in_init: str = "pass", in_handler: str = "pass") -> str:
    return PLUGIN.format(at_import=at_import, in_init=in_init, in_handler=in_handler)


by_threads = pytest.mark.parametrize("mode", ["threads"])
by_one_worker = pytest.mark.parametrize("mode", ONE)


def levels_of_lines(served: Served) -> list[str]:
    """Give the level of each of the plugin's lines that the log shows."""
    shown = [line for line in served.said().splitlines() if line.endswith(" line")]
    return [line.split("[")[1].split("]")[0] for line in shown]


@pytest.mark.parametrize(
    ("place", "mode"),
    [("at_import", "threads"), ("at_import", "gevent"), ("in_init", "processes"), ("in_init", "gevent"),
     ("in_handler", "threads"), ("in_handler", "gevent-processes")],
)  # fmt: skip
def test_basic_config_with_a_file(place: str, serve: Serve, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "mine.log"
    call = f'logging.basicConfig(filename={str(file)!r}, level=logging.DEBUG, format="%(levelname)s %(message)s")'
    served = serve(plugin(**{place: call}), KONG_LOG_LEVEL="info")
    kong = connect(served)
    instance = kong.start("probe")
    assert kong.event(instance, "access")
    assert not kong.event(instance, "response")
    served.wait_for_log("ValueError: broken on purpose")
    assert file.read_text() == "DEBUG a debug line\nINFO an info line\nWARNING a warn line\n"
    assert levels_of_lines(served) == ["info", "warn"]
    assert served.said().count("[error] probe: the response handler raised") == 1


@pytest.mark.parametrize("place", ["at_import", "in_init", "in_handler"])
@by_threads
def test_basic_config_with_handlers_of_the_plugin(place: str, serve: Serve, connect: Connect, tmp_path: Path) -> None:
    """The log does not repeat a line that the plugin's own handler writes to standard error."""
    file = tmp_path / "mine.log"
    handlers = f"[logging.FileHandler({str(file)!r}), logging.StreamHandler()]"
    call = f'logging.basicConfig(format="MINE %(message)s", level=logging.DEBUG, handlers={handlers}, force=True)'
    served = serve(plugin(**{place: call}))
    kong = connect(served)
    assert kong.event(kong.start("probe"), "access")
    mine = [f"MINE {line}" for line in LINES]
    said = served.wait_for_log(mine[-1]).splitlines()
    assert file.read_text().splitlines() == mine
    assert [line for line in said if line.endswith(" line")] == mine


@by_threads
def test_basic_config_without_a_file_has_the_log_s_form(serve: Serve, connect: Connect) -> None:
    served = serve(
        plugin('logging.basicConfig(format="MINE %(name)s %(message)s", level=logging.DEBUG)'), KONG_LOG_LEVEL="debug"
    )
    kong = connect(served)
    assert kong.event(kong.start("probe"), "access")
    said = served.wait_for_log("a warn line")
    assert levels_of_lines(served) == ["debug", "info", "warn"]
    assert "[info] probe: MINE audit an info line\n" in said
    assert "asks for level" not in said


@by_threads
def test_basic_config_for_a_level_below_the_logs_has_a_notice(serve: Serve, connect: Connect) -> None:
    served = serve(plugin("logging.basicConfig(level=logging.INFO)"))
    kong = connect(served)
    assert kong.event(kong.start("probe"), "access")
    said = served.wait_for_log("[warn] probe: a warn line")
    assert levels_of_lines(served) == ["warn"]
    hint = (
        "[notice] probe: logging.basicConfig asks for level info, and the log shows notice and above; "
        "set KONG_PYTHON_LOG_LEVEL=info to see more\n"
    )
    assert said.count(hint) == 1


@by_threads
def test_basic_config_that_comes_too_late_has_a_warning(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    files = [tmp_path / "one.log", tmp_path / "two.log"]
    first, second = (f"logging.basicConfig(filename={str(file)!r})" for file in files)
    served = serve(plugin(first, second, first))
    kong = connect(served)
    instance = kong.start("probe")
    for _ in range(2):
        assert kong.event(instance, "access")
    assert files[0].read_text().splitlines() == ["WARNING:_kong_plugins.probe:a warn line"] * 2
    assert not files[1].exists()
    assert served.said().count("logging.basicConfig has no effect: the root logger has a handler already; ") == 1


@by_threads
def test_logging_info_configures_nothing(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "mine.log"
    config = f"logging.basicConfig(filename={str(file)!r})"
    served = serve(plugin('logging.warning("at import")', config))
    kong = connect(served)
    assert kong.event(kong.start("probe"), "access")
    assert file.read_text() == "WARNING:_kong_plugins.probe:a warn line\n"
    assert served.said().count("[warn] probe: at import\n") == 1


@pytest.mark.parametrize(
    ("environment", "options", "shown"),
    [
        ({}, (), ["warn"]),
        ({"KONG_LOG_LEVEL": "debug"}, (), ["debug", "info", "warn"]),
        ({"KONG_LOG_LEVEL": "INFO"}, (), ["info", "warn"]),
        ({"KONG_LOG_LEVEL": "error"}, (), []),
        ({"KONG_LOG_LEVEL": "debug", "KONG_PYTHON_LOG_LEVEL": "notice"}, (), ["warn"]),
        ({"KONG_LOG_LEVEL": "error", "KONG_PYTHON_LOG_LEVEL": "info"}, (), ["info", "warn"]),
        ({"KONG_LOG_LEVEL": "info", "KONG_PYTHON_LOG_LEVEL": "auto"}, (), ["info", "warn"]),
        ({"KONG_PYTHON_LOG_LEVEL": "emerg"}, ("-v",), ["debug", "info", "warn"]),
        ({"KONG_LOG_LEVEL": "no such level"}, (), ["warn"]),
    ],
)
@by_threads
def test_the_level(
    environment: dict[str, str], options: tuple[str, ...], shown: list[str], serve: Serve,
    connect: Connect,
) -> None:  # fmt: skip
    served = serve(plugin(), *options, **environment)
    kong = connect(served)
    instance = kong.start("probe")
    assert kong.event(instance, "access")
    assert served.stop() == 0
    assert levels_of_lines(served) == shown
    assert ("[notice] probe: stopped" in served.said()) == ("warn" in shown)


def test_debug_lines_in_each_mode(serve: Serve, connect: Connect) -> None:
    served = serve(plugin(), KONG_LOG_LEVEL="debug", KONG_PYTHON_LOG_FORMAT="json")
    kong = connect(served)
    assert kong.event(kong.start("probe"), "access")
    served.wait_for_log("a warn line")
    entries = [json.loads(line) for line in served.said().splitlines()]
    found = [(entry["level"], entry["message"]) for entry in entries if " line" in entry["message"]]
    assert [level for level, _ in found] == ["debug", "info", "warn"]
    assert found[0][1].startswith("a debug line")
    assert (found[0][1] == "a debug line") == (served.workers == 1)
    assert any(entry["message"].startswith("probe access, ") for entry in entries)


@by_threads
def test_debug_lines_of_libraries_are_shown_where_the_plugin_asks(serve: Serve, connect: Connect) -> None:
    chatter = 'import asyncio; asyncio.new_event_loop().close(); logging.getLogger("asyncio").setLevel(logging.DEBUG)'
    served = serve(plugin(in_handler=chatter), KONG_LOG_LEVEL="debug")
    kong = connect(served)
    instance = kong.start("probe")
    assert kong.event(instance, "access")
    served.wait_for_log("a warn line")
    assert "Using selector" not in served.said()
    assert kong.event(instance, "access")
    served.wait_for_log("[debug] probe: Using selector")


RAISES = """
class Raises(logging.Handler):
    def handle(self, record):
        raise RuntimeError("a handler of the plugin's")
"""
MEDDLING = {
    "disable": "logging.disable(logging.CRITICAL)",
    "shutdown": "logging.shutdown()",
    "raiseExceptions": "logging.raiseExceptions = False",
    "dictConfig": """
import logging.config
handlers = {"h": {"class": "logging.NullHandler"}}
logging.config.dictConfig({"version": 1, "root": {"handlers": ["h"]}, "handlers": handlers})
""",
    "root": "logging.root.handlers.clear(); logging.root.setLevel(100); logging.root.addFilter(lambda record: False)",
    "force": "logging.basicConfig(force=True, level=100)",
    "own loggers": """
for name in ["kong_pdk", *logging.root.manager.loggerDict]:
    own = logging.getLogger(name)
    own.handlers.clear()
    own.disabled = True
    own.propagate = False
    own.setLevel(100)
    own.addFilter(lambda record: False)
""",
    "factory": 'logging.setLogRecordFactory(lambda *args, **named: 1 / 0 if "raised" in str(args) else None)',
    "class": """
class Mine(logging.Logger):
    def handle(self, record):
        raise RuntimeError("a logger of the plugin's")
logging.setLoggerClass(Mine)
""",
    "handlers that raise": RAISES + """
logging.getLogger().addHandler(Raises())
logging.getLogger("kong_pdk").addHandler(Raises())
logging.getLogger("kong_pdk.server.handler").addHandler(Raises())
""",
    "patched": """
def raising(logger, record):
    raise RuntimeError("a patch of the plugin's")
logging.Logger.callHandlers = raising
""",
    "lastResort": "logging.lastResort = None",
}  # fmt: skip
MEDDLING_ON_GEVENT = ["disable", "own loggers", "handlers that raise", "patched"]


@pytest.mark.parametrize(
    ("mode", "late", "name"),
    [
        *(("threads", late, name) for late in (False, True) for name in MEDDLING),
        *(("gevent", late, name) for late in (False, True) for name in MEDDLING_ON_GEVENT),
    ],
)
def test_the_servers_lines_are_neither_lost_nor_doubled(late: bool, name: str, serve: Serve, connect: Connect) -> None:
    served = serve(plugin(in_init=f"exec({MEDDLING[name]!r}, globals())") if late else plugin(MEDDLING[name]))
    kong = connect(served)
    assert not kong.event(kong.start("probe"), "response")
    served.wait_for_log("[error] probe: ValueError: broken on purpose")
    assert served.stop() == 0
    assert served.said().count("[error] probe: the response handler raised ValueError: broken on purpose") == 1
    assert served.said().count("[notice] probe: stopped") == 1


@by_one_worker
def test_a_library_that_reports_errors_sees_those_of_handlers(serve: Serve, connect: Connect) -> None:
    """Sentry's library replaces ``Logger.callHandlers`` by a function of its own."""
    reports = """
before = logging.Logger.callHandlers
def reporting(logger, record):
    try:
        return before(logger, record)
    finally:
        if record.levelno >= logging.ERROR:
            print("reported:", record.getMessage().partition(" (")[0], flush=True)
logging.Logger.callHandlers = reporting
"""
    served = serve(plugin(reports))
    kong = connect(served)
    assert not kong.event(kong.start("probe"), "response")
    said = served.wait_for_log("reported: probe: the response handler raised ValueError: broken on purpose\n")
    assert said.count("[error] probe: the response handler raised ValueError: broken on purpose") == 1
    assert said.count("reported:") == 1
