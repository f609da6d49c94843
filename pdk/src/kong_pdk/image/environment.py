"""The variables that tell Kong of the plugins in the folder, merged with the user's settings."""

from __future__ import annotations

import difflib
import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.image.kong_settings import Settings, as_kong_reads, variable_of
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.plugin import bundled, server_name
from kong_pdk.plugin.names import key_of

_PROGRAMS = Path("/usr/local/bin")
_PARTS = ("socket", "start_cmd", "query_cmd")
_SERVERS_SETTING = re.compile(rf"pluginserver_(.+)_({'|'.join(_PARTS)})")
_GLOBAL_OPTIONS = ("pluginserver_names", "pluginserver_names_file")
# Kubernetes sets such variables for every Service of the namespace, and a Service may be called kong-pluginserver.
_KUBERNETES_SERVICE = re.compile(
    r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$"
)

_LISTS = ("KONG_PLUGINS", "KONG_PLUGINS_FILE", "KONG_PLUGINSERVER_NAMES", "KONG_PLUGINSERVER_NAMES_FILE")
_NAME = re.compile(r"[\w.~-]+")
# For difflib: "py-helo" is similar to "py-hello", "py-bye" is not.
_NAME_CUTOFF = 0.8
_LIST_CUTOFF = 0.9
_LUA_PATH = "./?.lua;./?/init.lua;;"
_LUA_DEFAULT = "/usr/local/share/lua/5.1/?.lua;/usr/local/share/lua/5.1/?/init.lua"


@dataclass(frozen=True)
class Changes:
    """The changes to the environment, and the plugins whose servers the image runs.

    ``schema_only`` has the plugins of a control plane: Kong needs their schemas and never calls them.
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
    """Merge the plugins of the folder with the user's settings. A setting of the user wins.

    :param plugins: names of the plugins that can be served.
    :param run: has their sockets and dumps.
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
    """Whether the user wants no plugin at all: KONG_PLUGINS begins with ``off``."""
    return _list_of(settings, "plugins", "bundled")[:1] == ["off"]


def lookalikes(settings: Settings, plugins: Sequence[str]) -> list[str]:
    """Warn of names in KONG_PLUGINS that are spelled otherwise than the plugin: capitals, ``-`` and ``_`` count there.

    Other unknown names may be plugins in Lua; a warning names them only if they are similar to a plugin's name.
    """
    by_key = {key_of(name): name for name in plugins}
    servers = {key_of(name) for name in _names_of(settings, "pluginserver_names")}
    words = {*_names_of(settings, "plugins")} - {*plugins, "bundled", "off"} - bundled()
    notes = _wrong_separators(settings, "plugins")
    for word in sorted(words):
        if key_of(word) in by_key:
            notes.append(
                f'KONG_PLUGINS has "{word}", the plugin is "{by_key[key_of(word)]}": Kong does not start with a plugin '
                "that it does not find; write the name as the file has it"
            )
        elif key_of(word) not in servers and not _is_in_lua(settings, word):
            guess = difflib.get_close_matches(key_of(word), by_key, n=1, cutoff=_NAME_CUTOFF)
            if guess:
                notes.append(
                    f'KONG_PLUGINS has "{word}", and neither the folder nor Kong has a plugin of this name; did you '
                    f'mean "{by_key[guess[0]]}"?'
                )
    return notes


def _is_in_lua(settings: Settings, name: str) -> bool:
    """Whether Kong's Lua path has a plugin of this name."""
    places = (settings.get("lua_package_path") or _LUA_PATH).replace(";;", f";{_LUA_DEFAULT};").split(";")
    module = f"kong/plugins/{name}/handler"
    return any(Path(place.strip().replace("?", module)).is_file() for place in places if "?" in place)


def ignored(settings: Settings, plugins: Sequence[str]) -> list[str]:
    """Warn of settings of plugin servers that Kong ignores, and say how to write them.

    :param plugins: names of the plugins in the folder.
    """
    named = _names_of(settings, "pluginserver_names")
    known = {key_of(name): name for name in [*named, *plugins]}
    notes = [
        *_misspelled_options(settings),
        *_wrong_separators(settings, "pluginserver_names"),
        *_ignored_variables(settings, known),
        *_ignored_in_file(settings, known),
    ]
    # Variables in their correct spelling; the notes above report the wrong spellings.
    spelled = {_corrected(name) for name in settings.plugin_server_variables}
    for name in named:
        query = variable_of(_option(name, "query_cmd"))
        ours = key_of(name) in map(key_of, plugins)
        # Without a query command, Kong looks for one of these programs.
        default = any((_PROGRAMS / program).exists() for program in (name.lower(), f"query_{name.lower()}"))
        if not ours and not default and query not in spelled and not settings.get(_option(name, "query_cmd")):
            used = any(variable_of(_option(name, part)) in spelled for part in _PARTS)
            removal = "" if used else ", or remove the name"
            notes.append(
                f"KONG_PLUGINSERVER_NAMES has {name}, which is no plugin of the folder, and Kong cannot ask that "
                f"server for its plugins: set {query}{removal}"
            )
    return notes


