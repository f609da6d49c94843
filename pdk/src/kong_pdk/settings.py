"""All variables ``KONG_PYTHON_*``: name, allowed values, default and meaning."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from kong_pdk import processors
from kong_pdk.masking import masked
from kong_pdk.protocol import PROTOCOLS

PREFIX = "KONG_PYTHON_"

MOST_WORKERS = 64
MOST_EVENTS = 65536

LOG_LEVELS = ("debug", "info", "notice", "warn", "error", "crit", "alert", "emerg")
"""The log levels of Kong and nginx."""

KONG_LOG_LEVEL = "KONG_LOG_LEVEL"

KONG_PREFIX = "/usr/local/kong"
"""Kong's default prefix, the directory of a node's configuration, logs and sockets."""

_Value_co = TypeVar("_Value_co", covariant=True)
_DAY_SECONDS = 24 * 3600
# Kubernetes sets variables for every Service of the namespace, and a Service may be called kong-python.
_OF_SERVICES = re.compile(
    r"KONG_PYTHON_(\w+_)?(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*"
    r"|PORT=(tcp|udp|sctp)://.*)",
    re.DOTALL,
)
_OF_SCRIPTS = "KONG_PYTHON_IMAGE"  # names the image for make and compose, so shells and .env files have it


_MOST_SHOWN = 200


class SettingError(Exception):
    """A variable has an invalid value; the message names the variable and its allowed values."""


class Address(NamedTuple):
    """An address to listen on: a host without brackets, and a port."""

    host: str
    port: int


class OnError(NamedTuple):
    """Which plugins let a request pass when they fail."""

    is_open: bool
    plugins: tuple[str, ...] = ()
    """Only these; empty for all."""


class Variable(Generic[_Value_co]):
    """A variable."""

    def __init__(self, name: str, kind: str, default: str, meaning: str, parse: Callable[[str], _Value_co]) -> None:
        """:param kind: the allowed values, in words that follow "set it to".

        :param parse: converts a text to the value, or raises :class:`ValueError`.
        """
        self.name = name
        self.kind = kind
        self.default = default
        self.meaning = meaning
        self.parse = parse

    def read(self, environ: Mapping[str, str]) -> _Value_co:
        """Give the value in force: the default where the variable is not set, or empty.

        :raises SettingError: the value is invalid.
        """
        text = self.text(environ)
        try:
            return self.parse(text)
        except ValueError:
            raise SettingError(f"{self.name} is {shown(repr(masked(text)))}; set it to {self.kind}") from None

    def text(self, environ: Mapping[str, str]) -> str:
        """Give the text of the value in force, valid or not."""
        return environ.get(self.name, "").strip() or self.default

    def is_default(self, environ: Mapping[str, str]) -> bool:
        """Whether the value in force equals the default."""
        try:
            return self.read(environ) == self.parse(self.default)
        except SettingError:
            return False


def check(environ: Mapping[str, str]) -> list[str]:
    """Check every variable whose name begins with ``KONG_PYTHON_``.

    :return: a message for each variable that is unknown, or has an invalid value.
    """
    messages = []
    for name in sorted(name for name in environ if name.startswith(PREFIX)):
        known = _BY_NAME.get(name)
        if known is None:
            if not _is_of_others(name, environ[name]):
                messages.append(_unknown(name))
            continue
        try:
            known.read(environ)
        except SettingError as error:
            messages.append(str(error))
    return messages


def _is_of_others(name: str, value: str) -> bool:
    return name == _OF_SCRIPTS or _OF_SERVICES.fullmatch(f"{name}={value}") is not None


def _unknown(name: str) -> str:
    import difflib  # every command imports this module, few of them this one

    known = [other.removeprefix(PREFIX) for other in _BY_NAME]
    # No name is longer than this, and the comparison of long ones would take minutes.
    guess = difflib.get_close_matches(name.removeprefix(PREFIX)[:_MOST_SHOWN], known, n=1)
    hint = f"did you mean {PREFIX}{guess[0]}?" if guess else "unset it; kong-python settings lists all settings"
    return f"there is no setting {shown(name)}; {hint}"


def shown(text: str) -> str:
    """Give a name or value of the user as a message shows it: on one line, and not all of a very long one."""
    line = text if text.isprintable() else repr(text)
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}..."


def _choice(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise ValueError
        return text.lower()

    return parse


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal() and least <= int(text) <= most):
            raise ValueError
        return int(text)

    return parse


def _on_error(text: str) -> OnError:
    choice, colon, names = text.partition(":")
    plugins = tuple(name for word in names.split(",") if (name := word.strip()))
    is_open = _choice("open", "closed")(choice.strip()) == "open"
    if colon and not (is_open and plugins):
        raise ValueError
    return OnError(is_open, plugins)


def _timeout_of(text: str) -> float:
    """Read a number of seconds; infinite for 0."""
    if not re.fullmatch(r"\d{1,5}(\.\d{1,3})?", text, re.ASCII) or float(text) > _DAY_SECONDS:
        raise ValueError
    return float(text) or math.inf


def _path(text: str) -> Path:
    if "\0" in text:
        raise ValueError
    try:
        return Path(text).absolute()
    except OSError as error:  # a relative path where the working directory is gone
        raise ValueError from error


def _path_or_auto(text: str) -> Path | None:
    return None if text.lower() == "auto" else _path(text)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for word in text.split(",") if (name := word.strip()))
    if not all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) for name in names):
        raise ValueError
    return () if names == ("none",) else names


def _workers(text: str) -> int:
    return count_cores() if text.lower() == "auto" else _number(1, MOST_WORKERS)(text)


def count_cores() -> int:
    """Count the processors that this process may use, up to the highest number of workers."""
    return min(processors.count(), MOST_WORKERS)


def _address(text: str) -> Address | None:
    if text.lower() == "off":
        return None
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not colon or not bare or (":" in bare) != (bare != host):
        raise ValueError
    return Address(bare, _number(1, 65535)(port))


_SECONDS = f"a number of seconds, at most {_DAY_SECONDS}"
_seconds = _number(0, _DAY_SECONDS)
_MOST_MEBIBYTES = 1024 * 1024

PLUGINS_DIR = Variable(
    "KONG_PYTHON_PLUGINS_DIR", "the path of a folder", "/opt/kong/plugins", "the folder of the plugins", _path
)
PROTOCOL = Variable(
    "KONG_PYTHON_PROTOCOL", "protobuf or msgpack", "protobuf",
    "the protocol that Kong speaks with the plugin servers", _choice(*PROTOCOLS),
)  # fmt: skip
ON_BROKEN_PLUGIN = Variable(
    "KONG_PYTHON_ON_BROKEN_PLUGIN", "fail or skip", "fail",
    "fail: Kong does not start while a plugin is broken; skip: it starts without the broken ones and says so at "
    "error level", _choice("fail", "skip"),
)  # fmt: skip
START_SECONDS = Variable(
    "KONG_PYTHON_START_SECONDS", _SECONDS, "30",
    "how long all plugin servers together may take until they answer", _seconds,
)  # fmt: skip
DRAIN_SECONDS = Variable(
    "KONG_PYTHON_DRAIN_SECONDS", _SECONDS, "7",
    "how long Kong may finish open requests when it is told to stop", _seconds,
)  # fmt: skip
LOG_FORMAT = Variable(
    "KONG_PYTHON_LOG_FORMAT", "text or json", "text",
    "the form of the log's lines: nginx's, or JSON objects", _choice("text", "json"),
)  # fmt: skip
LOG_LEVEL = Variable(
    "KONG_PYTHON_LOG_LEVEL", f"auto, {', '.join(LOG_LEVELS[:-1])} or {LOG_LEVELS[-1]}", "auto",
    "the least level of the lines of plugin servers and of Python's logging in plugins; auto: Kong's log_level "
    "(KONG_LOG_LEVEL), notice where it is not set", _choice("auto", *LOG_LEVELS),
)  # fmt: skip
METRICS_LISTEN = Variable(
    "KONG_PYTHON_METRICS_LISTEN", "off or an address and port, like 0.0.0.0:9542 or [::1]:9542", "off",
    "where the container's Prometheus metrics are served, over HTTP at `/metrics`", _address,
)  # fmt: skip
RUN_DIR = Variable(
    "KONG_PYTHON_RUN_DIR", "the path of a folder", "/run/kong-python",
    "where the run directory is: sockets and generated files", _path,
)  # fmt: skip
BASE_ENTRYPOINT = Variable(
    "KONG_PYTHON_BASE_ENTRYPOINT", "the path of a program", "/docker-entrypoint.sh",
    "Kong's entrypoint in the base image, where it has another path", _path,
)  # fmt: skip
INTERFACE_FILE = Variable(
    "KONG_PYTHON_INTERFACE_FILE", "the path of a file", "/usr/local/kong/include/kong/pluginsocket.proto",
    "Kong's interface file, from which plugin servers learn what ProtoBuf:1 reaches; a copy of it, where Kong is in "
    "another container", _path,
)  # fmt: skip
ENGINE = Variable(
    "KONG_PYTHON_ENGINE", "auto, loop, threads or gevent", "auto",
    "what runs the handlers of a plugin whose module names no engine; auto: the loop, or threads where the plugin's "
    "own source imports what needs them", _choice("auto", "loop", "threads", "gevent"),
)  # fmt: skip
BLOCKING_MILLISECONDS = Variable(
    "KONG_PYTHON_BLOCKING_MILLISECONDS", f"a number of milliseconds, from 1 to {_DAY_SECONDS * 1000}", "10",
    "how long a handler may hold the loop; one that takes longer runs on threads from then on",
    _number(1, _DAY_SECONDS * 1000),
)  # fmt: skip
TIMEOUT = Variable(
    "KONG_PYTHON_TIMEOUT", f"a number of seconds, like 10 or 0.5, at most {_DAY_SECONDS}, or 0 for no limit", "30",
    "how long a handler may take, without the time in which it waits for Kong, if the plugin's module gives no "
    "timeout; Kong itself waits for 60 seconds",
    _timeout_of,
)  # fmt: skip
ON_ERROR = Variable(
    "KONG_PYTHON_ON_ERROR", "closed, open, or open: and names of plugins, like open:py-a,py-b", "closed",
    "what becomes of a request whose plugin fails, if the plugin's module has no on_error; closed: it ends with "
    "status 500; open: it goes on, as if the handler had returned", _on_error,
)  # fmt: skip
WORKERS = Variable(
    "KONG_PYTHON_WORKERS", f"a number from 1 to {MOST_WORKERS}, or auto", "1",
    "how many processes serve a plugin whose module gives no number; auto: one for each processor that the container "
    "may use", _workers,
)  # fmt: skip
CONCURRENCY = Variable(
    "KONG_PYTHON_CONCURRENCY", f"a number from 1 to {MOST_EVENTS}", "1024",
    "how many events a process of a plugin server runs at once; others wait",
    _number(1, MOST_EVENTS),
)  # fmt: skip
QUEUE = Variable(
    "KONG_PYTHON_QUEUE", f"a number from 0 to {MOST_EVENTS}", "1024",
    "how many events wait in a process of a plugin server, for 10 seconds at most; requests for which there is no room "
    "get 503 at once",
    _number(0, MOST_EVENTS),
)  # fmt: skip
BODY_MEBIBYTES = Variable(
    "KONG_PYTHON_BODY_MEBIBYTES", f"a number of MiB from 1 to {_MOST_MEBIBYTES}", "64",
    "how large a request's body may be that kong.request.get_raw_body reads from nginx's file into memory",
    _number(1, _MOST_MEBIBYTES),
)  # fmt: skip

INSTALL = Variable(
    "KONG_PYTHON_INSTALL", "wheels, on or off", "wheels",
    "wheels: the start installs what requirements.txt asks for and is not installed yet, from wheels alone; on: "
    "packages that come as source are built, too, which runs their code; off: it installs nothing",
    _choice("wheels", "on", "off"),
)  # fmt: skip
INSTALL_VARIABLES = Variable(
    "KONG_PYTHON_INSTALL_VARIABLES", "none or names of variables, separated by commas", "none",
    "further variables that pip, and builds of packages, get to see", _names,
)  # fmt: skip
INSTALL_SECONDS = Variable(
    "KONG_PYTHON_INSTALL_SECONDS", _SECONDS, "600",
    "how long one run of pip may take", _seconds,
)  # fmt: skip
DATA_DIR = Variable(
    "KONG_PYTHON_DATA_DIR", "auto or the path of a folder", "auto",
    "where packages are installed; auto: /var/lib/kong-python where that is, as in the image, else kong-python in the "
    "user's data directory (XDG_DATA_HOME)", _path_or_auto,
)  # fmt: skip

VARIABLES: Sequence[Variable[object]] = (
    PLUGINS_DIR, PROTOCOL, ENGINE, BLOCKING_MILLISECONDS, TIMEOUT, ON_ERROR, WORKERS, CONCURRENCY, QUEUE,
    BODY_MEBIBYTES, ON_BROKEN_PLUGIN, START_SECONDS, DRAIN_SECONDS, LOG_FORMAT, LOG_LEVEL, METRICS_LISTEN, RUN_DIR,
    BASE_ENTRYPOINT, INTERFACE_FILE, INSTALL, INSTALL_VARIABLES, INSTALL_SECONDS, DATA_DIR,
)  # fmt: skip
"""All variables, in the order in which they are shown."""

_BY_NAME = {variable.name: variable for variable in VARIABLES}


def log_level(environ: Mapping[str, str]) -> str:
    """Give the lowest level of the log lines that plugin servers show.

    An invalid ``KONG_LOG_LEVEL`` counts as ``notice``, since Kong reports it.

    :raises SettingError: ``KONG_PYTHON_LOG_LEVEL`` has an invalid value.
    """
    level = LOG_LEVEL.read(environ)
    if level == "auto":
        level = environ.get(KONG_LOG_LEVEL, "").strip().lower()
    return level if level in LOG_LEVELS else "notice"
