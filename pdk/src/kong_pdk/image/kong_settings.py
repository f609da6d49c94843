"""The user's settings of Kong, from environment variables, their ``_FILE`` forms and kong.conf; and Kong's ports."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kong_pdk.exit_status import StartError
from kong_pdk.settings import LOG_LEVEL, LOG_LEVELS, Address

DEFAULT_FILES = (Path("/etc/kong/kong.conf"), Path("/etc/kong.conf"))
"""Where Kong looks for kong.conf; it reads the first file that exists."""

_CHANGED = ("plugins", "pluginserver_names")
"""Options that the image changes. It reads their ``_FILE`` form before the base image's entrypoint does."""

_FILE_FORMS = (*_CHANGED, "role")
"""Options that the image reads in either form."""

_OF_SERVERS = re.compile(r"KONG_PLUGINSERVERS?[_-]", re.IGNORECASE)


class Settings:
    """The user's settings of Kong, by their names in kong.conf."""

    def __init__(self, environ: Mapping[str, str], file: Mapping[str, str] | None = None) -> None:
        """Read the ``_FILE`` variables of options that the image uses.

        :param file: the content of kong.conf, in its spelling.
        :raises StartError: a variable is set in both forms, or its file cannot be read.
        """
        self._environ = environ
        self.spelled_in_file = tuple(file or ())
        self._file = {as_kong_reads(name): value for name, value in (file or {}).items()}
        self._from_files = {name: value for name in _FILE_FORMS if (value := _file_form(environ, name)) is not None}

    def get(self, option: str) -> str | None:
        """Give an option's value, None if the user did not set it. The environment overrides kong.conf."""
        variable = variable_of(option)
        if variable in self._environ and option not in self._from_files:
            return self._environ[variable]
        return self._from_files.get(option, self._file.get(option))

    @property
    def file_variables(self) -> tuple[str, ...]:
        """The ``_FILE`` variables of options that the image changes; it removes these variables."""
        return tuple(f"{variable_of(option)}_FILE" for option in self._from_files if option in _CHANGED)

    @property
    def plugin_server_variables(self) -> list[str]:
        """The names of variables for plugin servers, in any spelling."""
        return [name for name in self.variables_like("KONG_PLUGINSERVER") if _OF_SERVERS.match(name)]

    def variables_like(self, begin: str) -> list[str]:
        """Give the names of variables with this beginning, in capitals or not, that have a value."""
        return sorted(name for name, value in self._environ.items() if value and name.upper().startswith(begin))

    @property
    def control_plane(self) -> bool:
        """Whether this Kong is a control plane, which serves no requests and runs no plugin."""
        return (self.get("role") or "").strip() == "control_plane"

    @property
    def log_level(self) -> Mapping[str, str]:
        """The variable for a log level that only kong.conf or a file has: plugin servers read the environment alone."""
        variable = variable_of("log_level")
        if self._environ.get(variable) or not LOG_LEVEL.is_default(self._environ):
            return {}
        level = self.get("log_level") or ""
        if file := self._environ.get(f"{variable}_FILE"):
            with contextlib.suppress(OSError):  # the base's entrypoint reports the error
                level = Path(file).read_text(encoding="utf-8", errors="replace")
        level = level.strip().lower()
        return {LOG_LEVEL.name: level} if level in LOG_LEVELS else {}


def variable_of(option: str) -> str:
    """Give the environment variable of an option of kong.conf."""
    return f"KONG_{option.upper()}"


def as_kong_reads(name: str) -> str:
    """Give Kong's option for a name in kong.conf: ``pluginserver_py-hello_socket`` loses its dash."""
    return re.sub(r"[^A-Za-z0-9]", "_", name)


def read_conf(command: Sequence[str], defaults: Sequence[Path] = DEFAULT_FILES) -> dict[str, str]:
    """Read kong.conf, from ``-c`` or from the default places; empty if there is none.

    A file that cannot be read is no error here: Kong reports it.
    """
    named = _named_conf(command)
    for path in [named] if named else defaults:
        try:
            text = path.read_text(encoding="utf-8", errors="surrogateescape")
        except OSError:
            continue
        return dict(_assignments(text))
    return {}


def _named_conf(command: Sequence[str]) -> Path | None:
    for position, word in enumerate(command):
        if word in ("-c", "--conf") and position + 1 < len(command):
            return Path(command[position + 1])
        if word.startswith("--conf="):
            return Path(word.partition("=")[2])
    return None


def _assignments(text: str) -> list[tuple[str, str]]:
    assignments = []
    # A backslash at the end continues a line.
    for line in re.sub(r"\\[ \t]*\n", "", text).splitlines():
        # In Kong's files a # begins a comment anywhere, unless a backslash stands before it.
        name, equals, value = re.sub(r"(?<!\\)#.*", "", line).partition("=")
        if equals:
            assignments.append((name.strip(), value.strip().replace("\\#", "#")))
    return assignments


def _file_form(environ: Mapping[str, str], option: str) -> str | None:
    variable = variable_of(option)
    file = environ.get(f"{variable}_FILE")
    if not file:
        return None
    if environ.get(variable):
        raise StartError(f"{variable} and {variable}_FILE are both set; unset one of them")
    try:
        return Path(file).read_text(encoding="utf-8", errors="surrogateescape").rstrip("\n")
    except OSError as error:
        raise StartError(
            f"{variable}_FILE: {file}: {error.strerror}; mount the file there or unset the variable"
        ) from error


_LISTENERS = {
    "proxy_listen": "0.0.0.0:8000, 0.0.0.0:8443",
    "admin_listen": "127.0.0.1:8001, 127.0.0.1:8444",
    "admin_gui_listen": "0.0.0.0:8002, 0.0.0.0:8445",
    "status_listen": "127.0.0.1:8007",
    "stream_listen": "off",
}
"""Kong's options with ports, and their defaults in Kong."""

_EVERYWHERE = frozenset({"0.0.0.0", "::"})


def option_of(address: Address, settings: Settings) -> str | None:
    """Give the option of Kong that has this address, too; None if no option has it."""
    for option, default in _LISTENERS.items():
        value = settings.get(option)
        if any(_overlap(address, other) for other in _addresses(default if value is None else value)):
            return option
    return None


def _addresses(value: str) -> Iterator[Address]:
    """Give the addresses in ``0.0.0.0:8000 reuseport, [::]:8443 ssl``; Kong itself reports entries that are invalid."""
    for entry in value.split(","):
        host, _, port = (entry.split() or [""])[0].rpartition(":")
        if host and port.isascii() and port.isdecimal():
            yield Address(host.strip("[]"), int(port))


def _overlap(one: Address, other: Address) -> bool:
    return one.port == other.port and (one.host == other.host or not _EVERYWHERE.isdisjoint((one.host, other.host)))
