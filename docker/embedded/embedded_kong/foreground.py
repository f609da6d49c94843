"""The node in the foreground, with nginx's signals and pid file: it takes the place of nginx in the official image."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from kong_pdk.gateway.gateway import Gateway, GatewayError
from kong_pdk.gateway.gateway_settings import Settings
from kong_pdk.gateway.nginx_logs import ErrorLog, open_stream
from kong_pdk.settings import KONG_PREFIX

from embedded_kong import kong_conf
from embedded_kong.console import CommandError
from embedded_kong.kong_prefix import pid_file

_GRACEFUL = (signal.SIGQUIT,)
_FAST = (signal.SIGTERM, signal.SIGINT)
# nginx has no limit; the sender of SIGQUIT kills it when it takes too long.
_DRAIN_SECONDS = 3600.0
# nginx uses these; their default action would end this process.
_IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)


class Node:
    """One node, with nginx's signals: SIGQUIT ends it when open requests have been served, SIGTERM and SIGINT end it at
    once, and SIGHUP makes it read ``.kong_env`` again.
    """

    def __init__(self, prefix: Path) -> None:
        self._prefix = prefix
        self._signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self._log = ErrorLog(None)
        self._log_is_a_file = False
        self._events: socket.socket | None = None

    async def run(self) -> int:
        """Serve until a signal ends it; give the exit code."""
        self._take_signals()
        try:
            settings = self._read_settings()
            self._open_log(settings)
        except (CommandError, OSError) as error:
            print(f"nginx: [emerg] {error}", file=sys.stderr, flush=True)
            return 1
        self._warn_of_user()
        gateway = Gateway(settings, self._log)
        failure = await self._start(gateway)
        if failure is not None:
            return failure
        try:
            await self._serve(gateway)
        finally:
            pid_file(self._prefix).unlink(missing_ok=True)
            if self._events is not None:
                self._events.close()
                events_socket(self._prefix).unlink(missing_ok=True)
            self._log.write("notice", "exit")
            self._log.close()
        return 0

    def _read_settings(self) -> Settings:
        # `kong prepare` and `kong reload` have written the environment into the file.
        return kong_conf.check({**kong_conf.read_kong_env(self._prefix), "prefix": str(self._prefix)})

    def _open_log(self, settings: Settings) -> None:
        self._log_is_a_file = (self._prefix / settings.proxy_error_log).is_file()
        self._log = ErrorLog(open_stream(settings.proxy_error_log, self._prefix), settings.log_level)

    def _warn_of_user(self) -> None:
        if os.getuid() != 0:
            warning = 'the "user" directive makes sense only if the master process runs with super-user privileges'
            print(f"nginx: [warn] {warning}", file=sys.stderr, flush=True)
            self._log.write("warn", warning)

    async def _start(self, gateway: Gateway) -> int | None:
        """Start the gateway, unless a signal to end comes first; give an exit code if it does not run."""
        starting = asyncio.create_task(gateway.start())
        ending = asyncio.create_task(self._next_end())
        await asyncio.wait({starting, ending}, return_when=asyncio.FIRST_COMPLETED)
        ending.cancel()
        if not starting.done():
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            return 0
        try:
            starting.result()
            self._write_pid()
            self._events = _bind(events_socket(self._prefix))
        except (GatewayError, OSError) as error:
            self._refuse(error)
            await gateway.stop(graceful=False)
            return 1
        return None

    def _refuse(self, error: Exception) -> None:
        self._log.write("error", f"init_by_lua error: {error}")
        if self._log_is_a_file:
            print(f"nginx: [error] init_by_lua error: {error}", file=sys.stderr, flush=True)

    async def _serve(self, gateway: Gateway) -> None:
        """Serve until a signal to end, which also works while a reload waits for a query command."""
        reloads: list[asyncio.Task[None]] = []
        while (number := await self._next()) == signal.SIGHUP:
            reloads = [task for task in reloads if not task.done()]
            reloads.append(asyncio.create_task(self._reload(gateway)))
        for task in reloads:
            task.cancel()
        await asyncio.gather(*reloads, return_exceptions=True)
        await self._stop(gateway, graceful=number in _GRACEFUL)

    async def _next(self) -> signal.Signals:
        number = await self._signals.get()
        self._log.write("notice", f"signal {number.value} ({number.name}) received")
        return number

    async def _reload(self, gateway: Gateway) -> None:
        """Load the new configuration; if it is refused, the old one stays in force, as in nginx."""
        try:
            await gateway.reload(self._read_settings())
        except (CommandError, GatewayError, OSError) as error:
            self._log.write("error", f"init_by_lua error: {error}")
        else:
            self._log.write("notice", "reconfigured")

    async def _stop(self, gateway: Gateway, graceful: bool) -> None:
        """Stop; SIGTERM and SIGINT cut a graceful stop short."""
        stopping = asyncio.create_task(gateway.stop(_DRAIN_SECONDS, graceful))
        while graceful and not stopping.done():
            hurry = asyncio.create_task(self._next_end())
            await asyncio.wait({stopping, hurry}, return_when=asyncio.FIRST_COMPLETED)
            if hurry.done() and hurry.result() in _FAST:
                graceful = False
                await gateway.stop(graceful=False)
            hurry.cancel()
        await stopping

    async def _next_end(self) -> signal.Signals:
        while (number := await self._next()) == signal.SIGHUP:
            continue
        return number

    def _write_pid(self) -> None:
        path = pid_file(self._prefix)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{os.getpid()}\n", encoding="ascii")

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (*_GRACEFUL, *_FAST, signal.SIGHUP):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        for number in _IGNORED:
            signal.signal(number, signal.SIG_IGN)


def events_socket(prefix: Path) -> Path:
    """Give the path of a socket that Kong's workers have. A stop removes it; after a kill the entrypoint finds it."""
    return prefix / "sockets" / "we"


def _bind(path: Path) -> socket.socket:
    """Bind a socket; nothing connects to it."""
    path.parent.mkdir(exist_ok=True)
    path.unlink(missing_ok=True)
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    bound.bind(os.fspath(path))
    return bound


def main(arguments: Sequence[str]) -> int:
    """Run the node of a prefix that ``kong prepare`` made."""
    parser = ArgumentParser(prog="kong-embedded-gateway", allow_abbrev=False)
    parser.add_argument("-p", "--prefix", type=Path, default=Path(KONG_PREFIX))
    return asyncio.run(Node(parser.parse_args(arguments).prefix.absolute()).run())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
