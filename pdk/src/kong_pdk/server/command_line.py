"""The command lines of plugin servers: of a folder's (``kong-python-pluginserver``) and of a single file's."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import sys
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
from kong_pdk.server.listener import QUEUE_SIZE
from kong_pdk.server.serving import serve_alone, serve_by_workers
from kong_pdk.server.single_file import become_master, hand_over
from kong_pdk.server.worker import Loaded
from kong_pdk.settings import LOG_FORMAT, log_level

_log = logging.getLogger(__name__)
_PREFIX = "/usr/local/kong"
_FOLDER_SOCKET = "python_pluginserver.sock"
_Load = Callable[[Source], Plugin]


def _parser(program: str, description: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(program, description=description, allow_abbrev=False)
    parser.add_argument("--version", "-version", action="version", version=f"kong-python {__version__}")
    parser.add_argument(
        "-p", "--kong-prefix", "-kong-prefix", metavar="DIR", default=os.environ.get("KONG_PREFIX") or _PREFIX,
        help="the directory of the socket: Kong's prefix (default: KONG_PREFIX, else %(default)s)",
    )  # fmt: skip
    parser.add_argument("--socket-name", "-socket-name", metavar="FILE", help="the socket's name in that directory")
    parser.add_argument(
        "--listen-queue-size", "-listen-queue-size", metavar="N", type=_queue_size, default=QUEUE_SIZE,
        help="how many connections may wait to be accepted (default: %(default)s); the kernel's somaxconn limits it",
    )  # fmt: skip
    parser.add_argument(
        "--protocol", "-protocol", choices=("msgpack", "protobuf"),
        help="the protocol that a dump asks Kong to speak (default: what KONG_PYTHON_PROTOCOL says, else protobuf "
        "where Kong's interface file has our extension, else msgpack); the server answers both",
    )  # fmt: skip
    parser.add_argument(
        "--no-lua-style", "-no-lua-style", action="store_true",
        help="PDK calls give values and raise PDKError, instead of giving (value, err)",
    )  # fmt: skip
    parser.add_argument("-v", "--verbose", "-verbose", action="store_true", help="log each event and PDK call")
    _add_mode(parser)
    return parser


def _add_mode(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-g", "--gevent", "-gevent", dest="engine", action="store_const", const=mode.GEVENT,
        help="run handlers by gevent: --engine gevent",
    )  # fmt: skip
    parser.add_argument(
        "--engine", "-engine", choices=mode.ENGINES,
        help="what runs handlers (default: what the plugin's module says, else KONG_PYTHON_ENGINE, else threads)",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--multiprocessing", "-multiprocessing", dest="workers", action="store_const",
        const=mode.one_for_each_core(), help="serve by a process for each processor core, two at least",
    )  # fmt: skip
    parser.add_argument(
        "--workers", "-workers", metavar="N", type=_workers,
        help=f"how many processes serve, {settings.WORKERS.kind} "
        "(default: what the plugin's module says, else KONG_PYTHON_WORKERS, else 1)",
    )  # fmt: skip


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
    """Run ``kong-python-pluginserver``: serve, or dump, the plugins of a folder.

    :param argv: the arguments; those of the process where None.
    :return: the exit status.
    """
    parser = _parser("kong-python-pluginserver", "Serves a folder of Python plugins to Kong.")
    parser.add_argument(
        "-d", "--plugins-directory", "-plugins-directory", metavar="DIR", default="/usr/local/kong/python-plugins",
        help="the folder of the plugins (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--plugin", "-plugin", metavar="NAME", action="append", help="serve this one of them only; may be repeated"
    )
    parser.add_argument(
        "--packages", "-packages", metavar="DIR", action="append", type=Path,
        help="import packages from this directory, before those of the PDK; may be repeated (default: what "
        "kong-python install made of requirements.txt in the folder)",
    )  # fmt: skip
    parser.add_argument("--dump-plugin-info", "-dump-plugin-info", metavar="NAME", help="print one as JSON, and end")
    parser.add_argument(
        "--dump-all-plugins", "-dump-all-plugins", "--dump", "-dump", action="store_true",
        help="print all of them as JSON, and end",
    )  # fmt: skip
    parser.add_argument(
        "--metrics-directory", metavar="DIR", type=Path,
        help="count events in files there, from which the image serves metrics",
    )  # fmt: skip
    options = parser.parse_args(argv)
    wanted = options.plugin or ([options.dump_plugin_info] if options.dump_plugin_info else None)
    program = wanted[0] if wanted and len(wanted) == 1 else "pluginserver"
    logs.configure(program, options.verbose, form=LOG_FORMAT.read(os.environ), level=log_level(os.environ))
    folder = Path(options.plugins_directory)
    dumping = options.dump_plugin_info or options.dump_all_plugins
    load_with_packages = _loader(folder, wanted, options.packages, one_process=not dumping)
    if dumping:
        return _dump_folder(folder, wanted, options.protocol, load_with_packages)
    path = Path(options.kong_prefix) / (options.socket_name or _FOLDER_SOCKET)
    chosen = _choose(options, lambda: _wishes(folder, wanted, load_with_packages))

    def load_all() -> Loaded:
        loaded = _load_folder(folder, wanted, load_with_packages)
        if options.no_lua_style:
            loaded.plugins = [replace(plugin, lua_style=False) for plugin in loaded.plugins]
        return loaded

    if options.metrics_directory:
        record_server(options.metrics_directory, wanted or [source.name for source in find(folder)[0]])
    return serve_by_workers(load_all, chosen, [path], options.metrics_directory, options.listen_queue_size)


def _choose(options: argparse.Namespace, wishes: Callable[[], Iterable[mode.Wish]]) -> mode.Mode:
    """Decide by which engine and how many workers to serve.

    :raises SettingError: a variable has no meaning.
    """
    if options.engine is not None and options.workers is not None:
        return mode.Mode(options.engine, options.workers)
    asked = list(wishes())
    chosen = mode.choose(asked, mode.default(os.environ), options.engine, options.workers)
    if len(asked) > 1 and (sentence := mode.disagreement(asked, chosen)):
        _log.warning("%s", sentence)
    return chosen


def _wishes(folder: Path, wanted: list[str] | None, load: _Load) -> list[Description]:
    """Learn in processes of their own what modules say: this one is to run no code of plugins."""
    inspection = inspect(folder, printed=lambda name, line: None, load=load)
    for warning in inspection.warnings(wanted):
        _log.warning("%s", warning)
    return [plugin for plugin in inspection.plugins if wanted is None or plugin.name in wanted]


def _loader(folder: Path, wanted: list[str] | None, directories: list[Path] | None, one_process: bool) -> _Load:
    """Give what loads a plugin with its packages: those in the directories, or those that are installed for it."""
    if directories is None:
        from kong_pdk.packages.plugin_packages import locate

        found = locate(folder, os.environ, wanted)
        if one_process and found.shared:
            _log.warning("%s", found.shared)
        return found.load
    activate(directories)
    return load


def _dump_folder(folder: Path, wanted: list[str] | None, protocol: str | None, load: _Load) -> int:
    inspection = inspect(folder, load=load)
    for warning in inspection.warnings(wanted):
        _log.warning("%s", warning)
    found = [plugin for plugin in inspection.plugins if wanted is None or plugin.name in wanted]
    sentences = _sentences(inspection.problems, wanted)
    for sentence in sentences if found else [*sentences, _missing(wanted or (), folder)]:
        _log.error("%s", sentence)
    if not found:
        return 1
    _print_dump(found, protocol)
    return 0


def _load_folder(folder: Path, wanted: list[str] | None, load: _Load) -> Loaded:
    """Load the plugins of a folder; nothing is served where one that was asked for is not there."""
    sources, problems = find(folder)
    chosen = [source for source in sources if wanted is None or source.name in wanted]
    if len(chosen) > 1:
        keep_apart()
    plugins: list[Plugin] = []
    for source in chosen:
        try:
            plugins.append(load(source))
        except PluginError as error:  # noqa: PERF203  # the others are served
            problems.extend(error.problems)
    sentences = _sentences(problems, wanted)
    missing = set(wanted or ()) - {plugin.name for plugin in plugins}
    if missing or not plugins:
        return Loaded(sentences=[*sentences, _missing(missing, folder)])
    return Loaded(plugins, sentences)


def _sentences(problems: Iterable[Problem], wanted: list[str] | None) -> list[str]:
    return [str(problem) for problem in problems if wanted is None or problem.plugin in (None, *wanted)]


def _missing(names: Iterable[str], folder: Path) -> str:
    listed = ", ".join(sorted(names))
    return f"there is no {f'plugin {listed} that works' if listed else 'working plugin'} in {folder}"


def dedicated_main(name: str, checked: Callable[[], Plugin], argv: Sequence[str] | None = None) -> int:
    """Run a plugin's file as a server of its own: serve it, or dump it.

    :param checked: gives the plugin, or raises PluginError.
    :return: the exit status.
    """
    hand_over(checked)
    parser = _parser(name, f"Serves the plugin {name} to Kong.")
    parser.add_argument("--dump", "-dump", "--dump-all-plugins", action="store_true", help="print it as JSON, and end")
    options = parser.parse_args(argv)
    if options.dump:
        _drop_printed()
    logs.configure(name, options.verbose, form=LOG_FORMAT.read(os.environ), level=log_level(os.environ))
    try:
        served = checked()
    except PluginError as error:
        for problem in error.problems:
            _log.error("%s", problem)
        return 1
    for warning in served.warnings:
        _log.warning("%s", warning)
    if options.dump:
        _print_dump([served.describe()], options.protocol)
        return 0
    paths = [Path(options.kong_prefix) / socket for socket in _sockets(name, options.socket_name)]
    chosen = _choose(options, lambda: [served])
    if chosen != mode.Mode(mode.THREADS, 1):
        become_master(served, chosen, paths, options)
    return serve_alone(
        replace(served, lua_style=False) if options.no_lua_style else served, paths, options.listen_queue_size
    )


def _sockets(name: str, chosen: str | None) -> list[str]:
    """Name the sockets of a file that serves itself.

    Kong looks for the server's name and ``.socket``, and that name is lower-case there; kong-pdk listened on the
    plugin's name and ``.sock``, so that configurations name it.
    """
    if chosen:
        return [chosen]
    names = dict.fromkeys((server_name(name), name))
    return [f"{each}.{end}" for end in ("socket", "sock") for each in names]


def _print_dump(found: list[Description], option: str | None) -> None:
    # Not at the top: it may come with the packages of a plugin.
    from kong_pdk.interface_file import protocol

    text = dump(found, protocol(option))
    _drop_printed()
    print(text, flush=True)


def _drop_printed() -> None:
    """Send to standard error what the plugin has printed and is still in the buffer: a dump is to stand alone."""
    with contextlib.suppress(OSError, ValueError):
        output = os.dup(1)
        os.dup2(2, 1)
        try:
            sys.stdout.flush()
        finally:
            os.dup2(output, 1)
            os.close(output)
