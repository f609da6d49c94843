"""The commands of ``kong``: each takes its parsed arguments and gives its exit code, or raises CommandError."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from kong_pdk.gateway.gateway_settings import BUNDLED, Settings

from embedded_kong import kong_conf, kong_prefix
from embedded_kong.console import CommandError, Console

_START_SECONDS = 60.0
_STOP_SECONDS = 10.0
# Without a database every migration has been run, and Kong answers so, too.
_MIGRATED = {
    "bootstrap": "Database already bootstrapped",
    "up": "Database is already up-to-date",
    "finish": "No pending migrations to finish",
    "list": "Executed migrations:",
}
_NEED_A_DATABASE = ("reset", "status")
MIGRATIONS = (*_MIGRATED, *_NEED_A_DATABASE)
_EXAMPLE_FILE = Path("kong.yml")
_EXAMPLE = """\
# One service behind one route; check it with `kong config parse kong.yml`.
_format_version: "3.0"
services:
- name: example
  url: http://127.0.0.1:9000
  routes:
  - name: everything
    paths:
    - /
"""


def prepare(arguments: Namespace, console: Console) -> int:
    values = kong_conf.load(os.environ, arguments.conf, arguments.prefix)
    kong_conf.check(values)
    kong_prefix.prepare(values)
    return 0


def start(arguments: Namespace, console: Console) -> int:
    values = kong_conf.load(os.environ, arguments.conf, arguments.prefix)
    settings = kong_conf.check(values)
    prefix = kong_conf.prefix_of(values)
    if kong_prefix.running(prefix) is not None:
        raise CommandError(f"Kong is already running in {settings.prefix}")
    kong_prefix.prepare(values)
    for path in kong_prefix.delete_sockets(prefix):
        console.error(f"removing dangling unix socket: {path}")
    if values.get("nginx_daemon", "on").strip() == "off":
        sys.stdout.flush()
        os.execv(sys.executable, _gateway(prefix))
    _start_in_background(prefix)
    console.say("Kong started")
    return 0


def stop(arguments: Namespace, console: Console) -> int:
    _stop(kong_conf.load_running(os.environ, arguments.prefix))
    console.say("Kong stopped")
    return 0


def quit_gracefully(arguments: Namespace, console: Console) -> int:
    values = kong_conf.load_running(os.environ, arguments.prefix)
    kong_conf.check(values)
    prefix = kong_conf.prefix_of(values)
    kong_prefix.wait(lambda: False, max(arguments.wait, 0))
    pid = kong_prefix.send(prefix, signal.SIGQUIT)
    console.verbose("waiting for nginx to finish processing requests")
    if not kong_prefix.wait(lambda: kong_prefix.running(prefix) != pid, max(arguments.timeout, 1)):
        console.verbose(f"nginx is still running at {prefix}, forcing shutdown")
        _stop(values)
    console.say("Kong stopped (gracefully)")
    return 0


def restart(arguments: Namespace, console: Console) -> int:
    prefix = kong_conf.prefix_of(kong_conf.load(os.environ, arguments.conf, arguments.prefix))
    if kong_prefix.running(prefix) is not None:
        _stop(kong_conf.load_running(os.environ, prefix))
        console.say("Kong stopped")
    return start(arguments, console)


def reload(arguments: Namespace, console: Console) -> int:
    """Write the configuration and make the node load it; the node itself checks the plugins in it."""
    values = kong_conf.load_running(os.environ, arguments.prefix, arguments.conf)
    if arguments.conf is not None:
        values = kong_conf.load(os.environ, arguments.conf, kong_conf.prefix_of(values))
    kong_conf.check(values)
    prefix = kong_conf.prefix_of(values)
    if kong_prefix.running(prefix) is None:
        raise CommandError(f"nginx not running in prefix: {prefix}")
    kong_prefix.prepare(values)
    kong_prefix.send(prefix, signal.SIGHUP)
    console.say("Kong reloaded")
    return 0


def health(arguments: Namespace, console: Console) -> int:
    """Tell whether the node's process runs. Whether it can serve, its status listener tells."""
    values = kong_conf.load_running(os.environ, arguments.prefix)
    kong_conf.check(values)
    prefix = kong_conf.prefix_of(values)
    alive = kong_prefix.running(prefix) is not None
    console.say(f"nginx.......{'running' if alive else 'not running'}")
    console.say("")
    if not alive:
        raise CommandError(f"Kong is not running at {prefix}")
    console.say(f"Kong is healthy at {prefix}")
    return 0


