"""The command lines of plugin servers: for a folder (``kong-python-pluginserver``) and for a single file."""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from kong_pdk import __version__, logs, mode, settings
from kong_pdk.metrics.recorder import record_server
from kong_pdk.packages.activation import activate
from kong_pdk.plugin import (
    Description,
    Plugin,
    PluginError,
    Problem,
    Source,
    dump,
    find,
    inspect,
    keep_apart,
    load,
    server_name,
)
from kong_pdk.protocol import PROTOCOLS
from kong_pdk.server.listener import QUEUE_SIZE
from kong_pdk.server.serving import serve_by_workers
from kong_pdk.server.workers.single_file import become_master
from kong_pdk.server.workers.worker import Load, Loaded, hand_over
from kong_pdk.settings import KONG_PREFIX, LOG_FORMAT, log_level

_log = logging.getLogger(__name__)
_FOLDER_SOCKET = "python_pluginserver.sock"
_Load = Callable[[Source], Plugin]


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program, description=description, allow_abbrev=False)
    parser.add_argument("--version", "-version", action="version", version=f"kong-python {__version__}")
    parser.add_argument(
        "-p", "--kong-prefix", "-kong-prefix", metavar="DIR", default=os.environ.get("KONG_PREFIX") or KONG_PREFIX,
        help="the directory of the socket: Kong's prefix (default: KONG_PREFIX, else %(default)s)",
    )  # fmt: skip
    parser.add_argument("--socket-name", "-socket-name", metavar="FILE", help="the socket's name in that directory")
    parser.add_argument(
        "--listen-queue-size", "-listen-queue-size", metavar="N", type=_queue_size, default=QUEUE_SIZE,
        help="how many connections may wait to be accepted (default: %(default)s); the kernel's somaxconn limits it",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", "-protocol", choices=tuple(PROTOCOLS),
        help="the protocol that a dump asks Kong to speak (default: KONG_PYTHON_PROTOCOL, else protobuf where Kong's "
        "interface file has our extension, else msgpack); the server answers both",
    )  # fmt: skip
    parser.add_argument(
        "--no-lua-style", "-no-lua-style", action="store_true",
        help="PDK calls return values and raise PDKError, instead of returning (value, err)",
    )  # fmt: skip
    parser.add_argument("-v", "--verbose", "-verbose", action="store_true", help="log each event and PDK call")
    parser.add_argument(
        "-g", "--gevent", "-gevent", dest="engine", action="store_const", const=mode.GEVENT,
        help="run handlers in greenlets: --engine gevent",
    )  # fmt: skip
    parser.add_argument(
        "--engine", "-engine", choices=mode.ENGINES,
        help="what runs handlers (default: the module's `engine`, else KONG_PYTHON_ENGINE, else auto: the loop, or "
        "threads where the plugin's source needs them)",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--multiprocessing", "-multiprocessing", dest="workers", action="store_const",
        const=mode.one_for_each_core(), help="serve by one process for each processor core, at least two",
    )  # fmt: skip
    parser.add_argument(
        "--workers", "-workers", metavar="N", type=_workers,
        help=f"how many processes serve, {settings.WORKERS.kind} "
        "(default: the module's `workers`, else KONG_PYTHON_WORKERS, else 1)",
    )  # fmt: skip
    return parser


