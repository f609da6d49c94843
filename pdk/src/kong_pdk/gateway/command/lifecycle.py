"""``kong prepare``, ``start``, ``stop``, ``quit``, ``restart``, ``reload``, ``health`` and ``check``."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

from kong_pdk.gateway.command import configuration
from kong_pdk.gateway.command import prefix as prefixes
from kong_pdk.gateway.command.console import Console
from kong_pdk.gateway.command.errors import CommandError

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0


def prepare(arguments: Namespace, console: Console) -> int:
    values = configuration.load(os.environ, arguments.conf, arguments.prefix)
    configuration.check(values)
    prefixes.prepare(values)
    return 0


def start(arguments: Namespace, console: Console) -> int:
    values = configuration.load(os.environ, arguments.conf, arguments.prefix)
    settings = configuration.check(values)
    prefix = configuration.prefix_of(values)
    if prefixes.running(prefix) is not None:
        raise CommandError(f"Kong is already running in {settings.prefix}")
    prefixes.prepare(values)
    for path in prefixes.delete_sockets(prefix):
        console.error(f"removing dangling unix socket: {path}")
    if values.get("nginx_daemon", "on").strip() == "off":
        sys.stdout.flush()
        os.execv(sys.executable, _gateway(prefix))
    _start_in_background(prefix)
    console.say("Kong started")
    return 0


def stop(arguments: Namespace, console: Console) -> int:
    _stop(configuration.load_running(os.environ, arguments.prefix))
    console.say("Kong stopped")
    return 0


def quit_gracefully(arguments: Namespace, console: Console) -> int:
    values = configuration.load_running(os.environ, arguments.prefix)
    configuration.check(values)
    prefix = configuration.prefix_of(values)
    prefixes.wait(lambda: False, max(arguments.wait, 0))
    pid = prefixes.send(prefix, signal.SIGQUIT)
    console.verbose("waiting for nginx to finish processing requests")
    if not prefixes.wait(lambda: prefixes.running(prefix) != pid, max(arguments.timeout, 1)):
        console.verbose(f"nginx is still running at {prefix}, forcing shutdown")
        _stop(values)
    console.say("Kong stopped (gracefully)")
    return 0


def restart(arguments: Namespace, console: Console) -> int:
    prefix = configuration.prefix_of(configuration.load(os.environ, arguments.conf, arguments.prefix))
    if prefixes.running(prefix) is not None:
        _stop(configuration.load_running(os.environ, prefix))
        console.say("Kong stopped")
    return start(arguments, console)


def reload(arguments: Namespace, console: Console) -> int:
    """Write the configuration anew and have the node take it; the node itself judges the plugins in it."""
    values = configuration.load_running(os.environ, arguments.prefix, arguments.conf)
    if arguments.conf is not None:
        values = configuration.load(os.environ, arguments.conf, configuration.prefix_of(values))
    configuration.check(values)
    prefix = configuration.prefix_of(values)
    if prefixes.running(prefix) is None:
        raise CommandError(f"nginx not running in prefix: {prefix}")
    prefixes.prepare(values)
    prefixes.send(prefix, signal.SIGHUP)
    console.say("Kong reloaded")
    return 0


def health(arguments: Namespace, console: Console) -> int:
    """Say whether the node's process is alive; whether it can serve is for its status listener to say."""
    values = configuration.load_running(os.environ, arguments.prefix)
    configuration.check(values)
    prefix = configuration.prefix_of(values)
    alive = prefixes.running(prefix) is not None
    console.say(f"nginx.......{'running' if alive else 'not running'}")
    console.say("")
    if not alive:
        raise CommandError(f"Kong is not running at {prefix}")
    console.say(f"Kong is healthy at {prefix}")
    return 0


def check(arguments: Namespace, console: Console) -> int:
    """Judge a configuration file (with the environment over it, as at a start)."""
    try:
        configuration.check(configuration.load(os.environ, arguments.file))
    except CommandError as error:
        console.error(str(error))
        return 1
    console.say(f"configuration at {arguments.file} is valid")
    return 0


def _gateway(prefix: Path) -> list[str]:
    flags = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *flags, "-m", "kong_pdk.gateway.command.foreground", "-p", str(prefix)]


def _start_in_background(prefix: Path) -> None:
    """Start the node as a session of its own and wait until it serves.

    Its first words go to the terminal as nginx's do; from then on it writes to its logs.
    """
    with (prefix / "logs" / "start.log").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            _gateway(prefix),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

        def settled() -> bool:
            return process.poll() is not None or prefixes.running(prefix) == process.pid

        if not prefixes.wait(settled, _START_SECONDS):
            process.kill()
        if process.poll() is None:
            return
        output.seek(0)
        raise CommandError(f"nginx did not start: {output.read().strip() or 'see logs/error.log'}")


def _stop(values: dict[str, str]) -> None:
    configuration.check(values)
    prefix = configuration.prefix_of(values)
    pid = prefixes.send(prefix, signal.SIGTERM)
    if not prefixes.wait(lambda: prefixes.running(prefix) != pid, _STOP_SECONDS):
        raise CommandError(f"process {pid} in {prefix} did not end within {_STOP_SECONDS:.0f} s of SIGTERM")
