"""The health check: asks Kong, and every plugin server, which asks its workers, for a sign of life."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from kong_pdk.exit_status import StartError
from kong_pdk.image import status_listener
from kong_pdk.image.ping import Server, at_once, ping_all, read_servers
from kong_pdk.image.run_directory import locate

if TYPE_CHECKING:
    from argparse import Namespace

_KONG_SECONDS = 6.0
_SERVER_SECONDS = 1.0  # a server waits a little less for its workers
_MOST_PROBLEMS = 20  # Docker keeps 4096 bytes of what a check prints


def main(argv: Sequence[str]) -> int:
    """Print one line with all problems; nothing if there is none. It takes about 6 s at most.

    :return: the exit status for Docker and other orchestrators: 0, or 1 if there is a problem.
    """
    ready = bool(argv) and _parse(argv).ready
    try:
        servers = read_servers(locate(os.environ))
    except StartError as error:
        problems = [str(error)]
    else:
        # All at once: Docker allows ten seconds for a health check.
        ask = status_listener.unreadiness if ready else status_listener.silence
        checks: list[Callable[[], list[str]]] = [_kong]
        checks += [functools.partial(_status_listener, ask), functools.partial(_servers, servers)]
        not_running, silent, stuck = at_once(checks)
        problems = [*(not_running or silent), *stuck]
    if problems:
        print(_line(problems), file=sys.stderr)
    return 1 if problems else 0


def _line(problems: list[str]) -> str:
    more = len(problems) - _MOST_PROBLEMS
    shown = problems[:_MOST_PROBLEMS] + [f"and {more} more"] * (more > 0)
    return "; ".join(" ".join(problem.split()) for problem in shown)


def _parse(argv: Sequence[str]) -> Namespace:
    import argparse  # the health check of the image, every ten seconds, has no arguments

    parser = argparse.ArgumentParser(
        prog="kong-python health",
        description="Ask Kong and every plugin server for a sign of life.",
        epilog="Exit status: 0, all is well; 1, something is not, and one line says what; 2, wrong arguments.",
    )
    parser.add_argument(
        "--ready", action="store_true", help="ask Kong's status listener, too, whether it has a configuration to serve"
    )
    return parser.parse_args(list(argv))


def _status_listener(ask: Callable[[Mapping[str, str]], list[str]]) -> list[str]:
    try:
        return ask(os.environ)
    except StartError as error:  # a setting has two forms, for example
        return [str(error)]


def _kong() -> list[str]:
    try:
        done = subprocess.run(["kong", "health"], capture_output=True, timeout=_KONG_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return [f"kong: `kong health` does not end within {_KONG_SECONDS:.0f} s"]
    except OSError as error:
        return [f"kong: cannot be run: {error.strerror}"]
    if done.returncode == 0:
        return []
    output = " ".join((done.stderr or done.stdout).decode(errors="replace").split())
    return [f"kong: `kong health` ends with status {done.returncode}: {output}"]


def _servers(servers: list[Server]) -> list[str]:
    problems = ping_all(servers, _SERVER_SECONDS, every_worker=True)
    return [f"{name}: its plugin server {problem}" for name, problem in problems.items()]
