"""Checks of a container's log: lines have their time, level and program, and only listed warnings and errors.

Every container test fails on an unexpected line at warn level or above. Expected lines are only listed here, each
with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
TROUBLE = LEVELS[LEVELS.index("warn") :]

_LINE = re.compile(rf"\d{{4}}/\d\d/\d\d \d\d:\d\d:\d\d \[({'|'.join(LEVELS)})\] ([A-Za-z0-9_-]+): (.*)")

_RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d")


@dataclass(frozen=True)
class Line:
    """One line of a container's log."""

    level: str
    program: str
    text: str

    def __str__(self) -> str:
        return f"[{self.level}] {self.program}: {self.text}"


@dataclass(frozen=True)
class Expected:
    """A line at warn level or above that may be in the log; ``level`` may be several: ``warn|error``."""

    program: str
    level: str
    pattern: str
    reason: str

    def matches(self, line: Line) -> bool:
        """Whether this line is expected; ``pattern`` may match anywhere in the text."""
        same = self.program == line.program and line.level in self.level.split("|")
        return same and bool(re.search(self.pattern, line.text))


ALWAYS = (
    Expected(
        "kong",
        "warn",
        r"start_command undefined for pluginserver [a-z0-9_-]+; assuming external process management",
        "Kong logs this for every plugin server that it does not start itself: supervisord starts ours",
    ),
    Expected(
        "kong",
        "warn",
        r'the "user" directive makes sense only if the master process runs with super-user privileges',
        "nginx logs this when Kong does not run as root, also in the official image",
    ),
    Expected(
        "kong",
        "warn",
        r'ulimit is currently set to "\d+"\. For better performance set it to at least "4096"',
        "`kong prepare` logs this if the engine gives a container few file descriptors",
    ),
    Expected(
        "kong",
        "error",
        r"communicate\(\): event worker failed: .*closed|run\(\): event broker failed: .*closed",
        "Kong's workers are connected, and end one after another at a reload or a stop (lua-resty-events#43)",
    ),
    Expected(
        "kong",
        "error",
        r"communicate\(\): event worker failed to communicate with broker \(failed to receive .*: closed\)",
        "the same, where the worker waits for a message at this moment",
    ),
    Expected(
        "kong",
        "crit|error",
        r"connect\(\) to unix:\S+/sockets/we failed|communicate\(\): failed to connect: .*no such file",
        "a worker of Kong that still starts when the first one has stopped finds no socket to connect to",
    ),
    Expected(
        "kong",
        "warn",
        r"a client request body is buffered to a temporary file \S+/client_body_temp/\S+",
        "nginx logs this for each request whose body is larger than its buffer",
    ),
)
"""Lines of a healthy start, of successful requests, of a reload and of a stop."""

DANGLING_SOCKETS = Expected(
    "kong",
    "warn",
    r"dangling unix sockets in the prefix directory",
    "Kong's entrypoint logs this when its prefix has sockets of an earlier run",
)
BROKEN_PLUGIN = Expected(
    "kong-python",
    "error",
    r"/broken\.py:\d+: |KONG_PYTHON_ON_BROKEN_PLUGIN=skip",
    "the test mounts a plugin that is broken, and starts without it",
)
UNPINNED = Expected(
    "kong-python",
    "warn",
    r"/requirements\.txt: the next install may bring other versions of ",
    "the test's requirements.txt does not name one version",
)
REFUSED_PACKAGES = Expected(
    "kong-python",
    "warn",
    r"/var/lib/kong-python/environments/\d+/\S+ is not used: ",
    "the volume has packages that another user has installed or could have changed",
)
KONG_REFUSES_TO_START = (
    Expected("kong", "error", r"", "Kong logs why it refuses the test's configuration"),
    Expected("supervisord", "error", r"Kong ended with status", "Kong refused to start"),
)
KILLED_SERVER = Expected(
    "supervisord",
    "warn",
    r"exited: py-hello \(.*not expected\)",
    "the test killed this plugin server",
)
KILLED_WORKER = Expected(
    "py-hello",
    "error",
    r"^(the worker|worker \d+ of \d+) ended \(SIGKILL\); another one is started",
    "the test killed this worker",
)
CALL_OF_KILLED_SERVER = Expected(
    "kong",
    "warn|error",
    r"py-hello|(pb|mp)_rpc\.lua",
    "the test killed the server of the connection: Kong tries again, or logs the reason of the 500",
)
KONG_WAITS_FOR_ITS_SERVER = Expected(
    "supervisord",
    "warn",
    r"Kong still runs after 7 s",
    "nginx's worker reads the output of a server that Kong started, and checks only every 10 s whether to stop",
)
KILLED_KONG = Expected("supervisord", "error", r"Kong ended with status 137", "the test killed Kong itself")


LOST_SERVER = Expected(
    "kong",
    "error|crit",
    r"connect\(\) to unix:\S+\.sock failed \((111|2): |recv\(\) failed \(104: ",
    "nginx's line about a connection to a server that the test kills, or whose socket it removes",
)
CUT_REQUEST = Expected(
    "kong",
    "alert",
    r"open socket #\d+ left in connection|: aborting$",
    "nginx's worker is told to end at once, with a request open",
)


def failed_events(plugin: str) -> Expected:
    """Kong's lines about events of a plugin whose server or worker the test ends."""
    pattern = rf"\[({plugin}|rpc|pb_rpc|mp_rpc)|plugin_servers?/"
    return Expected("kong", "warn|error", pattern, "Kong logs an event that fails or is tried again")


def raised_by(program: str) -> Expected:
    """The report of a handler that raises on the test's request: a message and a traceback."""
    return Expected(program, "error", r"", "its handler raises because the test asks it to")


def parse(log: str) -> list[Line]:
    """Read a log. A line without its time, level and program is an AssertionError.

    If the first line is a JSON object, all lines must be.
    """
    if log.startswith("{"):
        return [_read_object(text) for text in log.splitlines()]
    lines = []
    for text in log.splitlines():
        found = _LINE.fullmatch(text)
        assert found, f"a line of the log does not name its time, level and program: {text!r}\n{log}"
        lines.append(Line(*found.groups()))
    return lines


def _read_object(text: str) -> Line:
    try:
        found = json.loads(text)
    except ValueError:
        raise AssertionError(f"a line of the log is no JSON: {text!r}") from None
    assert list(found) == ["time", "level", "program", "message"], text
    assert _RFC_3339.fullmatch(found["time"]) and found["level"] in LEVELS and found["program"], text
    return Line(found["level"], found["program"], found["message"])


def trouble(lines: Iterable[Line], expected: Iterable[Expected] = ()) -> list[Line]:
    """Give the unexpected lines at warn level or above."""
    known = (*ALWAYS, *expected)
    return [line for line in lines if line.level in TROUBLE and not any(entry.matches(line) for entry in known)]