def _workers(text: str) -> int:
    try:
        return settings.WORKERS.parse(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {settings.WORKERS.kind}") from None


def _queue_size(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 2**31:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of connections from 1 to 2147483647")
    return int(text)


def folder_main(argv: Sequence[str] | None = None) -> int:
    """Run ``kong-python-pluginserver``: serve or dump the plugins of a folder.

    :param argv: the arguments; None for the arguments of the process.
    :return: the exit status.
    """
    options = parse(tuple(sys.argv[1:] if argv is None else argv))
    names = options.plugin or ([options.dump_plugin_info] if options.dump_plugin_info else None)
    program = names[0] if names and len(names) == 1 else "pluginserver"
    logs.configure(program, options.verbose, form=LOG_FORMAT.read(os.environ), level=log_level(os.environ))
    folder = Path(options.plugins_directory)
    dumping = options.dump_plugin_info or options.dump_all_plugins
    load_with_packages = _loader(folder, names, options.packages, one_process=not dumping)
    if dumping:
        return _dump_folder(folder, names, options.protocol, load_with_packages)
    path = Path(options.kong_prefix) / (options.socket_name or _FOLDER_SOCKET)
    described: list[Description] = []

    def describe() -> list[Description]:
        described[:] = _descriptions(folder, names, load_with_packages)
        return described

    chosen = _choose(options, describe)

    def load_all() -> Loaded:
        loaded = _load_folder(folder, names, load_with_packages)
        if options.no_lua_style:
            loaded.plugins = [replace(plugin, lua_style=False) for plugin in loaded.plugins]
        return loaded

    if options.metrics_directory:
        record_server(options.metrics_directory, names or [source.name for source in find(folder)[0]])
    preload = chosen.engine != mode.GEVENT and (options.preload or any(plugin.preload for plugin in described))
    if preload:
        load_all = _preload(load_all)
    elif options.preload:
        _log.warning("preload has no effect: gevent must replace parts of Python before the plugin is imported")
    return serve_by_workers(
        load_all, chosen, [path], options.metrics_directory, options.listen_queue_size, has_code=preload
    )


@functools.cache  # a process from which servers are forked does this for them: it takes a megabyte
def parse(argv: tuple[str, ...]) -> argparse.Namespace:
    """Read the arguments of ``kong-python-pluginserver``.

    :raises SystemExit: after ``--help``, or a message about a mistake.
    """
    parser = _parser("kong-python-pluginserver", "Serves a folder of Python plugins to Kong.")
    parser.add_argument(
        "-d", "--plugins-directory", "-plugins-directory", metavar="DIR", default="/usr/local/kong/python-plugins",
        help="the folder of the plugins (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--plugin", "-plugin", metavar="NAME", action="append", help="serve only this plugin; may be repeated"
    )
    parser.add_argument(
        "--packages", "-packages", metavar="DIR", action="append", type=Path,
        help="import packages from this directory before those of the PDK; may be repeated (default: the packages "
        "that kong-python install installed for the folder's requirements.txt)",
    )  # fmt: skip
    parser.add_argument(
        "--no-packages", "-no-packages", dest="packages", action="store_const", const=[],
        help="import no packages but those of the PDK",
    )  # fmt: skip
    parser.add_argument(
        "--dump-plugin-info", "-dump-plugin-info", metavar="NAME", help="print one plugin as JSON, and end"
    )
    parser.add_argument(
        "--dump-all-plugins", "-dump-all-plugins", "--dump", "-dump", action="store_true",
        help="print all plugins as JSON, and end",
    )  # fmt: skip
    parser.add_argument(
        "--preload", "-preload", action="store_true",
        help="import the plugins in the master, once, so that the workers share their memory; not for gevent "
        "(default: the module's `preload`, unless both --engine and --workers are given)",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-directory", metavar="DIR", type=Path,
        help="count events in files of this directory, from which the image serves metrics",
    )  # fmt: skip
    return parser.parse_args(argv)


def _preload(load_all: Load) -> Load:
    """Load the plugins in this process, a master: its workers have them then."""
    loaded = load_all()
    logs.restore()
    if threading.active_count() > 1:
        names = ", ".join(sorted(each.name for each in threading.enumerate() if each is not threading.main_thread()))
        _log.warning(
            "its import has started threads (%s), which the workers do not have; start them in __init__, or leave out "
            "preload", names,
        )  # fmt: skip
    return lambda: loaded


def _choose(options: argparse.Namespace, descriptions: Callable[[], Iterable[mode.Wish]]) -> mode.Mode:
    """Choose the engine and the number of workers.

    :param descriptions: gives what the plugins' modules ask for; called only where the options leave it open.
    :raises SettingError: a variable has an invalid value.
    """
    if options.engine not in (None, mode.AUTO) and options.workers is not None:
        return mode.Mode(options.engine, options.workers)
    wishes = list(descriptions())
    chosen = mode.choose(wishes, mode.default(os.environ), options.engine, options.workers)
    for wish in wishes:
        why = mode.reason(wish, options.engine, os.environ)
        _log.log(logs.NOTICE, "%s", mode.announcement(wish, chosen, why))
    if len(wishes) > 1 and (message := mode.disagreement(wishes, chosen)):
        _log.warning("%s", message)
    return chosen


def _descriptions(folder: Path, names: list[str] | None, load: _Load) -> list[Description]:
    """Inspect the plugins in processes of their own, since the master runs no code of a plugin."""
    inspection = inspect(folder, printed=lambda name, line: None, load=load)
    for warning in inspection.warnings(names):
        _log.warning("%s", warning)
    return [plugin for plugin in inspection.plugins if names is None or plugin.name in names]


def _loader(folder: Path, names: list[str] | None, directories: list[Path] | None, one_process: bool) -> _Load:
    """Return the function that loads a plugin with its packages: from ``directories``, or as installed for it."""
    if directories is None:
        from kong_pdk.packages.plugin_packages import locate

        packages = locate(folder, os.environ, names)
        if one_process and packages.shared:
            _log.warning("%s", packages.shared)
        return packages.load
    activate(directories)
    return load


def _dump_folder(folder: Path, names: list[str] | None, protocol: str | None, load: _Load) -> int:
    inspection = inspect(folder, load=load)
    for warning in inspection.warnings(names):
        _log.warning("%s", warning)
    plugins = [plugin for plugin in inspection.plugins if names is None or plugin.name in names]
    messages = _messages(inspection.problems, names)
    for message in messages if plugins else [*messages, _missing_message(names or (), folder)]:
        _log.error("%s", message)
    if not plugins:
        return 1
    _print_dump(plugins, protocol)
    return 0


def _load_folder(folder: Path, names: list[str] | None, load: _Load) -> Loaded:
    """Load the plugins of a folder; load none where one of ``names`` is missing."""
    sources, problems = find(folder, names)
    chosen = [source for source in sources if names is None or source.name in names]
    if len(chosen) > 1:
        keep_apart()
    plugins: list[Plugin] = []
    for source in chosen:
        try:
            plugins.append(load(source))
        except PluginError as error:  # noqa: PERF203  # the other plugins are served
            problems.extend(error.problems)
    messages = _messages(problems, names)
    missing = set(names or ()) - {plugin.name for plugin in plugins}
    if missing or not plugins:
        return Loaded(messages=[*messages, _missing_message(missing, folder)])
    return Loaded(plugins, messages)


def _messages(problems: Iterable[Problem], names: list[str] | None) -> list[str]:
    return [str(problem) for problem in problems if names is None or problem.plugin in (None, *names)]


def _missing_message(names: Iterable[str], folder: Path) -> str:
    listed = ", ".join(sorted(names))
    return f"there is no {f'plugin {listed} that works' if listed else 'working plugin'} in {folder}"


def dedicated_main(name: str, checked: Callable[[], Plugin], argv: Sequence[str] | None = None) -> int:  # noqa: RET503
    """Run a plugin's file as a server of its own: serve or dump the plugin.

    :param name: the plugin's name.
    :param checked: gives the plugin, or raises PluginError.
    :param argv: the arguments; None for the arguments of the process.
    :return: the exit status.
    """
    hand_over(checked)
    parser = _parser(name, f"Serves the plugin {name} to Kong.")
    parser.add_argument(
        "--dump", "-dump", "--dump-all-plugins", action="store_true", help="print the plugin as JSON, and end"
    )
    options = parser.parse_args(argv)
    if options.dump:
        _send_prints_to_stderr()
    logs.configure(name, options.verbose, form=LOG_FORMAT.read(os.environ), level=log_level(os.environ))
    try:
        plugin = checked()
    except PluginError as error:
        for problem in error.problems:
            _log.error("%s", problem)
        return 1
    for warning in plugin.warnings:
        _log.warning("%s", warning)
    if options.dump:
        _print_dump([plugin], options.protocol)
        return 0
    paths = [Path(options.kong_prefix) / socket for socket in _sockets(name, options.socket_name)]
    chosen = _choose(options, lambda: [plugin])
    become_master(plugin, chosen, paths, options)


def _sockets(name: str, chosen: str | None) -> list[str]:
    """List the names of the sockets of a file that serves itself.

    Kong's default is the server's name, in lower case, and ``.socket``. Servers of kong-pdk listen on the plugin's
    name and ``.sock``, and existing configurations name that socket.
    """
    if chosen:
        return [chosen]
    names = dict.fromkeys((server_name(name), name))
    return [f"{each}.{end}" for end in ("socket", "sock") for each in names]


def _print_dump(plugins: list[Description], option: str | None) -> None:
    # Not at the top: it imports protobuf, which a plugin's own packages may replace.
    from kong_pdk.interface_file import protocol

    text = dump(plugins, protocol(option))
    _send_prints_to_stderr()
    print(text, flush=True)


def _send_prints_to_stderr() -> None:
    """Send buffered prints of the plugin to standard error: Kong refuses a dump with other output before it."""
    with contextlib.suppress(OSError, ValueError):
        output = os.dup(1)
        os.dup2(2, 1)
        try:
            sys.stdout.flush()
        finally:
            os.dup2(output, 1)
            os.close(output)
