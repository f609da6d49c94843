"""The ``kong`` command line: output, exit codes and refused arguments of each command."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from embedded_kong import kong_prefix
from embedded_kong.kong_command_line import main

Capture = pytest.CaptureFixture[str]


@contextmanager
def process_in(prefix: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in place of the node of the prefix. It prints its signals."""
    code = (
        "import signal, sys\n"
        "signal.signal(signal.SIGHUP, lambda *_: (print('HUP', flush=True)))\n"
        "print('ready', flush=True)\n"
        "while True: signal.pause()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (prefix / "pids").mkdir(parents=True, exist_ok=True)
        kong_prefix.pid_file(prefix).write_text(f"{process.pid}\n")
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_version_begins_with_kongs_and_names_the_embedded_gateway(capsys: Capture) -> None:
    assert main(["version"]) == 0
    out = capsys.readouterr().out
    assert out.split()[0] == "3.9.3"
    assert "not Kong" in out


def test_version_reads_no_configuration() -> None:
    """It must answer at once, on a machine with any configuration."""
    loaded = (
        "import sys; from embedded_kong.kong_command_line import main; main(['version'])\n"
        "print([name for name in sys.modules if 'settings' in name or 'asyncio' in name])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(("arguments", "code"), [([], 1), (["--help"], 0)])
def test_usage_names_every_command(capsys: Capture, arguments: list[str], code: int) -> None:
    assert main(arguments) == code
    streams = capsys.readouterr()
    text = streams.out if code == 0 else streams.err
    assert text.startswith("Usage: kong COMMAND [OPTIONS]")
    for name in ("check", "config", "health", "migrations", "prepare", "quit", "reload", "start", "stop"):
        assert f"\n {name}\n" in text


def test_an_unknown_command_is_refused_with_the_usage(capsys: Capture) -> None:
    assert main(["begin"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("No such command: begin\n")
    assert "Usage: kong" in err


def test_an_unknown_option_is_refused(capsys: Capture, prefix: Path) -> None:
    assert main(["prepare", "--nonsense"]) == 1
    assert capsys.readouterr().err.startswith("Error: unrecognized arguments: --nonsense")
    assert not prefix.exists()


def test_the_help_of_a_command_ends_with_0() -> None:
    with pytest.raises(SystemExit) as ended:
        main(["reload", "--help"])
    assert ended.value.code == 0


def test_prepare_makes_the_prefix(prefix: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setenv("KONG_LOG_LEVEL", "info")
    assert main(["prepare"]) == 0
    assert "log_level = info\n" in (prefix / ".kong_env").read_text()
    assert {path.name for path in prefix.iterdir() if path.is_dir()} == {"logs", "pids", "sockets"}
    assert (prefix / "logs" / "error.log").is_file()
    streams = capsys.readouterr()
    assert (streams.out, streams.err) == ("", "")


def test_prepare_twice_is_no_error_and_keeps_the_logs(prefix: Path) -> None:
    assert main(["prepare"]) == 0
    (prefix / "logs" / "error.log").write_text("a line\n")
    assert main(["prepare", "-p", str(prefix), "kong", "docker-start"]) == 0
    assert (prefix / "logs" / "error.log").read_text() == "a line\n"


def test_prepare_says_which_prefix_it_cannot_make(tmp_path: Path, prefix: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert main(["prepare", "-p", str(tmp_path / "file" / "kong")]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"Error: could not prepare Kong prefix at {tmp_path}/file/kong: Not a directory")
    assert "--vv (debug) for more details" in err


def test_verbose_shows_the_traceback(tmp_path: Path, prefix: Path, capsys: Capture) -> None:
    (tmp_path / "file").write_text("")
    assert main(["prepare", "--v", "-p", str(tmp_path / "file" / "kong")]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [["prepare"], ["health"], ["reload"], ["start"], ["stop"], ["quit"], ["restart"], ["migrations", "up"]],
    ids=" ".join,
)
def test_every_command_that_loads_the_configuration_wants_a_query_command(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: list[str]
) -> None:
    assert main(["prepare"]) == 0
    monkeypatch.setenv("KONG_PLUGINSERVER_NAMES", "nowhere")
    assert main(command) == 1
    assert "query_command undefined for pluginserver nowhere" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["prepare"], ["migrations", "up"], ["health"], ["reload"]], ids=" ".join)
def test_no_command_runs_a_query_command(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    assert main(["prepare"]) == 0
    monkeypatch.setenv("KONG_PLUGINS", "bundled,aa")
    monkeypatch.setenv("KONG_PLUGINSERVER_NAMES", "aa")
    monkeypatch.setenv("KONG_PLUGINSERVER_AA_QUERY_CMD", f"touch {tmp_path}/run")
    with process_in(prefix):
        assert main(command) == 0
    assert not (tmp_path / "run").exists()


def test_health_checks_the_process_only(prefix: Path, capsys: Capture) -> None:
    assert main(["prepare"]) == 0
    with process_in(prefix):
        assert main(["health"]) == 0
        assert capsys.readouterr().out == f"nginx.......running\n\nKong is healthy at {prefix}\n"
    assert main(["health"]) == 1
    streams = capsys.readouterr()
    assert streams.out.startswith("nginx.......not running\n")
    assert streams.err.startswith(f"Error: Kong is not running at {prefix}\n")


@pytest.mark.parametrize("content", ["", "no number", "-1", "0", "9" * 40])
def test_a_broken_pid_file_means_not_running(prefix: Path, content: str) -> None:
    assert main(["prepare"]) == 0
    kong_prefix.pid_file(prefix).write_text(content)
    assert main(["health"]) == 1


def test_reload_writes_the_configuration_and_signals(
    prefix: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("KONG_PLUGINS", "bundled,added")
    assert main(["prepare"]) == 0
    monkeypatch.setenv("KONG_PLUGINS", "bundled")
    with process_in(prefix) as process:
        assert main(["reload"]) == 0
        assert process.stdout is not None
        assert process.stdout.readline() == b"HUP\n"
    assert "plugins = bundled\n" in (prefix / ".kong_env").read_text()
    assert capsys.readouterr().out == "Kong reloaded\n"


@pytest.mark.parametrize("command", ["reload", "stop", "quit"])
def test_without_a_node_there_is_nothing_to_signal(prefix: Path, capsys: Capture, command: str) -> None:
    assert main(["prepare"]) == 0
    assert main([command]) == 1
    assert capsys.readouterr().err.startswith(f"Error: nginx not running in prefix: {prefix}\n")


@pytest.mark.parametrize(
    ("command", "number", "says"),
    [("stop", signal.SIGTERM, "Kong stopped"), ("quit", signal.SIGQUIT, "Kong stopped (gracefully)")],
)
def test_stop_and_quit_send_nginx_signals(
    prefix: Path, capsys: Capture, command: str, number: signal.Signals, says: str
) -> None:
    assert main(["prepare"]) == 0
    with process_in(prefix) as process, reaped(process):
        assert main([command]) == 0
        assert process.wait(timeout=60) == -number
    assert capsys.readouterr().out == f"{says}\n"


def test_start_refuses_a_second_node(prefix: Path, capsys: Capture) -> None:
    assert main(["prepare"]) == 0
    with process_in(prefix):
        assert main(["start"]) == 1
    assert capsys.readouterr().err.startswith(f"Error: Kong is already running in {prefix}\n")


def test_check_of_a_file(tmp_path: Path, prefix: Path, capsys: Capture) -> None:
    conf = tmp_path / "kong.conf"
    conf.write_text("log_level = notice\n")
    assert main(["check", str(conf)]) == 0
    assert capsys.readouterr().out == f"configuration at {conf} is valid\n"
    conf.write_text("log_level = loud\n")
    assert main(["check", str(conf)]) == 1
    assert "[error] log_level has an invalid value: 'loud'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("bootstrap", "Database already bootstrapped"),
        ("up", "Database is already up-to-date"),
        ("finish", "No pending migrations to finish"),
    ],
)
def test_migrations_have_nothing_to_do_without_a_database(
    prefix: Path, capsys: Capture, command: str, says: str
) -> None:
    assert main(["migrations", command]) == 0
    assert capsys.readouterr().out == f"{says}\n"


def test_without_a_database_there_is_nothing_to_reset(prefix: Path, capsys: Capture) -> None:
    assert main(["migrations", "reset", "--yes"]) == 1
    assert capsys.readouterr().err.startswith("Error: 'kong migrations reset' needs a database")


def test_an_example_configuration_can_be_parsed(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["config", "init"]) == 0
    assert main(["config", "parse", "kong.yml"]) == 0
    assert capsys.readouterr().out == "parse successful\n"
    assert main(["config", "init"]) == 1
    assert "kong.yml already exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["parse"], "Error: expected a declarative configuration file"),
        (["parse", "absent.yml"], "Error: Failed parsing:\nabsent.yml: No such file"),
        (["db_import", "absent.yml"], "Error: 'kong config db_import' only works with a database."),
        (["judge"], "Error: argument command: invalid choice: 'judge'"),
    ],
)
def test_config_refuses(prefix: Path, capsys: Capture, arguments: list[str], says: str) -> None:
    assert main(["config", *arguments]) == 1
    assert capsys.readouterr().err.startswith(says)


def test_config_parse_names_the_error(prefix: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "kong.yml"
    file.write_text("_format_version: '3.0'\nserrvices: []\n")
    assert main(["config", "parse", str(file)]) == 1
    assert "serrvices" in capsys.readouterr().err


def test_config_parse_fails_with_an_external_plugin(
    prefix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KONG_PLUGINS", "bundled,aa")
    assert main(["config", "init"]) == 0
    assert main(["config", "parse", "kong.yml"]) == 1
    assert "plugin 'aa' is external" in capsys.readouterr().err


def test_sockets_are_deleted_wherever_they_came_from(prefix: Path) -> None:
    assert main(["prepare"]) == 0
    (prefix / "kept.txt").write_text("")
    for path in (prefix / "a.sock", prefix / "sockets" / "b.sock"):
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.fspath(path))
    assert kong_prefix.delete_sockets(prefix) == [prefix / "a.sock", prefix / "sockets" / "b.sock"]
    assert kong_prefix.delete_sockets(prefix) == []
    assert (prefix / "kept.txt").exists()


@contextmanager
def reaped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Waits for the process in a thread: a zombie of this process would count as running."""
    thread = threading.Thread(target=process.wait)
    thread.start()
    try:
        yield
    finally:
        thread.join(timeout=60)
