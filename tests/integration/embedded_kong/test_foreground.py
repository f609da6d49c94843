"""The node in the foreground and behind ``kong start``: real processes, real signals, no container."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from embedded_kong import kong_prefix
from embedded_kong.kong_command_line import main
from waiting import DEADLINE, wait_for

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def port(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """A free port for the node of the prefix."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        number = int(free.getsockname()[1])
    monkeypatch.setenv("KONG_PROXY_LISTEN", f"127.0.0.1:{number}")
    monkeypatch.setenv("KONG_STATUS_LISTEN", "off")
    return number


@contextmanager
def node(prefix: Path) -> Iterator[subprocess.Popen[str]]:
    """The node of a prefix that is prepared, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "embedded_kong.foreground", "-p", str(prefix)],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def status_of(port: int, path: str = "/") -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


def log_of(prefix: Path) -> str:
    return (prefix / "logs" / "error.log").read_text()


def wait_for_log(prefix: Path, text: str) -> None:
    wait_for(lambda: text in log_of(prefix), lambda: log_of(prefix))


def started(prefix: Path, process: subprocess.Popen[str]) -> Callable[[], bool]:
    def check() -> bool:
        assert process.poll() is None, log_of(prefix)
        return kong_prefix.running(prefix) == process.pid

    return check


def kong(command: str) -> str:
    """Run a command in a process of its own; its standard output."""
    done = subprocess.run(
        [sys.executable, "-m", "embedded_kong.kong_command_line", command],
        stdout=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=True,
    )
    return done.stdout


def test_start_reload_health_and_quit(prefix: Path, port: int) -> None:
    assert kong("start") == "Kong started\n"
    try:
        assert status_of(port) == 404
        assert "Kong is healthy" in kong("health")
        assert kong("reload") == "Kong reloaded\n"
        wait_for_log(prefix, "reconfigured")
        assert status_of(port) == 404
        assert kong("restart") == "Kong stopped\nKong started\n"
        assert status_of(port) == 404
        assert kong("quit") == "Kong stopped (gracefully)\n"
        assert not kong_prefix.pid_file(prefix).exists()
    finally:
        pid = kong_prefix.running(prefix)
        if pid is not None:
            os.kill(pid, signal.SIGKILL)


def test_tcp_connections_go_through_a_node(prefix: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own HTTP listener is the service behind its stream listener."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        tcp_port = int(free.getsockname()[1])
    route = f"{{protocols: [tcp], destinations: [{{port: {tcp_port}}}]}}"
    service = f'{{name: t, url: "tcp://127.0.0.1:{port}", routes: [{route}]}}'
    monkeypatch.setenv("KONG_STREAM_LISTEN", f"127.0.0.1:{tcp_port}")
    monkeypatch.setenv("KONG_DECLARATIVE_CONFIG_STRING", f'{{_format_version: "3.0", services: [{service}]}}')
    assert main(["prepare"]) == 0
    with node(prefix) as process:
        wait_for(started(prefix, process))
        assert status_of(tcp_port) == 404
        process.send_signal(signal.SIGQUIT)
        assert process.wait(DEADLINE) == 0
    assert "TCP 200" in (prefix / "logs" / "access.log").read_text()


def test_a_start_that_fails_gives_the_reason(
    prefix: Path, port: int, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("KONG_PLUGINS", "bundled,aa")
    assert main(["start"]) == 1
    err = capsys.readouterr().err
    assert "on plugin 'aa': aa plugin is enabled but not installed" in err
    assert kong_prefix.running(prefix) is None


def test_a_port_in_use_is_named_without_a_traceback(prefix: Path, port: int) -> None:
    assert main(["prepare"]) == 0
    with socket.create_server(("127.0.0.1", port)), node(prefix) as process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert f"bind() to 127.0.0.1:{port} failed" in err
    assert "Traceback" not in err


def test_a_prefix_that_was_not_prepared(tmp_path: Path) -> None:
    with node(tmp_path) as process:
        _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert err == f"nginx: [emerg] no file at: {tmp_path}/.kong_env\n"


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_signals_that_end_it(prefix: Path, port: int, number: signal.Signals) -> None:
    assert main(["prepare"]) == 0
    with node(prefix) as process:
        wait_for(started(prefix, process))
        wait_for((prefix / "sockets" / "we").is_socket)
        process.send_signal(number)
        assert process.wait(DEADLINE) == 0
    assert f"signal {number.value} ({number.name}) received" in log_of(prefix)
    assert not kong_prefix.pid_file(prefix).exists()
    assert kong_prefix.delete_sockets(prefix) == []


def test_signals_that_do_not(prefix: Path, port: int) -> None:
    assert main(["prepare"]) == 0
    with node(prefix) as process:
        wait_for(started(prefix, process))
        for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH):
            process.send_signal(number)
        process.send_signal(signal.SIGHUP)
        wait_for_log(prefix, "reconfigured")
        assert process.poll() is None


@pytest.mark.parametrize("during", ["start", "reload"])
def test_a_signal_while_a_query_command_runs(
    prefix: Path, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, during: str
) -> None:
    """Process 1 of a container must react before all query commands have answered."""
    fifo = tmp_path / "never"
    os.mkfifo(fifo)
    if during == "reload":
        assert main(["prepare"]) == 0
    monkeypatch.setenv("KONG_PLUGINS", "aa")
    monkeypatch.setenv("KONG_PLUGINSERVER_NAMES", "aa")
    monkeypatch.setenv("KONG_PLUGINSERVER_AA_QUERY_CMD", f"touch {tmp_path}/asked; exec cat {fifo}")
    if during == "start":
        assert main(["prepare"]) == 0
    with node(prefix) as process:
        if during == "reload":
            wait_for(started(prefix, process))
            assert main(["reload"]) == 0
        wait_for((tmp_path / "asked").exists)
        process.send_signal(signal.SIGQUIT)
        assert process.wait(DEADLINE) == 0
    # Should the query command still wait for its file, it ends now.
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))


def test_a_refused_configuration_leaves_the_old_one(prefix: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["prepare"]) == 0
    with node(prefix) as process:
        wait_for(started(prefix, process))
        monkeypatch.setenv("KONG_PLUGINS", "bundled,aa")
        assert main(["reload"]) == 0
        wait_for_log(prefix, "aa plugin is enabled but not installed")
        assert status_of(port) == 404
        monkeypatch.setenv("KONG_PLUGINS", "bundled")
        assert main(["reload"]) == 0
        wait_for_log(prefix, "reconfigured")


def test_a_kill_leaves_its_socket_behind(prefix: Path, port: int) -> None:
    """As it leaves the sockets of Kong's workers: the next start finds and logs them."""
    assert main(["prepare"]) == 0
    with node(prefix) as process:
        wait_for(started(prefix, process))
        wait_for((prefix / "sockets" / "we").is_socket)
        process.kill()
        process.wait(DEADLINE)
    assert [path.name for path in kong_prefix.delete_sockets(prefix)] == ["we"]
