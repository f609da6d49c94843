"""Runs the start commands of plugin servers, as Kong's first worker does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time

from kong_pdk import stop_times
from kong_pdk.gateway.gateway_settings import PluginServer
from kong_pdk.gateway.nginx_logs import ErrorLog

RESTART_SECONDS = 1.0
RELAY_SECONDS = 1.0


class ManagedServer:
    """A plugin server that the gateway starts, starts again when it ends, and stops with SIGTERM."""

    def __init__(self, server: PluginServer, log: ErrorLog) -> None:
        self._server = server
        self._log = log
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    @property
    def pid(self) -> int | None:
        """The process that runs, or ran last; None before the first."""
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Begin to run the start command; a second time does nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Tell the process to end, and kill it when it does not within ``stop_times.SERVER``."""
        self._stopping = True
        if self._task is None:
            return
        if self._process is not None and self._process.returncode is None:
            await _end(self._process)
        await asyncio.wait({self._task}, timeout=2 * RELAY_SECONDS)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if self._process is not None and self._process.returncode is None:
            await _end(self._process)  # it was made while the task ended

    async def _run(self) -> None:
        while not self._stopping:
            begun = time.monotonic()
            await self._run_once()
            if not self._stopping:
                await asyncio.sleep(max(0.0, RESTART_SECONDS - (time.monotonic() - begun)))

    async def _run_once(self) -> None:
        name = self._server.name
        self._log.write("notice", f"Starting {name}")
        # Not asyncio's pipe: with it, wait() returns only when the output is closed, which a child can delay.
        output, target = os.pipe()
        try:
            self._process = await self._spawn(target)
        except OSError as error:
            os.close(output)
            self._log.write("error", f"failed starting {name}: {error}")
            return
        except BaseException:
            os.close(output)
            raise
        finally:
            os.close(target)
        await self._watch(self._process, output)

    async def _spawn(self, output: int) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "/bin/sh",
            "-c",
            f"exec {self._server.start_command}",  # SIGTERM must reach the server, not a shell around it
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            env=bare_environment(),
        )

    async def _watch(self, process: asyncio.subprocess.Process, output: int) -> None:
        """Relay the output until the process has ended."""
        relay = asyncio.create_task(self._relay(process.pid, output))
        try:
            if self._stopping:  # told so while the process was being made
                process.terminate()
            status = await process.wait()
            # Read its last lines, but no longer than this: a child of the process can hold the pipe open.
            await asyncio.wait({relay}, timeout=RELAY_SECONDS)
        finally:
            relay.cancel()
            await asyncio.gather(relay, return_exceptions=True)
        if not self._stopping:
            how = f"by signal {-status}" if status < 0 else f"with status {status}"
            self._log.write("notice", f"external pluginserver '{self._server.name}' terminated: exited {how}")

    async def _relay(self, pid: int, output: int) -> None:
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(output, "rb")
        )
        try:
            while line := await _line(reader):
                text = line.decode("utf-8", "backslashreplace").rstrip("\r\n")
                self._log.write("info", f"[{self._server.name}:{pid}] {text}")
        finally:
            transport.close()


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Read the next line. A line longer than the buffer is skipped."""
    while True:
        with contextlib.suppress(ValueError):
            return await reader.readline()


async def _end(process: asyncio.subprocess.Process) -> None:
    """Send SIGTERM, and SIGKILL if the process is still there after ``stop_times.SERVER``."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), stop_times.SERVER)
            return
        process.kill()
        await process.wait()


def bare_environment() -> dict[str, str]:
    """The environment of a managed plugin server: nginx removes all but TZ."""
    return {"TZ": os.environ["TZ"]} if "TZ" in os.environ else {}
