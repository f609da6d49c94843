"""Writes the configuration of supervisord: the plugin servers as one group, Kong, and the metrics program."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from kong_pdk import stop_times
from kong_pdk.exit_status import StartError
from kong_pdk.image.run_directory import RunDirectory

KONG = "kong"
SERVERS = "plugins"
METRICS = "metrics"
SERVER_PROGRAM = "kong-python-pluginserver"

# supervisord stops groups one after another, highest priority first, and waits for each. So the plugin servers still
# answer while Kong drains.
_KONG_PRIORITY = 900
_SERVERS_PRIORITY = 100
_METRICS_PRIORITY = 50

_PROGRAM = """
[program:{section}]
process_name={name}
command={command}
{settings}
killasgroup=true
stdout_logfile=NONE
stdout_events_enabled=true
stderr_logfile=NONE
stderr_events_enabled=true
"""

_HEAD = """; Written at each start of the container.
[supervisord]
nodaemon=true
logfile=/dev/null
logfile_maxbytes=0
pidfile={pid_file}
childlogdir={run}
nocleanup=true
minfds={minfds}
minprocs=1

[unix_http_server]
file={socket}
chmod=0600

[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface

[supervisorctl]
serverurl=unix://{socket}
"""


def write(  # noqa: PLR0913
    run: RunDirectory,
    folder: Path,
    servers: Sequence[str],
    command: Sequence[str],
    drain: int,
    *,
    server_options: Mapping[str, Sequence[str]] | None = None,
    metrics: bool = False,
) -> str:
    """Give the text of the file.

    :param folder: the folder of the plugins.
    :param servers: the plugins that get a server.
    :param command: the container's command, such as ``kong docker-start``.
    :param drain: seconds for Kong's open requests at the end.
    :param server_options: further options of servers, by plugin.
    :param metrics: whether there is a metrics program.
    :raises StartError: a path has a control character.
    """
    # Four descriptors for each program, and some for the sockets of supervisorctl.
    parts = [
        _HEAD.format(
            run=_escaped(str(run.path)),
            pid_file=_escaped(str(run.pid_file)),
            socket=_escaped(str(run.supervisor_socket)),
            minfds=64 + 4 * (len(servers) + 2),
        )
    ]
    parts += [_server(run, folder, name, (server_options or {}).get(name, ())) for name in servers]
    if servers:
        programs = ",".join(_section(name) for name in servers)
        parts.append(f"\n[group:{SERVERS}]\nprograms={programs}\npriority={_SERVERS_PRIORITY}\n")
    parts.append(_kong(command, drain))
    if metrics:
        parts.append(_metrics())
    return "".join(parts)


def _section(name: str) -> str:
    # Not the bare name: a plugin may be called kong.
    return f"server-of-{name}"


def _server(run: RunDirectory, folder: Path, name: str, options: Sequence[str]) -> str:
    command = [str(Path(sys.executable).with_name(SERVER_PROGRAM)), "-d", str(folder), "--plugin", name]
    command += ["--kong-prefix", str(run.sockets), "--socket-name", run.socket(name).name, *options]
    seconds = math.ceil(stop_times.SERVER)
    return _program(_section(name), name, command, priority=_SERVERS_PRIORITY, autorestart="true", stopwaitsecs=seconds)


def _kong(command: Sequence[str], drain: int) -> str:
    return _program(
        KONG,
        KONG,
        [sys.executable, "-I", "-m", "kong_pdk.image.starting_kong", *command],
        priority=_KONG_PRIORITY,
        autorestart="false",
        # Without these two, supervisord would start a Kong again that ends within a second.
        startsecs=0,
        startretries=0,
        stopsignal="QUIT",
        stopwaitsecs=math.ceil(drain + stop_times.KONG_KILL),
    )


def _metrics() -> str:
    command = [sys.executable, "-I", "-m", "kong_pdk.image.metrics_program"]
    return _program(METRICS, METRICS, command, priority=_METRICS_PRIORITY, autorestart="true", stopwaitsecs=1)


def _program(section: str, name: str, command: Sequence[str], **settings: int | str) -> str:
    """Give the section of a program.

    :param settings: those of supervisord that differ from its defaults.
    """
    lines = "\n".join(f"{setting}={value}" for setting, value in settings.items())
    return _PROGRAM.format(section=section, name=name, command=_command_line(command), settings=lines)


def _command_line(words: Sequence[str]) -> str:
    return " ".join(_quoted(word) for word in words)


def _quoted(word: str) -> str:
    """Quote each special character by itself: supervisord starts a comment at `` #`` and `` ;`` even within quotes."""
    special = re.compile(r"[^\w@+=:,./-]", re.ASCII)
    return _escaped(special.sub(lambda match: '"\'"' if match[0] == "'" else f"'{match[0]}'", word) or "''")


def _escaped(value: str) -> str:
    if re.search(r"[\x00-\x1f\x7f]", value):
        raise StartError(f"{value!r}: a control character in a path or an argument; rename it")
    return value.replace("%", "%%")
