"""``kong-python dev``: serves a folder of plugins through the embedded gateway, without Docker and without Kong."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from http.server import ThreadingHTTPServer
from pathlib import Path

from kong_pdk import settings as variables
from kong_pdk import stop_times
from kong_pdk.commands.check import broken, schemas, unreached_handlers
from kong_pdk.commands.echo_service import EchoHandler
from kong_pdk.exit_status import CONFIGURATION_STATUS, StartError
from kong_pdk.gateway.declarative import DeclarativeError, load_settings, skipped_plugins
from kong_pdk.gateway.gateway import Gateway, GatewayError
from kong_pdk.gateway.gateway_settings import Settings, SettingsError
from kong_pdk.image import configuration, run_directory
from kong_pdk.image.configuration import Configuration
from kong_pdk.image.ping import Server, wait_for_all
from kong_pdk.logs import NOTICE, configure
from kong_pdk.plugin import Description
from kong_pdk.schema.config_values import validate_config
from kong_pdk.schema.error_text import format_errors
from kong_pdk.wire.interface import EXTENDED, as_text

_log = logging.getLogger(__name__)
_READY_SECONDS = 30.0
_GRACE_SECONDS = 5.0
_RESTART_SECONDS = 1.0
_LONGEST_PLACE = 32


class _Echo(EchoHandler):
    """The service behind the demo route. It logs no requests: the gateway's access log has them."""

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM, SIGINT, SIGQUIT or the terminal's SIGHUP.

    :return: the exit status; 78 if a plugin or the configuration is broken.
    """
    options = _parser().parse_args(list(argv))
    configure("kong-python", options.verbose)
    temporary = Path(tempfile.mkdtemp(prefix="kong-python-dev-", dir=_temporary_root()))
    try:
        return _serve(options, temporary)
    except (StartError, DeclarativeError, GatewayError, SettingsError) as error:
        _log.error("%s", error)
        return getattr(error, "status", CONFIGURATION_STATUS)
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python dev",
        description="Serve a folder of plugins through the embedded gateway, for development. It is not Kong.",
    )
    parser.add_argument("folder", nargs="?", default="plugins", help="the folder of the plugins (default: ./plugins)")
    parser.add_argument(
        "-c", "--config", metavar="FILE", default=os.environ.get("KONG_DECLARATIVE_CONFIG"),
        help="a declarative kong.yml (default: KONG_DECLARATIVE_CONFIG, else a demo route with every plugin)",
    )  # fmt: skip
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8000, help="for HTTP (default: %(default)s)")
    parser.add_argument("--tls-port", type=int, default=8443, help="for HTTPS (default: %(default)s)")
    parser.add_argument(
        "--strict", action="store_true",
        help="end with status 78 where the embedded gateway would skip a part of the configuration: a plugin of "
        "Kong's own, a route for gRPC, a kind of credential, ...",
    )  # fmt: skip
    parser.add_argument("-v", "--verbose", action="store_true", help="log each event and PDK call")
    return parser


def _temporary_root() -> str:
    """Give the directory for temporary files, or ``/tmp`` if the path of a socket in it may be over 107 bytes."""
    usual = tempfile.gettempdir()
    short = "/tmp"  # noqa: S108  # mkdtemp makes a directory of our own in it
    return short if len(os.fsencode(usual)) > _LONGEST_PLACE and os.access(short, os.W_OK) else usual


def _serve(options: argparse.Namespace, temporary: Path) -> int:
    environ = {
        **os.environ,
        "KONG_PYTHON_PLUGINS_DIR": options.folder,
        "KONG_PYTHON_RUN_DIR": str(temporary),
        "KONG_PREFIX": str(temporary / "kong"),
        # Only a container has the program that serves metrics.
        variables.METRICS_LISTEN.name: "off",
        variables.INTERFACE_FILE.name: str(_interface_file(temporary)),
    }
    wrong = variables.check(environ)
    for message in wrong:
        _log.error("%s", message)
    if wrong:
        return CONFIGURATION_STATUS
    setup = configuration.read(environ, (), run_directory.prepare(environ), installing=True)
    for problem in setup.problems:
        _log.error("%s", problem)
    if setup.problems and not setup.options.skip_broken:
        return CONFIGURATION_STATUS
    for note in setup.notes:
        _log.warning("%s", note)
    configuration.write(setup, environ)
    settings = {**_settings(options), **setup.changes.apply(environ)}
    with _declarative(options, setup) as declarative:
        gateway = replace(
            Settings.from_environment({**settings, **declarative}),
            interface_file=variables.INTERFACE_FILE.read(environ),
        )
        if not _may_serve(setup, gateway, options.strict):
            return CONFIGURATION_STATUS
        return asyncio.run(_run(setup, gateway, options.verbose))


def _may_serve(setup: Configuration, settings: Settings, strict: bool) -> bool:
    """Warn of handlers that never run. False if the gateway would skip something and ``--strict`` forbids it.

    Without ``--strict`` the gateway itself logs what it skips. Raises DeclarativeError.
    """
    config = load_settings(settings, schemas(setup), broken(setup))
    for warning in unreached_handlers(config, setup.plugins):
        _log.warning("%s", warning)
    if not strict:
        return True
    plugins = skipped_plugins(config, settings.skipped_plugins)
    skipped = [*config.skipped, *filter(None, [plugins])]
    for problem in skipped:
        _log.error("%s", problem)
    return not skipped


def _interface_file(temporary: Path) -> Path:
    """Give the interface file for gateway and servers: the user's, or a new file with the text of our image's."""
    if not variables.INTERFACE_FILE.is_default(os.environ):
        return variables.INTERFACE_FILE.read(os.environ)
    file = temporary / variables.INTERFACE_FILE.read(os.environ).name
    file.write_text(as_text(EXTENDED))
    return file


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """Give Kong's settings; the user's environment overrides them."""
    host = f"[{options.host}]" if ":" in options.host else options.host
    return {
        "KONG_DATABASE": "off",
        "KONG_PROXY_LISTEN": f"{host}:{options.port}, {host}:{options.tls_port} ssl",
        "KONG_STATUS_LISTEN": "off",
        "KONG_PROXY_ACCESS_LOG": "/dev/stdout",
        "KONG_PROXY_STREAM_ACCESS_LOG": "/dev/stdout",
        "KONG_PROXY_ERROR_LOG": "/dev/stderr",
    }


@contextlib.contextmanager
def _declarative(options: argparse.Namespace, setup: Configuration) -> Iterator[Mapping[str, str]]:
    """Give the variables of the configuration: the user's, or a demo route to an echo service with every plugin."""
    if options.config:
        yield {"KONG_DECLARATIVE_CONFIG": str(Path(options.config).absolute())}
        return
    with ThreadingHTTPServer(("127.0.0.1", 0), _Echo) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        service = {
            "name": "echo",
            "url": f"http://127.0.0.1:{upstream.server_address[1]}",
            "routes": [{"name": "echo", "paths": ["/"]}],
        }
        plugins = [{"name": plugin.name} for plugin in setup.plugins if _works_without_config(plugin)]
        document = {"_format_version": "3.0", "services": [service], "plugins": plugins}
        try:
            yield {"KONG_DECLARATIVE_CONFIG": "", "KONG_DECLARATIVE_CONFIG_STRING": json.dumps(document)}
        finally:
            upstream.shutdown()