def check(arguments: Namespace, console: Console) -> int:
    """Check a configuration file, overridden by the environment as at a start."""
    try:
        kong_conf.check(kong_conf.load(os.environ, arguments.file))
    except CommandError as error:
        console.error(str(error))
        return 1
    console.say(f"configuration at {arguments.file} is valid")
    return 0


def config(arguments: Namespace, console: Console) -> int:
    if arguments.command == "init":
        return _init()
    settings = kong_conf.check(kong_conf.load(os.environ, arguments.conf, arguments.prefix))
    if arguments.command == "db_import":
        raise CommandError(
            "'kong config db_import' only works with a database.\n"
            "When using database=off, reload your declarative configuration\n"
            "using the /config endpoint."
        )
    if arguments.file is None:
        raise CommandError("expected a declarative configuration file; see `kong config --help`")
    _parse(settings, arguments.file)
    console.say("parse successful")
    return 0


def migrations(arguments: Namespace, console: Console) -> int:
    kong_conf.check(kong_conf.load(os.environ, arguments.conf, arguments.prefix))
    if arguments.command in _NEED_A_DATABASE:
        raise CommandError(f"'kong migrations {arguments.command}' needs a database, and the embedded gateway has none")
    if not arguments.quiet:
        console.say(_MIGRATED[arguments.command])
    return 0


def _gateway(prefix: Path) -> list[str]:
    flags = ["-I"] if sys.flags.isolated else []
    return [sys.executable, *flags, "-m", "embedded_kong.foreground", "-p", str(prefix)]


def _start_in_background(prefix: Path) -> None:
    """Start the node in a session of its own and wait until it serves. Until then its output is kept for the error."""
    with (prefix / "logs" / "start.log").open("w+", encoding="utf-8", errors="replace") as output:
        process = subprocess.Popen(
            _gateway(prefix),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )

        def settled() -> bool:
            return process.poll() is not None or kong_prefix.running(prefix) == process.pid

        if not kong_prefix.wait(settled, _START_SECONDS):
            process.kill()
        if process.poll() is None:
            return
        output.seek(0)
        raise CommandError(f"nginx did not start: {output.read().strip() or 'see logs/error.log'}")


def _stop(values: dict[str, str]) -> None:
    kong_conf.check(values)
    prefix = kong_conf.prefix_of(values)
    pid = kong_prefix.send(prefix, signal.SIGTERM)
    if not kong_prefix.wait(lambda: kong_prefix.running(prefix) != pid, _STOP_SECONDS):
        raise CommandError(f"process {pid} in {prefix} did not end within {_STOP_SECONDS:.0f} s of SIGTERM")


def _init() -> int:
    try:
        with _EXAMPLE_FILE.open("x", encoding="utf-8") as file:
            file.write(_EXAMPLE)
    except FileExistsError:
        raise CommandError(
            f"{_EXAMPLE_FILE} already exists in the current directory.\nWill not overwrite it."
        ) from None
    except OSError as error:
        raise CommandError(f"{_EXAMPLE_FILE}: {error.strerror}") from None
    return 0


def _parse(settings: Settings, file: Path) -> None:
    # Not at the top: the health check runs another command every ten seconds, which needs none of this.
    from kong_pdk.gateway.declarative import DeclarativeError, load_settings
    from kong_pdk.gateway.key_auth import KEY_AUTH

    external = [name for name in settings.plugins if name not in BUNDLED]
    if external:
        # Kong 3.9.3 fails here with a Lua error, and a script that relies on the command must notice.
        raise CommandError(
            f"plugin '{external[0]}' is external, and Kong 3.9.3 cannot parse a configuration with an external "
            "plugin enabled; use kong-python check"
        )
    if not file.is_file():
        raise CommandError(f"Failed parsing:\n{file}: No such file or directory")
    try:
        load_settings(
            replace(settings, declarative_config=file, declarative_config_string=None),
            {
                **dict.fromkeys(settings.skipped_plugins),
                **({KEY_AUTH.name: KEY_AUTH.fields} if KEY_AUTH.name in settings.plugins else {}),
            },
        )
    except (DeclarativeError, OSError) as error:
        raise CommandError(f"Failed parsing:\n{error}") from None
