"""The generated configuration, as supervisord itself reads it."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.image.supervisord_conf import write
from supervisor.options import ServerOptions
from supervisor.process import Subprocess


def options(run: RunDirectory, folder: Path, servers: list[str], *words: str, metrics: bool = False) -> ServerOptions:
    run.write(run.supervisord_conf, write(run, folder, servers, ["kong", "docker-start", *words], 7, metrics=metrics))
    read = ServerOptions()
    read.realize(["-c", str(run.supervisord_conf)])
    return read


def arguments(config: object) -> list[str]:
    argv: list[str] = Subprocess(config).get_execv_args()[1]
    return argv


def test_kong_is_stopped_before_its_plugin_servers(run: RunDirectory) -> None:
    groups = options(run, Path("/plugins"), ["b", "a"]).process_group_configs
    assert [(group.name, [process.name for process in group.process_configs]) for group in groups] == [
        ("plugins", ["b", "a"]),
        ("kong", ["kong"]),
    ]
    assert groups[0].priority < groups[1].priority


def test_kong_is_asked_to_drain_and_never_restarted(run: RunDirectory) -> None:
    kong = options(run, Path("/plugins"), []).process_group_configs[0].process_configs[0]
    assert (kong.stopsignal, kong.stopwaitsecs, kong.autorestart) == (signal.SIGQUIT, 8, False)


def test_a_plugin_may_be_called_kong(run: RunDirectory) -> None:
    groups = options(run, Path("/plugins"), ["kong"]).process_group_configs
    assert [group.name for group in groups] == ["plugins", "kong"]


def test_nothing_goes_to_files(run: RunDirectory) -> None:
    read = options(run, Path("/plugins"), ["a"])
    for group in read.process_group_configs:
        for process in group.process_configs:
            assert process.stdout_logfile is None
            assert process.stderr_logfile is None
            assert process.stdout_events_enabled
            assert process.stderr_events_enabled


@pytest.mark.parametrize("folder", ["/plain", "/a b", "/it's", "/x ;y", "/x #y", "/100%(here)s", '/"q"\\', "/ü"])
def test_odd_characters_in_paths_and_arguments_arrive(run: RunDirectory, folder: str) -> None:
    read = options(run, Path(folder), ["a"], "-c", folder, "")
    server, kong = (group.process_configs[0] for group in read.process_group_configs)
    server.command = server.command.replace(server.command.split()[0], "/bin/true", 1)
    assert arguments(server)[1:] == [
        "-d", folder, "--plugin", "a", "--kong-prefix", str(run.sockets), "--socket-name", "a.sock"
    ]  # fmt: skip
    assert arguments(kong)[1:] == ["-I", "-m", "kong_pdk.image.starting_kong", "kong", "docker-start", "-c", folder, ""]


def test_a_line_break_in_a_path_is_refused(run: RunDirectory) -> None:
    with pytest.raises(StartError, match="control character"):
        write(run, Path("/a\n[program:x]"), ["a"], ["kong", "docker-start"], 7)