def _works_without_config(plugin: Description) -> bool:
    _, errors = validate_config(plugin.schema, {})
    if errors:
        _log.log(NOTICE, "%s is not on the demo route: %s; configure it in a kong.yml and pass that with -c",
                 plugin.name, format_errors({"config": errors}))  # fmt: skip
    return not errors


async def _run(setup: Configuration, settings: Settings, verbose: bool) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        # nohup ignores SIGHUP. A server that ignores it outlives this process, so do not let it inherit that.
        ignored = number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN
        loop.add_signal_handler(number, (lambda: None) if ignored else stop.set)
    servers = [Server(name, setup.run.socket(name)) for name in setup.changes.servers]
    tasks = [asyncio.create_task(_keep_running(each, setup, settings.interface_file, verbose)) for each in servers]
    gateway = Gateway(settings)
    try:
        silent = await asyncio.to_thread(wait_for_all, servers, _READY_SECONDS)
        for name, wrong in silent.items():
            _log.error("the server of plugin %s %s", name, wrong)
        if silent:
            return 1
        await gateway.start()
        listening = [("https" if address.ssl else "http", address) for address in gateway.addresses]
        for scheme, address in [*listening, *(("tcp", address) for address in gateway.stream_addresses)]:
            _log.log(NOTICE, "serving %s on %s://%s:%d", setup.options.folder, scheme, address.host, address.port)
        await stop.wait()
        return 0
    finally:
        await gateway.stop(_GRACE_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _keep_running(server: Server, setup: Configuration, interface_file: Path, verbose: bool) -> None:
    """Run a plugin's server until this task is cancelled; start it again when it ends."""
    command = [sys.executable, "-m", "kong_pdk.server", "-d", str(setup.options.folder), "--plugin", server.name]
    command += ["--kong-prefix", str(server.socket.parent), "--socket-name", server.socket.name]
    command += setup.server_options(server.name)
    command += ["--verbose"] if verbose else []
    # The gateway in this process writes text to a terminal; the servers do the same.
    environ = {
        **os.environ,
        variables.LOG_FORMAT.name: variables.LOG_FORMAT.default,
        variables.INTERFACE_FILE.name: str(interface_file),
    }
    while True:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            env=environ,
            start_new_session=True,  # signals of the terminal are for this process, which then stops its servers
        )
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _stop(process)
            raise
        _log.error("the server of plugin %s ended with status %d; starting it again", server.name, status)
        await asyncio.sleep(_RESTART_SECONDS)


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), stop_times.SERVER)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
