"""The command line of ``kong``: its commands and their options."""

from __future__ import annotations

import sys
import traceback
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from kong_pdk import __version__
from kong_pdk.gateway import KONG_VERSION

from embedded_kong.console import CommandError, Console, UsageError

Run = Callable[[Namespace, Console], int]

_COMMANDS = (
    "check",
    "config",
    "health",
    "migrations",
    "prepare",
    "quit",
    "reload",
    "restart",
    "start",
    "stop",
    "version",
)
_MORE = "\n  Run with --v (verbose) or --vv (debug) for more details"


class _Parser(ArgumentParser):
    """An argument parser whose errors have Kong's form and exit code."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def main(arguments: Sequence[str]) -> int:
    """Run one command; its exit code. An error is a message on standard error and exit code 1."""
    if not arguments or arguments[0] in {"--help", "-h", "help"}:
        print(_usage(), end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 1
    name, *rest = arguments
    if name in {"-v", "--version"}:
        name = "version"
    if name not in _COMMANDS:
        print(f"No such command: {name}\n\n{_usage()}", end="", file=sys.stderr)
        return 1
    return _run(name, rest)


def _run(name: str, rest: Sequence[str]) -> int:
    console = Console()
    parser = _parser(name)
    try:
        parsed = parser.parse_args(rest)
        console = Console("debug" if parsed.debug else "verbose" if parsed.verbose else "quiet")
        console.verbose(f"Kong: {KONG_VERSION}")
        return _command(name)(parsed, console)
    except UsageError as error:
        print(f"Error: {error}\n\n{parser.format_help()}", end="", file=sys.stderr)
    except CommandError as error:
        print(f"Error: {error}", file=sys.stderr)
        if console.traces:
            traceback.print_exc()
        else:
            print(_MORE, file=sys.stderr)
    except KeyboardInterrupt:
        return 130
    return 1


def _usage() -> str:
    names = "".join(f" {name}\n" for name in _COMMANDS)
    return (
        "Usage: kong COMMAND [OPTIONS]\n\n"
        f"The available commands are:\n{names}\n"
        "Options:\n --v              verbose\n --vv             debug\n"
    )


def _parser(name: str) -> _Parser:
    parser = _Parser(prog=f"kong {name}", allow_abbrev=False)
    parser.add_argument("--v", dest="verbose", action="store_true", help="verbose")
    parser.add_argument("--vv", dest="debug", action="store_true", help="debug")
    if name == "version":
        parser.add_argument("-a", "--all", action="store_true", help="also the version of Python")
        return parser
    if name == "check":
        parser.add_argument("file", nargs="?", type=Path, default=Path("/etc/kong/kong.conf"))
        return parser
    _add_subcommand(parser, name)
    parser.add_argument("-p", "--prefix", type=Path, help="override prefix directory")
    if name not in {"health", "quit", "stop"}:
        parser.add_argument("-c", "--conf", type=Path, help="configuration file")
    if name in {"prepare", "start", "restart", "reload"}:
        parser.add_argument("--nginx-conf", type=Path, help="accepted, without effect")
    if name == "quit":
        parser.add_argument("-t", "--timeout", type=float, default=10, help="seconds before forced shutdown")
        parser.add_argument("-w", "--wait", type=float, default=0, help="seconds before the shutdown begins")
    if name == "prepare":
        # The official entrypoint runs `kong prepare -p PREFIX kong docker-start`.
        parser.add_argument("words", nargs="*", help="accepted, without effect")
    return parser


def _add_subcommand(parser: _Parser, name: str) -> None:
    if name == "config":
        parser.add_argument("command", choices=("init", "parse", "db_import"))
        parser.add_argument("file", nargs="?", type=Path, help="declarative configuration")
    if name == "migrations":
        from embedded_kong.kong_commands import MIGRATIONS

        parser.add_argument("command", choices=MIGRATIONS)
        parser.add_argument("-y", "--yes", action="store_true", help='assume "yes" to prompts')
        parser.add_argument("-q", "--quiet", action="store_true", help="suppress all output")
        parser.add_argument("-f", "--force", action="store_true", help="accepted, without effect")
        parser.add_argument("--db-timeout", "--lock-timeout", type=float, help="accepted, without effect")


def _command(name: str) -> Run:
    """Find the function of a command. Imported here: ``kong version`` reads no configuration."""
    if name == "version":
        return _version
    from embedded_kong import kong_commands

    found: Run = kong_commands.quit_gracefully if name == "quit" else getattr(kong_commands, name)
    return found


def _version(arguments: Namespace, console: Console) -> int:
    console.say(version_line())
    if arguments.all:
        console.say(f"Python: {sys.version.split()[0]}")
    return 0


def version_line() -> str:
    """Give the line of ``kong version``. It begins with Kong's number: scripts read it."""
    return f"{KONG_VERSION} (kong-python embedded gateway {__version__}: development and test stand-in, not Kong)"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
