"""The variables that make Kong know the plugins that were found, merged with what the user set."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.image.settings import Settings, variable_of
from kong_pdk.plugin import bundled, server_name


@dataclass(frozen=True)
class Changes:
    """What is to be done to the environment, and which plugins' servers are ours to run.

    ``schema_only`` are the plugins of a control plane: Kong has to know them, and never calls them.
    """

    variables: Mapping[str, str]
    removed: tuple[str, ...]
    servers: tuple[str, ...]
    schema_only: tuple[str, ...] = ()

    def apply(self, environ: Mapping[str, str]) -> dict[str, str]:
        """Give the environment after the changes."""
        kept = {name: value for name, value in environ.items() if name not in self.removed}
        return {**kept, **self.variables}


def merge(settings: Settings, plugins: Sequence[str], run: RunDirectory) -> Changes:
    """Merge the found plugins into what the user set, which wins key by key.

    :param plugins: names of the plugins that can be served.
    :param run: where their sockets and dumps are.
    """
    if not plugins or switched_off(settings):
        return Changes({}, (), ())
    variables = {
        **settings.log_level,
        "KONG_PLUGINS": _extended(_list_of(settings, "plugins", "bundled"), plugins, str),
        "KONG_PLUGINSERVER_NAMES": _extended(
            _list_of(settings, "pluginserver_names", ""), [server_name(name) for name in plugins], key_of
        ),
    }
    servers = []
    for name in plugins:
        if not _served_by_user(settings, name, run):
            variables[variable_of(_option(name, "socket"))] = str(run.socket(name))
            servers.append(name)
        query = settings.get(_option(name, "query_cmd")) or query_command(run, name)
        variables[variable_of(_option(name, "query_cmd"))] = query
    ours = tuple(servers)
    if settings.control_plane:
        return Changes(variables, settings.file_variables, (), ours)
    return Changes(variables, settings.file_variables, ours)


def switched_off(settings: Settings) -> bool:
    """Whether the user wants no plugin at all: ``off`` in the first place of KONG_PLUGINS."""
    return _list_of(settings, "plugins", "bundled")[:1] == ["off"]


def lookalikes(settings: Settings, plugins: Sequence[str]) -> list[str]:
    """Say where KONG_PLUGINS names a plugin by other letters: Kong tells capitals, ``-`` and ``_`` apart there."""
    by_key = {key_of(name): name for name in plugins}
    words = {*_list_of(settings, "plugins", "bundled")} - {*plugins} - bundled()
    return [
        f'KONG_PLUGINS has "{word}", the plugin is "{by_key[key_of(word)]}": Kong does not start with a plugin that it '
        "does not find; write the name as the file has it"
        for word in sorted(words)
        if key_of(word) in by_key
    ]


def key_of(name: str) -> str:
    """Give a plugin server's name as it stands in keys, in small letters."""
    return name.lower().replace("-", "_")


def query_command(run: RunDirectory, name: str) -> str:
    """Give the command that prints a plugin's dump: Kong starts no interpreter for it."""
    return f"cat {shlex.quote(str(run.dump(name)))}"


def shell_script(environ: Mapping[str, str], changes: Changes) -> str:
    """Write the changes for the wrapper of ``kong``.

    A variable is changed only where it still has the value that the container was started with: what
    ``docker exec -e`` sets stays.
    """
    lines = ["# Written at each start of the container; sourced by /opt/kong-python/bin/kong."]
    for name, value in changes.variables.items():
        if environ.get(name) != value:
            lines.append(f"if {_unchanged(name, environ)}; then export {name}={shlex.quote(value)}; fi")
    lines += [f"if {_unchanged(name, environ)}; then unset {name}; fi" for name in changes.removed]
    return "\n".join(lines) + "\n"


def _unchanged(name: str, environ: Mapping[str, str]) -> str:
    if name in environ:
        return f'[ "${{{name}-}}" = {shlex.quote(environ[name])} ]'
    return f'[ -z "${{{name}+set}}" ]'


def _option(name: str, part: str) -> str:
    return f"pluginserver_{key_of(name)}_{part}"


def _served_by_user(settings: Settings, name: str, run: RunDirectory) -> bool:
    """Whether the user runs this plugin's server: a start command, or a socket that is not ours."""
    socket = settings.get(_option(name, "socket"))
    return bool(settings.get(_option(name, "start_cmd"))) or socket not in (None, "", str(run.socket(name)))


def _list_of(settings: Settings, option: str, default: str) -> list[str]:
    value = settings.get(option)
    return [word for item in (default if value is None else value).split(",") if (word := item.strip())]


def _extended(words: list[str], more: Sequence[str], key: Callable[[str], str]) -> str:
    known = {key(word) for word in words}
    return ",".join([*words, *(word for word in more if key(word) not in known)])