def _misspelled_options(settings: Settings) -> Iterator[str]:
    """Warn of variables that are spelled almost like KONG_PLUGINS or KONG_PLUGINSERVER_NAMES: Kong ignores them."""
    for spelled in settings.variables_like("KONG_PLUGIN"):
        right = _corrected(spelled)
        if spelled in _LISTS or spelled in settings.plugin_server_variables or _KUBERNETES_SERVICE.search(right):
            continue
        if guess := difflib.get_close_matches(right, _LISTS, n=1, cutoff=_LIST_CUTOFF):
            yield f"Kong ignores {spelled}: did you mean {guess[0]}?"


def _wrong_separators(settings: Settings, option: str) -> list[str]:
    """Warn of a list with spaces, semicolons or quotes around its names."""
    words = _list_of(settings, option, "")
    wrong = [word for word in words if not _NAME.fullmatch(word)]
    if not wrong:
        return []
    variable, right = variable_of(option), ",".join(_names_of(settings, option))
    return [f'{variable} has "{wrong[0]}": separate names by commas alone, and write no quotes: {variable}={right}']


def _ignored_variables(settings: Settings, known: Mapping[str, str]) -> Iterator[str]:
    for spelled in settings.plugin_server_variables:
        right = _corrected(spelled)
        if _KUBERNETES_SERVICE.search(right):
            continue
        option = right.removeprefix("KONG_").lower()
        add = "add it" if spelled == right else _addition(settings, option)
        wrong = None if option in _GLOBAL_OPTIONS else _unknown_server(option, known, variable_of, add)
        if wrong:
            yield f"Kong ignores {spelled}: {wrong}"
        elif spelled != right:
            also = ", which is set, too" if settings.get(option) else ""
            yield f"Kong ignores {spelled}: write {right}{also}"


def _addition(settings: Settings, option: str) -> str:
    """Give the hint that makes Kong know a server whose variable has a dash or small letters."""
    query = variable_of(re.sub(rf"({'|'.join(_PARTS)})$", "query_cmd", option))
    missing = query not in map(_corrected, settings.plugin_server_variables)
    return f"add it, and write {variable_of(option)}{f' and set {query}' if missing else ''}"


def _ignored_in_file(settings: Settings, known: Mapping[str, str]) -> Iterator[str]:
    for spelled in settings.spelled_in_file:
        read = as_kong_reads(spelled)
        if not re.match(r"pluginservers?_", read, re.IGNORECASE):
            continue
        wrong = None if read.lower() in _GLOBAL_OPTIONS else _unknown_server(read.lower(), known, str)
        if wrong:
            yield f"kong.conf: Kong ignores {spelled}: {wrong}"
        elif read != read.lower():
            yield f"kong.conf: Kong ignores {spelled}: write {read.lower()}"


def _unknown_server(
    option: str, known: Mapping[str, str], shown: Callable[[str], str], add: str = "add it"
) -> str | None:
    """Say why Kong ignores an option: its server is not in the list of names, or it is no setting of a server.

    :param add: the hint if the server is not in the list.
    """
    match = _SERVERS_SETTING.fullmatch(option)
    if match is None:
        every = [*_GLOBAL_OPTIONS[:1], *(_option(key, part) for key in known for part in _PARTS)]
        guess = difflib.get_close_matches(option, every, n=1)
        parts = ", ".join(part.upper() for part in _PARTS)
        return f"did you mean {shown(guess[0])}?" if guess else f"a plugin server has {parts}"
    key, part = match[1], match[2]
    if key in known:
        return None
    guess = difflib.get_close_matches(key, known, n=1)
    meant = f"; did you mean {shown(_option(guess[0], part))}?" if guess else ""
    return f"{shown('pluginserver_names')} has no {key.replace('_', '-')}; {add}{meant}"


def _corrected(variable: str) -> str:
    """Give the spelling of a variable that Kong reads."""
    return variable.upper().replace("-", "_")


def query_command(run: RunDirectory, name: str) -> str:
    """Give the command that prints a plugin's dump. It is ``cat``, so that Kong starts no interpreter."""
    return f"cat {shlex.quote(str(run.dump(name)))}"


def shell_script(environ: Mapping[str, str], changes: Changes) -> str:
    """Give the changes as a script for the wrapper of ``kong``.

    It changes a variable only if that has still its value from the start of the container: values that
    ``docker exec -e`` sets stay.
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
    """Whether the user runs this plugin's server: there is a start command, or a socket other than ours."""
    socket = settings.get(_option(name, "socket"))
    return bool(settings.get(_option(name, "start_cmd"))) or socket not in (None, "", str(run.socket(name)))


def _list_of(settings: Settings, option: str, default: str) -> list[str]:
    value = settings.get(option)
    return [word for item in (default if value is None else value).split(",") if (word := item.strip())]


def _names_of(settings: Settings, option: str) -> list[str]:
    """Give the names of a list, whatever separates them."""
    return list(dict.fromkeys(name for word in _list_of(settings, option, "") for name in _NAME.findall(word)))


def _extended(words: list[str], more: Sequence[str], key: Callable[[str], str]) -> str:
    known = {key(word) for word in words}
    return ",".join([*words, *(word for word in more if key(word) not in known)])
