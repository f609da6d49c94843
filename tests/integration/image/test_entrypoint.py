"""Process 1: the plugin servers, Kong, signals, exit statuses and the log."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from integration.image.container import Container
from kong_pdk.image import entrypoint
from kong_pdk.image.ping import read_servers, write_servers
from kong_pdk.image.run_directory import RunDirectory, locate
from programs import KONG_PYTHON

Start = Callable[..., Container]

Refused = Callable[..., str]

FORM = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(debug|info|notice|warn|error|crit)\] [\w-]+: .+")
RELOADING_KONG = """
import signal, sys
signal.signal(signal.SIGHUP, lambda number, frame: print("Kong reloads"))
signal.signal(signal.SIGQUIT, lambda number, frame: sys.exit(0))
print("Kong waits")
while True: signal.pause()
"""


@pytest.fixture
def refused(environ: Mapping[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Refused:
    """Give a function that runs the entrypoint, in this process, where it starts nothing; it gives the log."""

    def run_entrypoint(**variables: str) -> str:
        for name in os.environ.keys() - environ.keys():
            monkeypatch.delenv(name)
        for name, value in {**environ, **variables}.items():
            monkeypatch.setenv(name, value)
        assert entrypoint.main([]) == 78
        output = capfd.readouterr()
        return output.out + output.err

    return run_entrypoint


@pytest.mark.parametrize(
    ("number", "role"), [(signal.SIGQUIT, "traditional"), (signal.SIGTERM, "data_plane"), (signal.SIGINT, "data_plane")]
)
def test_start_and_stop(start: Start, run: RunDirectory, number: signal.Signals, role: str) -> None:
    then = 'echo "$KONG_PLUGINS $KONG_PLUGINSERVER_GOOD_SOCKET $SUPERVISOR_ENABLED."'
    container = start(KONG_ROLE=role, kong={"then": then})
    container.wait_for("GET / 200")
    container.wait_for(f"[info] kong: bundled,good {run.socket('good')} .")
    assert container.end(number) == 0
    log = container.log
    assert "[notice] kong: 1#0: Kong runs as kong docker-start" in log
    assert "[info] kong: GET / 200" in log
    assert log.index("every plugin server answers (1)") < log.index("Kong runs") < log.index("Kong drains")
    assert log.index("Kong drains") < log.index("stopped: good")
    assert "SIGKILL" not in log
    assert [line for line in log.splitlines() if not FORM.fullmatch(line)] == []
    assert not run.socket("good").exists()
    assert not run.supervisor_socket.exists()


def test_it_can_be_stopped_while_it_inspects_plugins(start: Start, folder: Path) -> None:
    (folder / "slow.py").write_text(
        'print("importing", flush=True)\nimport time\ntime.sleep(600)\nclass Plugin: pass\n'
    )
    container = start()
    container.wait_for("importing")
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.parametrize(("then", "status"), [("exit 0", 0), ("kill -9 $$", 137)])
@pytest.mark.usefixtures("no_plugins")
def test_the_container_ends_with_kongs_exit_status(start: Start, then: str, status: int) -> None:
    container = start(kong={"then": then})
    assert container.end() == status
    assert f"Kong ended with status {status}, so the container ends" in container.log


def test_a_running_container(start: Start, environ: Mapping[str, str]) -> None:
    """supervisorctl reaches it, the environment of the next command is written, a server that dies is restarted."""
    container = start()
    container.wait_for("success: good entered RUNNING")
    container.wait_for("listening on")
    container.wait_for("GET / 200")

    done = subprocess.run(
        [KONG_PYTHON, "supervisorctl", "status"],
        env=dict(environ), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert re.search(r"^kong +RUNNING", done.stdout, re.MULTILINE)
    assert re.search(r"^plugins:good +(RUNNING|STARTING)", done.stdout, re.MULTILINE)
    assert "KONG_PLUGINS=bundled,good" in locate(environ).environment_file.read_text()

    died = container.pid_of("good")
    os.kill(died, signal.SIGKILL)
    container.wait_until(lambda: container.pid_of("good") != died, "new server")
    container.wait_for("listening on", count=2)
    assert container.end(signal.SIGQUIT) == 0
    assert "[warn] supervisord: exited: good (terminated by SIGKILL" in container.log


def test_a_silent_server_ends_the_start_and_is_named(run: RunDirectory, environ: Mapping[str, str]) -> None:
    write_servers(run, ["good"])
    done = subprocess.run(
        [sys.executable, "-I", "-m", "kong_pdk.image.starting_kong", "kong", "docker-start"],
        env={**environ, "KONG_PYTHON_START_SECONDS": "0"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 69
    assert "[error] kong: Kong is not started: after 0 s not every plugin server answers: good cannot be" in done.stderr


def test_sighup_reloads_kong_and_restarts_nothing(start: Start) -> None:
    # Not in bash, which cannot trap a signal that was ignored when it started; nginx takes it all the same.
    container = start(kong={"then": f"exec {sys.executable} -uc '{RELOADING_KONG}'"})
    container.wait_for("Kong waits")
    container.process.send_signal(signal.SIGHUP)
    container.wait_for("[info] kong: Kong reloads")
    assert container.end(signal.SIGTERM) == 0
    assert container.log.count("spawned:") == 2


@pytest.mark.usefixtures("no_plugins")
def test_a_kong_that_does_not_drain_in_time_is_terminated(start: Start) -> None:
    drain = "for i in $(seq 600); do sleep 0.05; done"
    kong = {"drain": f'trap "echo hurried; exit 0" TERM; {drain}'}
    container = start(kong=kong, KONG_PYTHON_DRAIN_SECONDS="0")
    container.wait_for("GET / 200")
    assert "every plugin server answers (0)" in container.log
    assert container.end(signal.SIGQUIT) == 0
    assert "[warn] supervisord: Kong still runs after 0 s" in container.log


@pytest.mark.usefixtures("no_plugins")
def test_a_kong_that_still_starts_does_not_use_up_the_time_to_stop(start: Start) -> None:
    # bash ignores SIGQUIT by itself, which is not seen here: the script has traps.
    preparing = f'{sys.executable} -c "import time; print(1, flush=True); time.sleep(600)"'
    container = start(
        kong={"then": f"trap '' QUIT; trap - TERM; echo 'Kong is prepared'; {preparing}; echo 'Kong starts'"}
    )
    container.wait_for("[info] kong: 1")
    assert container.end(signal.SIGQUIT) == 0
    log = container.log
    assert "[notice] supervisord: Kong was still starting" in log
    assert "Kong still runs" not in log
    assert "Kong starts" not in log


def test_wrong_settings_prevent_the_start_before_anything_else(refused: Refused) -> None:
    log = refused(KONG_PYTHON_PROTOCOL="grpc", KONG_PYTHON_PLUGIN_DIR="/x")
    assert [line.partition("[error] kong-python: ")[2] for line in log.splitlines()] == [
        "there is no setting KONG_PYTHON_PLUGIN_DIR; did you mean KONG_PYTHON_PLUGINS_DIR?",
        "KONG_PYTHON_PROTOCOL is 'grpc'; set it to protobuf or msgpack",
    ]


def test_a_wrong_value_is_logged_once_for_another_command(start: Start) -> None:
    container = start("bash", "-c", "true", KONG_PYTHON_PROTOCOL="grpc", kong={"then": "exit 5"})
    assert container.end() == 5
    assert container.log.count("KONG_PYTHON_PROTOCOL is 'grpc'") == 1


def test_a_server_of_the_user_and_a_setting_that_kong_ignores_are_logged(start: Start) -> None:
    container = start(
        **{"KONG_PLUGINSERVER_GOOD_START_CMD": "/x", "KONG_PLUGINSERVER_G-OOD_SOCKET": "/x"},
        kong={"then": "exit 5"},
    )
    assert container.end() == 5
    assert "Kong ended with status 5, so the container ends" in container.log
    assert "[warn] kong-python: Kong ignores KONG_PLUGINSERVER_G-OOD_SOCKET: " in container.log
    assert "[notice] kong-python: no plugin server is started for good: KONG_PLUGINSERVER_" in container.log


@pytest.mark.usefixtures("add_broken")
def test_json_from_the_first_line_to_the_last_and_a_broken_plugin_is_skipped(start: Start, folder: Path) -> None:
    (folder / "prints.py").write_text('import os\nos.write(1, b"caf\\xe9\\n")\n' + (folder / "good.py").read_text())
    container = start(KONG_PYTHON_LOG_FORMAT="json", KONG_PYTHON_ON_BROKEN_PLUGIN="skip")
    container.wait_for("GET / 200")
    assert container.end(signal.SIGQUIT) == 0
    lines = [json.loads(line) for line in container.log.splitlines()]
    assert all(list(line) == ["time", "level", "program", "message"] for line in lines)
    assert {line["program"] for line in lines} == {"kong-python", "kong", "supervisord", "good", "prints"}
    messages = [(line["level"], line["program"], line["message"]) for line in lines]
    assert any("starting without the broken plugins" in text for _, _, text in messages)
    assert ("info", "kong", "GET / 200") in messages
    assert ("notice", "kong", "1#0: Kong runs as kong docker-start") in messages
    # Once in the inspection, once in its server.
    assert [text for _, program, text in messages if program == "prints" and "caf" in text] == [r"caf\xe9"] * 2


@pytest.mark.usefixtures("add_broken")
def test_json_of_mistakes(refused: Refused) -> None:
    log = refused(KONG_PYTHON_LOG_FORMAT="json")
    lines = [json.loads(line) for line in log.splitlines()]
    assert {line["level"] for line in lines} == {"error"}
    assert any("bad.py:2" in line["message"] for line in lines)


def test_an_unknown_log_format_is_logged_as_text(refused: Refused) -> None:
    log = refused(KONG_PYTHON_LOG_FORMAT="yaml")
    assert log.endswith("[error] kong-python: KONG_PYTHON_LOG_FORMAT is 'yaml'; set it to text or json\n")


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_mistake_of_our_own_has_the_form_of_all_lines(
    form: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KONG_PYTHON_LOG_FORMAT", form)
    monkeypatch.setattr(entrypoint, "start", lambda command: 1 // 0)
    assert entrypoint.main([]) == 70
    lines = capfd.readouterr().err.splitlines()
    if form == "text":
        assert all(FORM.fullmatch(line) for line in lines)
    else:
        lines = json.loads(lines[0])["message"].splitlines()
    assert lines[-1].endswith("ZeroDivisionError: integer division or modulo by zero")


@pytest.mark.usefixtures("add_broken")
def test_a_broken_plugin_prevents_the_start(refused: Refused) -> None:
    log = refused()
    assert "[error] kong-python: " in log
    assert "bad.py:2" in log


@pytest.mark.usefixtures("add_broken")
def test_another_command_gets_the_environment_and_warnings(start: Start) -> None:
    then = 'echo "plugins: $KONG_PLUGINS"; exit 5'
    container = start("kong", "version", KONG_PYTHON_NOSUCH="1", kong={"then": then})
    assert container.end() == 5
    assert "[warn] kong-python: there is no setting KONG_PYTHON_NOSUCH; " in container.log
    assert "Kong runs as kong version\n" in container.log
    assert "plugins: bundled,good\n" in container.log
    assert re.search(r"\[warn\] kong-python: .*bad\.py:2", container.log)
    assert "spawned" not in container.log


@pytest.fixture
def report(start: Start, tmp_path: Path) -> Callable[..., str]:
    """Give a function that runs a command of ``kong-python`` as the container's, and gives the log."""
    base, program = tmp_path / "docker-entrypoint", tmp_path / "programs" / "kong-python"
    program.parent.mkdir()
    base.write_text('#!/usr/bin/env bash\nexec "$@"\n')  # as Kong's; others drop variables with a dash
    program.write_text(f"#!{sys.executable}\nimport sys\nfrom kong_pdk.cli import main\nsys.exit(main())\n")
    for file in (base, program):
        file.chmod(0o755)

    def run_command(command: str, **variables: str) -> str:
        path = f"{program.parent}:{os.environ['PATH']}"
        container = start("kong-python", command, PATH=path, KONG_PYTHON_BASE_ENTRYPOINT=str(base), **variables)
        assert container.end() == 78
        return container.log

    return run_command


