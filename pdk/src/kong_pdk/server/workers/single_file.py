"""A plugin's own file as a plugin server with workers: each worker runs the file, the master does not."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NoReturn

from kong_pdk import logs
from kong_pdk.masking import remember_environment
from kong_pdk.mode import Mode
from kong_pdk.plugin import Plugin, PluginError, Source, import_problem
from kong_pdk.server.serving import serve_by_workers
from kong_pdk.server.workers.worker import Loaded, ReachedServer, run_as_worker
from kong_pdk.settings import LOG_FORMAT, log_level


def become_master(plugin: Plugin, mode: Mode, paths: Iterable[Path], options: argparse.Namespace) -> NoReturn:
    """Replace this process, which ran the plugin's file, by a master of the plugin.

    :param paths: the sockets to listen on.
    :param options: the options of the command line.
    """
    file = Path(str(sys.modules["__main__"].__file__)).absolute()
    # Python does not know itself in the environment of a server that Kong starts, which has no PATH.
    interpreter = sys.executable or str(Path("/proc/self/exe").readlink())
    command = [interpreter, "-m", "kong_pdk.server.workers.single_file", plugin.name, str(file), *mode.options]
    command += ["--listen-queue-size", str(options.listen_queue_size)]
    command += [word for path in paths for word in ("--listen", str(path))]
    command += ["--verbose"] * options.verbose + ["--no-lua-style"] * options.no_lua_style
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # the plugin may have closed it
            stream.flush()
    os.execv(interpreter, [*command, "--", *sys.argv])


def main(argv: Sequence[str] | None = None) -> int:
    """Run the master.

    :param argv: the arguments; None for the arguments of the process.
    :return: the exit status.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("name", "file"):
        parser.add_argument(name)
    parser.add_argument("--engine")
    for option in ("--workers", "--listen-queue-size"):
        parser.add_argument(option, type=int)
    parser.add_argument("--listen", action="append", type=Path)
    for option in ("--verbose", "--no-lua-style"):
        parser.add_argument(option, action="store_true")
    words = list(sys.argv[1:] if argv is None else argv)
    end = words.index("--")
    options = parser.parse_args(words[:end])
    options.arguments = words[end + 1 :]
    remember_environment(os.environ)
    logs.configure(options.name, options.verbose, form=LOG_FORMAT.read(os.environ), level=log_level(os.environ))
    mode = Mode(options.engine, options.workers)
    return serve_by_workers(lambda: _load(options), mode, options.listen, queue_size=options.listen_queue_size)


def _load(options: argparse.Namespace) -> Loaded:
    """Run the file as ``__main__``, up to where it would start its server."""
    run_as_worker()
    file = Path(options.file)
    sys.argv[:] = options.arguments
    sys.path[0] = str(file.parent)
    module = sys.modules["__main__"] = ModuleType("__main__")
    module.__file__ = str(file)
    try:
        exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 - its plugin
    except ReachedServer as reached:
        return _loaded(reached.checked, options.no_lua_style)
    except BaseException as error:  # noqa: BLE001  # authors may raise anything, sys.exit() included
        return Loaded(messages=[str(import_problem(Source(options.name, file), error))])
    return Loaded(messages=[f"{file}: does not call start_dedicated_server; call it at its end"])


def _loaded(checked: Callable[[], Plugin], no_lua_style: bool) -> Loaded:
    try:
        plugin = checked()
    except PluginError as error:
        return Loaded(messages=[str(problem) for problem in error.problems])
    return Loaded([replace(plugin, lua_style=False) if no_lua_style else plugin])


if __name__ == "__main__":
    sys.exit(main())
