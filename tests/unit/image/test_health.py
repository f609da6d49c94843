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
from kong_pdk.server.workers import liveness
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
        wait_for(lambda: health.main([]) == 0)
        capsys.readouterr()
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


def test_all_faults_are_on_one_line(container: Path, capsys: pytest.CaptureFixture[str]) -> None:
    container.write_text('#!/bin/sh\necho "Error: Kong is not running\n  Run with --v" >&2\nexit 1\n')
    assert health.main([]) == 1
    [line] = capsys.readouterr().err.splitlines()
    of_kong, of_a = line.split("; ")
    assert of_kong == "kong: `kong health` ends with status 1: Error: Kong is not running Run with --v"
    assert of_a.startswith("a: its plugin server cannot be reached at ")


def test_the_line_fits_in_what_docker_keeps(
    container: Path, run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    write_servers(run, [f"plugin-{number}" for number in range(100)])
    assert health.main([]) == 1
    line = capsys.readouterr().err
    assert line.startswith("plugin-0: its plugin server cannot be reached at ")
    assert line.endswith("; and 80 more\n")
    assert len(line) < 4096


def test_a_server_has_a_second(
    container: Path, run: RunDirectory, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(run.socket("a"), lambda connection, data: connection.recv(1) and None)
    assert health.main([]) == 1
    assert capsys.readouterr().err == "a: its plugin server does not answer within 1 s\n"


def test_a_server_has_less_time_for_its_workers() -> None:
    assert liveness.ANSWER_SECONDS < health._SERVER_SECONDS


def test_a_kong_that_does_not_answer_is_not_healthy(
    container: Path,
    run: RunDirectory,
    serve: Serve,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """``kong health`` looks at nginx's process alone, which may be there and do nothing."""
    serve(run.socket("a"), healthy)
    monkeypatch.setenv("KONG_STATUS_LISTEN", "127.0.0.1:1")
    assert health.main([]) == 1
    assert capsys.readouterr().err.startswith("kong: its status listener does not answer on 127.0.0.1:1: ")


@pytest.mark.parametrize("argv", [["--redy"], ["--ready", "now"]])
def test_wrong_arguments(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        health.main(argv)
    assert ended.value.code == 2
    assert "usage: kong-python health" in capsys.readouterr().err


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
