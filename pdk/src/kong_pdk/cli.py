"""The commands ``kong-python`` and ``kong-python-pluginserver``, and the functions that plugin files call."""

from __future__ import annotations

import importlib
import io
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NoReturn

from kong_pdk import __version__
from kong_pdk.exit_status import CONFIGURATION_STATUS
from kong_pdk.masking import remember_environment
from kong_pdk.settings import SettingError

__all__ = ["main", "pluginserver_main", "start_dedicated_server", "start_server"]

Command = Callable[[Sequence[str]], int]


def pluginserver_main(argv: Sequence[str] | None = None) -> int:
    """Run ``kong-python-pluginserver``: serve, or dump, the plugins of a folder.

    :param argv: the arguments; None for those of the process.
    :return: the exit status.
    """
    from kong_pdk.server.command_line import folder_main

    return _run("kong-python-pluginserver", lambda: folder_main(argv))


def start_server() -> NoReturn:
    """Run ``kong-python-pluginserver`` with the arguments of this process, for wrappers of kong-pdk's server.

    :raises SystemExit: always, at the end.
    """
    if _is_only_imported():
        return  # type: ignore[misc]
    raise SystemExit(pluginserver_main())


def start_dedicated_server(
    name: str,
    plugin: type,
    version: str | None = None,
    priority: int | None = None,
    schema: Sequence[Mapping[str, object]] | None = None,
) -> NoReturn:
    """Make a plugin's file a server of its own, with the command line that Kong's documentation shows.

    Call it under ``if __name__ == "__main__":``. It serves until it is told to stop or the Kong that started it
    ends. With ``--dump`` (or ``-dump``) it prints the answer to Kong's query command, and ends.

    :param name: the plugin's name.
    :param plugin: the class with a method for each phase.
    :param version: ``x.y.z``; None for ``version`` of the class's module, or "0.1.0" if it has none.
    :param priority: plugins with a higher one run first; None for ``priority`` of the module, or 0.
    :param schema: the fields of the configuration; None for ``Schema`` of the module, or no fields.
    :raises SystemExit: always, at the end.
    """
    if _is_only_imported():
        return  # type: ignore[misc]
    from kong_pdk.plugin import from_class
    from kong_pdk.server.command_line import dedicated_main

    def serve() -> int:
        return dedicated_main(name, lambda: from_class(name, plugin, version, priority, schema))

    raise SystemExit(_run(name, serve))


def _is_only_imported() -> bool:
    """Whether the caller, a plugin file without ``if __name__ == "__main__"``, is imported and not run.

    The importer is the server of its folder, or a process that ``multiprocessing`` has spawned from a server.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == "__mp_main__" or name.startswith("_kong_plugins."):
            return True
        frame = frame.f_back
    return False


def _run(program: str, function: Callable[[], int]) -> int:
    """Run a program; a variable with an invalid value becomes a message and exit status 78."""
    remember_environment(os.environ)
    try:
        return function()
    except SettingError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return CONFIGURATION_STATUS


# Each function is imported only when its command runs: the health check runs every ten seconds and needs few modules.
_COMMANDS: dict[str, tuple[str, str]] = {
    "dev": ("kong_pdk.commands.dev:main", "serve a folder of plugins through the embedded gateway, without Docker"),
    "install": (
        "kong_pdk.packages.installation:main",
        "install the packages that requirements.txt in a folder of plugins asks for",
    ),
    "plugins": ("kong_pdk.image.report:plugins_main", "show the plugins of the folder and what is wrong with them"),
    "env": ("kong_pdk.image.report:environment_main", "print the variables that make Kong know the plugins"),
    "settings": (
        "kong_pdk.commands.list_settings:main",
        "show every KONG_PYTHON_ variable, its value here and its default",
    ),
    "check": (
        "kong_pdk.commands.check:main",
        "check a declarative kong.yml against Kong's rules and the plugins' schemas",
    ),
    "health": ("kong_pdk.image.health:main", "in a container: ask Kong and every plugin server for a sign of life"),
    "supervisorctl": ("kong_pdk.image.supervision:control", "in a container: supervisor's own command"),
    "upstream": ("kong_pdk.commands.echo_service:main", "run an HTTP service that answers with what it received"),
    "extend-interface": (
        "kong_pdk.interface_file:main",
        "append our PDK methods to Kong's interface file; the image's build does",
    ),
    "entrypoint": (
        "kong_pdk.image.entrypoint:main",
        "what a container of the image runs: the plugin servers, then Kong",
    ),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kong-python``.

    :param argv: the arguments; None for those of the process.
    :return: the exit status.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    name = arguments[0] if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(_usage())
        return 0 if arguments else 2
    if name in ("--version", "-V", "version"):
        print(f"kong-python {__version__}")
        return 0
    if name not in _COMMANDS:
        print(f"kong-python: there is no command {name}\n\n{_usage()}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    if name == "entrypoint":
        _end_on_signals()
    module, _, function = _COMMANDS[name][0].partition(":")
    try:
        command: Command = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        if name != "dev":
            raise
        print(
            f"kong-python dev: the package {error.name}, which the embedded gateway uses, is not installed; "
            "pip install 'kong-python[dev]' (in a checkout: pip install './pdk[dev]') brings all that it uses",
            file=sys.stderr,
        )
        return 1
    return _run("kong-python", lambda: command(arguments[1:]))


def _end_on_signals() -> None:
    """End process 1 on a signal to stop, from now on.

    The kernel discards the signals of process 1 that have no handler, and the imports and the inspection of the plugins
    take seconds.
    """

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(0)

    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in _COMMANDS.items()]
    return "\n".join(
        ["usage: kong-python COMMAND [...]", "", "Python plugins for Kong Gateway.", "", *lines, "",
         "kong-python COMMAND --help says more of one. Plugin servers by hand: kong-python-pluginserver --help."]
    )  # fmt: skip
