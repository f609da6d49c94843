"""The health check."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from kong_pdk.image import health
from kong_pdk.image.ping import write_servers
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.wire.msgpack_codec import encode_response
from process_states import pause
from waiting import DEADLINE, wait_for

Serve = Callable[[Path, Callable[[socket.socket, bytes], None]], None]


def healthy(connection: socket.socket, data: bytes) -> None:
    connection.sendall(encode_response(1, None, {}))


@pytest.fixture
def container(tmp_path: Path, run: RunDirectory, environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Path:
    """Set up a container with a plugin server ``a`` and a ``kong`` that runs the returned file."""
    write_servers(run, ["a"])
    command = tmp_path / "bin" / "kong"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\nexit 0\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    for name in ("KONG_PYTHON_RUN_DIR", "TMPDIR"):
        monkeypatch.setenv(name, environ[name])
    return command


def test_a_healthy_container(
    container: Path, run: RunDirectory, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(run.socket("a"), healthy)
    assert health.main([]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ["threads", "gevent"])
def test_a_worker_that_hangs_is_noticed_beside_one_that_serves(
    container: Path, run: RunDirectory, folder: Path, capsys: pytest.CaptureFixture[str], engine: str
) -> None:
    command = [sys.executable, "-m", "kong_pdk.server", "-d", str(folder), "-p", str(run.sockets)]
    command += ["--socket-name", "a.sock", "--engine", engine, "--workers", "2"]
    process = subprocess.Popen(command)
    try:
        wait_for(run.socket("a").exists)
        assert health.main([]) == 0
        [hangs, _] = map(int, Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split())
        pause(hangs)
        assert health.main([]) == 1
        message = capsys.readouterr().err
        assert message.startswith("a: its plugin server has 2 workers, of which worker ")
        assert message.endswith(f" (process {hangs}) does not answer\n")
        os.kill(hangs, signal.SIGCONT)
        wait_for(lambda: health.main([]) == 0)
    finally:
        process.terminate()
        process.wait(DEADLINE)


def test_a_wrong_setting_does_not_make_it_unhealthy(
    container: Path, run: RunDirectory, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in `docker exec -e` does not make a container that serves unhealthy."""
    monkeypatch.setenv("KONG_PYTHON_NOSUCH", "1")
    monkeypatch.setenv("KONG_PYTHON_PROTOCOL", "x")
    serve(run.socket("a"), healthy)
    assert health.main([]) == 0


def test_each_fault_has_a_line(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container.write_text('#!/bin/sh\necho "Error: Kong is not running\n  Run with --v" >&2\nexit 1\n')
    assert health.main([]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "kong: `kong health` ends with status 1: Error: Kong is not running Run with --v"
    assert lines[1].startswith("a: its plugin server cannot be reached at ")
    assert len(lines) == 2


def test_a_kong_that_cannot_be_run_is_named(
    container: Path, run: RunDirectory, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(run.socket("a"), healthy)
    container.unlink()
    assert health.main([]) == 1
    assert capsys.readouterr().err == "kong: cannot be run: No such file or directory\n"


def test_a_container_without_kong_is_not_healthy(
    container: Path, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    run.servers_file.unlink()
    assert health.main([]) == 1
    assert "Kong was not started here" in capsys.readouterr().err


def test_ready_asks_kongs_status_listener_too(
    container: Path,
    run: RunDirectory,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    serve(run.socket("a"), healthy)
    monkeypatch.setenv("KONG_STATUS_LISTEN", "off")
    assert health.main([]) == 0
    assert health.main(["--ready"]) == 1
    assert capsys.readouterr().err.startswith("kong: KONG_STATUS_LISTEN is off")
