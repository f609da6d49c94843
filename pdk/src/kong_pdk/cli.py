"""The commands ``kong-python`` and ``kong-python-pluginserver``, and what plugin files import to serve themselves."""

from __future__ import annotations

import io
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NoReturn

from kong_pdk import __version__
from kong_pdk.image.errors import CONFIGURATION_STATUS
from kong_pdk.settings import SettingError

__all__ = ["main", "pluginserver_main", "start_dedicated_server", "start_server"]

Command = Callable[[Sequence[str]], int]


def pluginserver_main(argv: Sequence[str] | None = None) -> int:
    """Run ``kong-python-pluginserver``: serve, or dump, the plugins of a folder.

    :param argv: the arguments; those of the process where None.
    :return: the exit status.
    """
    from kong_pdk.server.command import folder_main

    return _or_sentence("kong-python-pluginserver", lambda: folder_main(argv))


def start_server() -> NoReturn:
    """Run ``kong-python-pluginserver`` with the arguments of this process: what wrappers of kong-pdk's server call.

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

    Call it under ``if __name__ == "__main__":``. It serves until it is told to stop, or the Kong that started
    it ends; with ``--dump`` (or ``-dump``) it prints what Kong's query command must, and ends.

    :param name: the plugin's name.
    :param plugin: the class with a method for each phase.
    :param version: ``x.y.z``; ``version`` of the class's module if None, and "0.1.0" where it has none.
    :param priority: the place among the plugins of a phase, higher runs first; the module's if None, or 0.
    :param schema: the fields of the configuration; ``Schema`` of the module if None, or none.
    :raises SystemExit: always, at the end.
    """
    if _is_only_imported():
        return  # type: ignore[misc]
    from kong_pdk.plugin import given
    from kong_pdk.server.command import dedicated_main

    def serve() -> int:
        return dedicated_main(name, lambda: given(name, plugin, version, priority, schema))

    raise SystemExit(_or_sentence(name, serve))


def _is_only_imported() -> bool:
    """Whether a file that serves itself without ``if __name__ == "__main__"`` is imported by who serves it already.

    That is the server of its folder, or a process that ``multiprocessing`` has spawned from a server.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == "__mp_main__" or name.startswith("_kong_plugins."):
            return True
        frame = frame.f_back
    return False


def _or_sentence(program: str, run: Callable[[], int]) -> int:
    """Run a program; a variable without meaning becomes a sentence and status 78."""
    try:
        return run()
    except SettingError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return CONFIGURATION_STATUS


def _entrypoint(argv: Sequence[str]) -> int:
    # The kernel keeps from process 1 every signal that it does not handle, and both what is imported here and a look
    # at the plugins take a while.
    for number in (signal.SIGQUIT, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    from kong_pdk.image.entrypoint import main

    return main(argv)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _environment(argv: Sequence[str]) -> int:
    from kong_pdk.image.report import environment_main

    return environment_main(argv)


def _plugins(argv: Sequence[str]) -> int:
    from kong_pdk.image.report import plugins_main

    return plugins_main(argv)


def _install(argv: Sequence[str]) -> int:
    from kong_pdk.packages.command import main

    return main(argv)


def _health(argv: Sequence[str]) -> int:
    from kong_pdk.image.health import main

    return main(list(argv))


def _supervisorctl(argv: Sequence[str]) -> int:
    from kong_pdk.image.control import main

    return main(argv)


def _upstream(argv: Sequence[str]) -> int:
    from kong_pdk.image.upstream import main

    return main(argv)


def _dev(argv: Sequence[str]) -> int:
    try:
        from kong_pdk.dev import main
    except ModuleNotFoundError as error:
        print(
            f"kong-python dev: the package {error.name}, which the embedded gateway uses, is not installed; "
            "pip install 'kong-python[dev]' (in a checkout: pip install './pdk[dev]') brings all that it uses",
            file=sys.stderr,
        )
        return 1
    return main(argv)


def _check(argv: Sequence[str]) -> int:
    from kong_pdk.check import main

    return main(argv)


def _extend_interface(argv: Sequence[str]) -> int:
    from kong_pdk.image.interface import main

    return main(argv)


def _settings(argv: Sequence[str]) -> int:
    from kong_pdk.settings_command import main

    return main(argv)


# Each is imported when it is asked for: the health check runs every ten seconds and needs little of all this.
_COMMANDS: dict[str, tuple[Command, str]] = {
    "dev": (_dev, "serve a folder of plugins through the embedded gateway, without Docker"),
    "install": (_install, "install the packages that requirements.txt in a folder of plugins asks for"),
    "plugins": (_plugins, "show the plugins of the folder and what is wrong with them"),
    "env": (_environment, "print the variables that make Kong know the plugins"),
    "settings": (_settings, "show every KONG_PYTHON_ variable, its value here and its default"),
    "check": (_check, "check a declarative kong.yml against Kong's rules and the plugins' schemas"),
    "health": (_health, "in a container: ask Kong and every plugin server for a sign of life"),
    "supervisorctl": (_supervisorctl, "in a container: supervisor's own command"),
    "upstream": (_upstream, "run an HTTP service that answers with what it received"),
    "extend-interface": (_extend_interface, "append our PDK methods to Kong's interface file; the image's build does"),
    "entrypoint": (_entrypoint, "what a container of the image runs: the plugin servers, then Kong"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``kong-python``.

    :param argv: the arguments; those of the process where None.
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
    known = _COMMANDS.get(name)
    if known is None:
        print(f"kong-python: there is no command {name}\n\n{_usage()}", file=sys.stderr)
        return 2
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files need not be text
        sys.stdout.reconfigure(errors="backslashreplace")
    return _or_sentence("kong-python", lambda: known[0](arguments[1:]))


def _usage() -> str:
    width = max(map(len, _COMMANDS))
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in _COMMANDS.items()]
    return "\n".join(
        ["usage: kong-python COMMAND [...]", "", "Python plugins for Kong Gateway.", "", *lines, "",
         "kong-python COMMAND --help says more of one. Plugin servers by hand: kong-python-pluginserver --help."]
    )  # fmt: skip