@pytest.mark.usefixtures("add_broken")
@pytest.mark.parametrize("command", ["env", "plugins"])
def test_a_message_of_a_command_itself_appears_once(report: Callable[..., str], command: str) -> None:
    log = report(command, **{"KONG_PLUGINSERVER_GO-OD_SOCKET": "/x", "KONG_PYTHON_NOSUCH": "1"})
    assert log.count("Kong ignores KONG_PLUGINSERVER_GO-OD_SOCKET") == 1
    assert log.count("there is no setting KONG_PYTHON_NOSUCH") == 1
    assert len(re.findall(r"bad\.py:2: ", log)) == 1


@pytest.mark.parametrize("variable", ["KONG_PYTHON_PROTOCOL", "KONG_PLUGINS_FILE"])
def test_a_setting_that_prevents_a_report_is_logged_once(report: Callable[..., str], variable: str) -> None:
    log = report("env", **{variable: "/nowhere"})
    assert len([line for line in log.splitlines() if variable in line]) == 1


def test_a_control_plane_starts_no_server(start: Start, run: RunDirectory) -> None:
    container = start(KONG_ROLE="control_plane", kong={"then": "$KONG_PLUGINSERVER_GOOD_QUERY_CMD"})
    container.wait_for("GET / 200")
    container.wait_for('"Name": "good"')
    assert "[notice] kong-python: this is a control plane: Kong knows the plugins' schemas, and no" in container.log
    assert "spawned: 'good'" not in container.log
    assert read_servers(run) == []
    assert "--plugin" not in run.supervisord_conf.read_text()
    assert container.end(signal.SIGQUIT) == 0


@pytest.mark.usefixtures("no_plugins")
def test_a_base_without_entrypoint_is_named(start: Start) -> None:
    container = start(KONG_PYTHON_BASE_ENTRYPOINT="/no/such/entrypoint")
    assert container.end() == 127
    assert "[error] kong: /no/such/entrypoint: No such file or directory; the base image has to be" in container.log


def test_a_start_without_a_place_to_write_has_a_hint(refused: Refused, folder: Path) -> None:
    nowhere = str(folder / "good.py" / "below")
    log = refused(KONG_PYTHON_RUN_DIR=nowhere, TMPDIR=nowhere)
    assert "add a tmpfs: --tmpfs /run/kong-python:mode=1777" in log
