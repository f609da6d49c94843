"""``kong-python dev``: a folder of plugins behind the embedded gateway, without Docker and without Kong."""

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
    """The service behind the demo route. The gateway's access log has its requests already."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def main(argv: Sequence[str]) -> int:
    """Serve until SIGTERM, SIGINT, SIGQUIT or the terminal's SIGHUP.

    :return: the exit status; 78 where a plugin or the configuration is broken.
    """
    options = _parser().parse_args(list(argv))
    configure("kong-python", options.verbose)
    temporary = Path(tempfile.mkdtemp(prefix="kong-python-dev-", dir=_place_for_sockets()))
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
        help="a declarative kong.yml (default: KONG_DECLARATIVE_CONFIG, else a route that echoes, with every plugin)",
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


def _place_for_sockets() -> str:
    """Give the directory for temporary files, or ``/tmp`` where that leaves too little of a socket's 107 bytes."""
    usual = tempfile.gettempdir()
    short = "/tmp"  # noqa: S108  # mkdtemp makes a directory of our own in it
    return short if len(os.fsencode(usual)) > _LONGEST_PLACE and os.access(short, os.W_OK) else usual


def _serve(options: argparse.Namespace, temporary: Path) -> int:
    environ = {
        **os.environ,
        "KONG_PYTHON_PLUGINS_DIR": options.folder,
        "KONG_PYTHON_RUN_DIR": str(temporary),
        "KONG_PREFIX": str(temporary / "kong"),
        # Metrics are for a container, where a program of its own serves them.
        variables.METRICS_LISTEN.name: "off",
        variables.INTERFACE_FILE.name: str(_interface_file(temporary)),
    }
    wrong = variables.check(environ)
    for sentence in wrong:
        _log.error("%s", sentence)
    if wrong:
        return CONFIGURATION_STATUS
    found = configuration.read(environ, (), run_directory.prepare(environ), installing=True)
    for problem in found.problems:
        _log.error("%s", problem)
    if found.problems and not found.options.skip_broken:
        return CONFIGURATION_STATUS
    for note in found.notes:
        _log.warning("%s", note)
    configuration.write(found, environ)
    settings = {**_settings(options), **found.changes.apply(environ)}
    with _declarative(options, found) as declarative:
        gateway = replace(
            Settings.from_environment({**settings, **declarative}),
            interface_file=variables.INTERFACE_FILE.read(environ),
        )
        if not _judge(found, gateway, options.strict):
            return CONFIGURATION_STATUS
        return asyncio.run(_run(found, gateway, options.verbose))


def _judge(found: Configuration, settings: Settings, strict: bool) -> bool:
    """Warn of handlers that the configuration keeps from running; whether the gateway may serve it.

    The gateway itself says what it skips. Raises DeclarativeError.
    """
    config = load_settings(settings, schemas(found), broken(found))
    for warning in unreached_handlers(config, found.plugins):
        _log.warning("%s", warning)
    if not strict:
        return True
    plugins = skipped_plugins(config, settings.skipped_plugins)
    skipped = [*config.skipped, *filter(None, [plugins])]
    for problem in skipped:
        _log.error("%s", problem)
    return not skipped


def _interface_file(temporary: Path) -> Path:
    """Name the interface file for gateway and servers: the user's, or one that says what our image's does."""
    if not variables.INTERFACE_FILE.is_default(os.environ):
        return variables.INTERFACE_FILE.read(os.environ)
    file = temporary / variables.INTERFACE_FILE.read(os.environ).name
    file.write_text(as_text(EXTENDED))
    return file


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """Give what stands unless the user's environment says otherwise."""
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
def _declarative(options: argparse.Namespace, found: Configuration) -> Iterator[Mapping[str, str]]:
    """Name the configuration, the user's or one that shows the plugins at work in front of an echo."""
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
        plugins = [{"name": plugin.name} for plugin in found.plugins if _works_unconfigured(plugin)]
        document = {"_format_version": "3.0", "services": [service], "plugins": plugins}
        try:
            yield {"KONG_DECLARATIVE_CONFIG": "", "KONG_DECLARATIVE_CONFIG_STRING": json.dumps(document)}
        finally:
            upstream.shutdown()


def _works_unconfigured(plugin: Description) -> bool:
    _, errors = validate_config(plugin.schema, {})
    if errors:
        _log.log(NOTICE, "%s is not on the demo route: %s; configure it in a kong.yml and pass that with -c",
                 plugin.name, format_errors({"config": errors}))  # fmt: skip
    return not errors


async def _run(found: Configuration, settings: Settings, verbose: bool) -> int:
    stop = asyncio.Event()
    hang_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)  # ignored by nohup
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, *hang_up):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    servers = [Server(name, found.run.socket(name)) for name in found.changes.servers]
    keepers = [asyncio.create_task(_keep(server, found, settings.interface_file, verbose)) for server in servers]
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
            _log.log(NOTICE, "serving %s on %s://%s:%d", found.options.folder, scheme, address.host, address.port)
        await stop.wait()
        return 0
    finally:
        await gateway.stop(_GRACE_SECONDS)
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)


async def _keep(server: Server, found: Configuration, interface_file: Path, verbose: bool) -> None:
    """Run a plugin's server until cancelled; start it again when it ends."""
    command = [sys.executable, "-m", "kong_pdk.server", "-d", str(found.options.folder), "--plugin", server.name]
    command += ["--kong-prefix", str(server.socket.parent), "--socket-name", server.socket.name]
    command += found.server_options(server.name)
    command += ["--verbose"] if verbose else []
    # The gateway in this process writes text, for the person who started it.
    environ = {
        **os.environ,
        variables.LOG_FORMAT.name: variables.LOG_FORMAT.default,
        variables.INTERFACE_FILE.name: str(interface_file),
    }
    while True:
        process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL, env=environ)
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            await _end(process)
            raise
        _log.error("the server of plugin %s ended with status %d; starting it again", server.name, status)
        await asyncio.sleep(_RESTART_SECONDS)


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
    except asyncio.TimeoutError:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
