"""The gateway runs start commands as Kong's first worker does."""

from __future__ import annotations

import asyncio
import io
import os
import signal
from pathlib import Path

import pytest
from kong_pdk import stop_times
from kong_pdk.gateway.gateway_settings import PluginServer
from kong_pdk.gateway.nginx_logs import ErrorLog, Stream
from kong_pdk.gateway.servers import managed_server as module
from kong_pdk.gateway.servers.managed_server import ManagedServer
from waiting import DEADLINE, async_wait_for


def managed(command: str) -> tuple[ManagedServer, io.StringIO]:
    written = io.StringIO()
    server = PluginServer("srv", Path("srv.sock"), command, "query")
    return ManagedServer(server, ErrorLog(Stream(written), "debug")), written


def test_environment_is_bare_and_output_goes_to_the_log_at_info(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("SECRET_OF_THE_CONTAINER", "x")
    server, written = managed("/bin/sh -c '/usr/bin/env; echo end-of-output >&2; exec /usr/bin/tail -f /dev/null'")

    async def run() -> None:
        server.start()
        server.start()
        await async_wait_for(lambda: "end-of-output" in written.getvalue())
        await server.stop()

    asyncio.run(run())
    assert "TZ=UTC" in written.getvalue()
    assert "SECRET_OF_THE_CONTAINER" not in written.getvalue()
    assert all("[info] kong: [srv:" in line for line in written.getvalue().splitlines() if "TZ=" in line)
    assert written.getvalue().count("end-of-output") == 1


def test_server_that_ends_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.01)
    server, written = managed(f"/bin/sh -c 'echo run >>{tmp_path}/runs; exit 3'")

    async def run() -> None:
        server.start()
        await async_wait_for(lambda: written.getvalue().count("terminated: exited with status 3") >= 3)
        await server.stop()

    asyncio.run(run())
    assert (tmp_path / "runs").read_text().count("run") >= 3


def test_stop_sends_sigterm_to_the_process_itself(tmp_path: Path) -> None:
    script = tmp_path / "server.sh"
    script.write_text(
        f"trap 'echo told >{tmp_path}/told; exit 0' TERM\necho ready\nwhile :; do /bin/sleep 0.05; done\n"
    )
    server, written = managed(f"/bin/sh {script}")

    async def run() -> None:
        server.start()
        await async_wait_for(lambda: "ready" in written.getvalue())
        await server.stop()
        await server.stop()

    asyncio.run(run())
    assert (tmp_path / "told").read_text() == "told\n"
    assert "terminated" not in written.getvalue()


def test_server_that_ignores_sigterm_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(stop_times, "SERVER", 0.2)
    script = tmp_path / "server.sh"
    script.write_text("trap '' TERM\necho ready\nwhile :; do /bin/sleep 0.05; done\n")
    server, written = managed(f"/bin/sh {script}")

    async def run() -> None:
        server.start()
        await async_wait_for(lambda: "ready" in written.getvalue())
        await asyncio.wait_for(server.stop(), DEADLINE)

    asyncio.run(run())


def test_missing_command_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RESTART_SECONDS", 0.01)
    server, written = managed("/nowhere/at/all")

    async def run() -> None:
        server.start()
        await async_wait_for(lambda: "exited with status 127" in written.getvalue())
        await server.stop()

    asyncio.run(run())
    assert "/nowhere/at/all" in written.getvalue()


def test_stop_does_not_wait_for_a_grandchild_that_holds_the_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(stop_times, "SERVER", 0.2)
    monkeypatch.setattr(module, "RELAY_SECONDS", 0.2)
    script = tmp_path / "server.sh"
    script.write_text(f"/usr/bin/tail -f /dev/null &\necho $! >{tmp_path}/pid\necho ready\nwait\n")
    server, written = managed(f"/bin/sh {script}")

    async def run() -> None:
        server.start()
        await async_wait_for(lambda: "ready" in written.getvalue())
        await asyncio.wait_for(server.stop(), DEADLINE)
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
        await asyncio.sleep(0)

    asyncio.run(run())


def test_stop_right_after_start_leaves_no_process() -> None:
    server, _ = managed("/usr/bin/tail -f /dev/null")

    async def run() -> None:
        server.start()
        await asyncio.sleep(0)
        await asyncio.wait_for(server.stop(), DEADLINE)

    asyncio.run(run())
    assert server.pid is not None
    with pytest.raises(ProcessLookupError):
        os.kill(server.pid, 0)
