"""The configuration of a command: a configuration file or ``.kong_env``, overridden by the environment."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from kong_pdk.gateway.gateway_settings import Settings, SettingsError
from kong_pdk.settings import KONG_PREFIX

from embedded_kong.console import CommandError

DEFAULT_FILES = (Path("/etc/kong/kong.conf"), Path("/etc/kong.conf"))
KONG_ENV = ".kong_env"

_COMMENT = re.compile(r"(?<!\\)#.*")
# A line of .kong_env: a backslash escapes the next character, also a newline.
_LINE = re.compile(r"(?:[^\\\n]|\\[\s\S])+")
_HEADER = """\
# The configuration of the gateway that runs in this prefix, written by `kong`.
# It is written anew at each start and reload: change the environment or the configuration file instead.
"""


def load(environment: Mapping[str, str], conf: Path | None = None, prefix: Path | None = None) -> dict[str, str]:
    """Read the configuration for a start: the file, overridden by the environment, overridden by ``prefix``.

    Keys are Kong's (``proxy_listen``). Raises :class:`CommandError` for a file that cannot be read.
    """
    if conf is None:
        conf = next((path for path in DEFAULT_FILES if path.is_file()), None)
    values = read_file(conf) if conf else {}
    return _overlay(values, environment, prefix)


def load_running(
    environment: Mapping[str, str], prefix: Path | None = None, conf: Path | None = None
) -> dict[str, str]:
    """Read the configuration of the node that runs in the prefix: ``.kong_env``, overridden by the environment.

    Raises :class:`CommandError` where no node has been prepared.
    """
    where = prefix_of(load(environment, conf, prefix))
    if not where.is_dir():
        raise CommandError(f"no such prefix: {where}")
    if not (where / KONG_ENV).is_file():
        raise CommandError(f"Kong is not running at {where}")
    return _overlay(read_kong_env(where), environment, where)


def check(values: Mapping[str, str]) -> Settings:
    """Check a configuration as every command does that loads one. No query command is run.

    Raises :class:`CommandError` in Kong's words, for example for a plugin server without a query command.
    """
    try:
        return Settings.from_environment(as_environment(values))
    except SettingsError as error:
        raise CommandError(str(error)) from None


def prefix_of(values: Mapping[str, str]) -> Path:
    """Give the prefix of a configuration as an absolute path."""
    return Path(values.get("prefix", "").strip() or KONG_PREFIX).absolute()


def as_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Give the ``KONG_*`` variables of a configuration."""
    return {f"KONG_{name.upper()}": value for name, value in values.items()}


def read_file(path: Path) -> dict[str, str]:
    """Read a file of the form of ``kong.conf``. Raises :class:`CommandError`."""
    values: dict[str, str] = {}
    for number, line in enumerate(_lines(path), start=1):
        text = _COMMENT.sub("", line).strip().replace("\\#", "#")
        if not text:
            continue
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandError(f"{path}:{number}: '{text}' is no setting; write NAME = VALUE")
        values[name.strip()] = value.strip()
    return values


def read_kong_env(prefix: Path) -> dict[str, str]:
    """Read ``.kong_env`` of a prefix. Raises :class:`CommandError`."""
    values: dict[str, str] = {}
    for line in _LINE.findall("\n".join(_lines(prefix / KONG_ENV))):
        name, equals, value = line.partition(" = ")
        if equals and not line.startswith("#"):
            values[name] = re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
    return values


def write_kong_env(prefix: Path, values: Mapping[str, str]) -> None:
    """Write ``.kong_env`` atomically: a reader never sees half of it. Raises OSError."""
    lines = [f"{name} = {_escape(value)}\n" for name, value in sorted(values.items())]
    temporary = prefix / f"{KONG_ENV}.new"
    temporary.unlink(missing_ok=True)
    # It may hold passwords.
    temporary.touch(mode=0o640)
    temporary.write_text(_HEADER + "".join(lines), encoding="utf-8", errors="surrogateescape")
    temporary.replace(prefix / KONG_ENV)


def _escape(value: str) -> str:
    # Kong escapes `#`; newlines (in declarative_config_string) and the backslash need it, too.
    return re.sub(r"([\\#\n])", r"\\\1", value)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape").split("\n")
    except FileNotFoundError:
        raise CommandError(f"no file at: {path}") from None
    except OSError as error:
        raise CommandError(f"could not read configuration file at {path}: {error.strerror}") from None


def _overlay(values: Mapping[str, str], environment: Mapping[str, str], prefix: Path | None) -> dict[str, str]:
    merged = dict(values)
    for name, value in environment.items():
        if name.startswith("KONG_") and len(name) > 5:
            merged[name[5:].lower()] = value
    if prefix is not None:
        merged["prefix"] = str(prefix)
    merged["prefix"] = str(prefix_of(merged))
    return merged
