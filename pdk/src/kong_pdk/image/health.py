"""The health check: runs ``kong health``, and calls every plugin server, which asks its workers."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from kong_pdk.exit_status import StartError
from kong_pdk.image.ping import Server, at_once, ping_all, read_servers
from kong_pdk.image.run_directory import locate

if TYPE_CHECKING:
    from argparse import Namespace

_KONG_SECONDS = 6.0
_SERVER_SECONDS = 5.0  # a server waits three of them for its workers


def main(argv: Sequence[str]) -> int:
    """Print a line for each problem; nothing if there is none. It takes about 6 s at most.

    :return: the exit status for Docker, 0 or 1.
    """
    ready = bool(argv) and _parse(argv).ready
    try:
        servers = read_servers(locate(os.environ))
    except StartError as error:
        problems = [str(error)]
    else:
        # All at once: Docker allows ten seconds for a health check.
        checks: list[Callable[[], list[str]]] = [_kong, functools.partial(_servers, servers)]
        if ready:
            checks.insert(1, _readiness)
        problems = [problem for found in at_once(checks) for problem in found]
    for line in problems:
        print(line, file=sys.stderr)
    return 1 if problems else 0


def _parse(argv: Sequence[str]) -> Namespace:
    import argparse  # the health check of the image, every ten seconds, has no arguments

    parser = argparse.ArgumentParser(
        prog="kong-python health", description="Ask Kong and every plugin server for a sign of life; 0 if all is well."
    )
    parser.add_argument(
        "--ready", action="store_true", help="ask Kong's status listener, too, whether it has a configuration to serve"
    )
    return parser.parse_args(list(argv))


def _readiness() -> list[str]:
    from kong_pdk.image import readiness

    try:
        return readiness.problems(os.environ)
    except StartError as error:
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
