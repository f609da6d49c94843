"""Runs supervisord inside this process, with the plugin servers, Kong, the metrics program, and the log of them all."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor import events, loggers, rpcinterface, supervisord
from supervisor import process as process_module
from supervisor.loggers import LevelsByName
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from kong_pdk import stop_times
from kong_pdk.exit_status import StartError
from kong_pdk.image import forked_server
from kong_pdk.image.log_relay import Output, Relay
from kong_pdk.image.run_directory import RunDirectory, locate
from kong_pdk.image.supervisord_conf import KONG, METRICS, SERVERS
from kong_pdk.settings import LOG_FORMAT

# By the levels of supervisord its routine looks like trouble; an operator would give these levels.
_BY_TEXT = (
    # Every normal stop of the container has this line.
    (re.compile(r"received SIG(TERM|INT|QUIT) "), "notice"),
    # Our own message says the same.
    (re.compile(r"exited: kong |gave up: "), "debug"),
    (re.compile(r"exited: .*; expected\)"), "notice"),
    # The program was told to stop before it had installed its signal handlers.
    (re.compile(r"stopped: .* \(terminated by SIG(TERM|QUIT)\)"), "notice"),
    # Needs no authentication: only its user can enter the socket's directory.
    (re.compile(r"Server '.*' running without any HTTP authentication"), "debug"),
    (re.compile(r"spawnerr: "), "error"),
)

_BY_LEVEL = {
    LevelsByName.CRIT: "crit",
    LevelsByName.ERRO: "error",
    LevelsByName.WARN: "warn",
    LevelsByName.INFO: "debug",
}


def level_of(text: str, level: int) -> str:
    """Give nginx's name of a message's level.

    :param text: the message of supervisord.
    :param level: supervisord's own level.
    """
    for pattern, better in _BY_TEXT:
        if pattern.match(text):
            return better
    return _BY_LEVEL.get(level, "debug")


_FLUSH_SECONDS = 1.0
_BATCH_SECONDS = 0.005
_STOP_AGAIN_SECONDS = 1.0
_SPAWN_FAILED_STATUS = 71
# The signals that supervisord handles.
_HANDLED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)
_ENDED_BY_STOP = (-signal.SIGQUIT, -signal.SIGTERM)


class SteadyTime:
    """Stands for the module ``time`` in supervisord, whose pauses and limits are made of ``time.time``.

    Its clock is that of the start and goes on with ``time.monotonic``: where the system's clock is set forward while
    the container stops, supervisord would kill Kong at once.
    """

    def __init__(self) -> None:
        self._start = time.time() - time.monotonic()

    def time(self) -> float:
        return self._start + time.monotonic()

    def __getattr__(self, name: str) -> Any:
        """Give everything else of the module."""
        return getattr(time, name)

    def install(self) -> None:
        """Give this to supervisord."""
        for module in (process_module, rpcinterface, supervisord):
            module.time = self


def run(directory: RunDirectory, drain: int, environ: Mapping[str, str]) -> int:
    """Run the programs of ``supervisord.conf`` until Kong ends or the container is stopped.

    :param drain: seconds for Kong's open requests when the container is stopped.
    :return: the exit status of the container: Kong's.
    :raises StartError: supervisord cannot start.
    """
    # supervisord needs a writable temporary directory, although it writes nothing there.
    tempfile.tempdir = str(directory.path)
    out, err = Output(1), Output(2)
    relay = Relay(out, err, least=environ.get("KONG_LOG_LEVEL", "notice"), form=LOG_FORMAT.read(environ))
    SteadyTime().install()
    options = _Options(relay)
    options.realize(["-c", str(directory.supervisord_conf)])
    options.first, options.test = True, False
    programs = [program for group in options.process_group_configs for program in group.process_configs]
    forked_server.prepare(shlex.split(program.command) for program in programs)
    supervision = _Supervision(options, relay, drain)
    wakeup = Wakeup()
    for watched in (out, err, wakeup):
        asyncore.socket_map[watched.fd] = watched
    signal.set_wakeup_fd(wakeup.write_fd, warn_on_full_buffer=False)
    try:
        supervision.main()
    except asyncore.ExitNow:
        pass
    finally:
        signal.set_wakeup_fd(-1)
        for output in (out, err):
            output.flush(_FLUSH_SECONDS)
    return supervision.exit_status


class Wakeup:
    """Ends supervisord's poll at once when a signal arrives: Python repeats an interrupted poll (PEP 475)."""

    def __init__(self) -> None:
        """Open the pipe for ``signal.set_wakeup_fd``."""
        self.fd, self.write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        """Close both ends."""
        os.close(self.fd)
        os.close(self.write_fd)

    def readable(self) -> bool:
        """Always."""
        return True

    def writable(self) -> bool:
        """Never."""
        return False

    def handle_read_event(self) -> None:
        """Discard the numbers of the signals; their handlers have run."""
        with contextlib.suppress(OSError):
            os.read(self.fd, 4096)

    def handle_error(self) -> None:
        """Nothing here raises."""


class _RelayHandler(loggers.Handler):  # type: ignore[misc]
    """Passes supervisord's own messages to the relay."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def emit(self, record: Any) -> None:
        text = record.asdict()["message"]
        self._relay.log(level_of(text, record.level), text)

    def close(self) -> None:
        """Nothing is open."""


class _Options(ServerOptions):  # type: ignore[misc]
    """supervisord's options. Messages go to the relay, and an error does not end the process."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self.on_hangup: Any = None
        self.last_wait_status = 0

    def usage(self, msg: object) -> None:
        raise StartError(f"supervisord cannot start: {msg}", _SPAWN_FAILED_STATUS)

    def set_uid_or_exit(self) -> None:
        """Do not change the user, and do not complain of root: the container's user is the choice of its operator."""

    def make_logger(self) -> None:
        self.logger = loggers.Logger(loggers.LevelsByName.INFO, [_RelayHandler(self._relay)])

    def fork(self) -> int:
        """Fork a child in which signals have their default effect at once.

        Between fork and exec the child would run supervisord's handlers: a SIGTERM would be lost, and Python would
        report that the wakeup descriptor, which supervisord closes in the child, cannot be written to.
        """
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid: int = super().fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number in _HANDLED_SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        return pid

    def execve(self, filename: str, argv: Sequence[str], env: Mapping[str, str]) -> None:
        """Become a program: a plugin server in this fork, where it can be."""
        if forked_server.can_be_forked(argv):
            forked_server.become(argv, env)
        super().execve(filename, argv, env)

    def waitpid(self) -> tuple[int | None, int | None]:
        pid, status = super().waitpid()
        if pid:
            # supervisord keeps no record of the signal that ended a process.
            self.last_wait_status = status
        return pid, status

    def get_signal(self) -> int | None:
        """Take the next signal. SIGHUP reloads Kong here; supervisord would restart everything."""
        number: int | None = super().get_signal()
        if number != signal.SIGHUP:
            return number
        self.on_hangup()
        return None


class _Supervision(Supervisor):  # type: ignore[misc]
    """supervisord with Kong as its main program.

    It ends with Kong, drains Kong before it stops the other programs, and restarts these without limit.
    """

    def __init__(self, options: _Options, relay: Relay, drain: int) -> None:
        super().__init__(options)
        self.exit_status = 0
        self._relay = relay
        self._drain = drain
        self._drain_ends: float | None = None
        self._stop_ends: float | None = None
        """When the container should have ended, by ``time.monotonic``; None before it is told to stop."""
        self._stop_again = 0.0
        self._restart_now = False
        self._output_came = False
        options.on_hangup = self._reload_kong

    def runforever(self) -> None:
        events.subscribe(events.ProcessLogEvent, self._on_output)
        events.subscribe(events.ProcessStateEvent, self._on_state)
        events.subscribe(events.Tick5Event, self._on_tick)
        super().runforever()

    def tick(self, now: float | None = None) -> None:
        """Run the pending tasks. supervisord calls this in each turn of its loop, after handling signals and exits."""
        super().tick(now)
        if self._output_came:
            # A busy Kong writes thousands of lines a second: collect them, so that a turn of the loop handles many.
            self._output_came = False
            time.sleep(_BATCH_SECONDS)
        if self._restart_now:
            # The next turn may be a second away.
            self._restart_now = False
            for group in self._other_groups:
                group.transition()
        if self._drain_ends is not None:
            self._continue_stop(self._drain_ends)

    @property
    def _kong(self) -> Any:
        return self.process_groups[KONG].processes[KONG]

    @property
    def _other_groups(self) -> list[Any]:
        return [group for name, group in self.process_groups.items() if name != KONG]

    def _on_output(self, event: Any) -> None:
        self._output_came = True
        self._relay.feed(event.process.config.name, event.channel, event.data)

    def _on_state(self, event: Any) -> None:
        process = event.process
        if not isinstance(event, (events.ProcessStateStartingEvent, events.ProcessStateRunningEvent)):
            self._relay.end(process.config.name)
        if process.group.config.name == KONG:
            self._on_kong_state(event)
        elif isinstance(event, events.ProcessStateExitedEvent):
            self._restart_now = True
        elif isinstance(event, events.ProcessStateFatalEvent) and not self.stopping:
            name = process.config.name
            is_metrics = process.group.config.name == METRICS
            program = "the metrics program" if is_metrics else f"the plugin server of {name}"
            self._relay.log("error", f"{program} ends again and again right after its start")

    def _on_kong_state(self, event: Any) -> None:
        if isinstance(event, events.ProcessStateStoppingEvent):
            self._drain_ends = self._drain_ends or time.monotonic() + self._drain
            self._stop_ends = self._drain_ends + stop_times.KONG_KILL + stop_times.LEAST_SERVER
            self._stop_again = time.monotonic() + _STOP_AGAIN_SECONDS
        elif isinstance(event, (events.ProcessStateExitedEvent, events.ProcessStateStoppedEvent)):
            self._limit_stop_of_servers()
            self._drain_ends = None
            self._on_kong_end(os.waitstatus_to_exitcode(self.options.last_wait_status))
        elif isinstance(event, events.ProcessStateFatalEvent):
            self.exit_status = _SPAWN_FAILED_STATUS
            self.options.mood = SupervisorStates.SHUTDOWN

    def _on_kong_end(self, code: int) -> None:
        if self.stopping and code in _ENDED_BY_STOP:
            # Kong was told to stop while it was still starting, and had no requests.
            code = 0
        self.exit_status = 128 - code if code < 0 else code
        if self.options.mood > SupervisorStates.SHUTDOWN and self._kong.administrative_stop is False:
            level = "notice" if code == 0 else "error"
            self._relay.log(level, f"Kong ended with status {self.exit_status}, so the container ends")
            self.options.mood = SupervisorStates.SHUTDOWN

    def _on_tick(self, event: Any) -> None:
        """Start programs that supervisord has given up: a plugin server that cannot start now may start later."""
        for process in [process for group in self._other_groups for process in group.processes.values()]:
            if process.get_state() == ProcessStates.FATAL and not self.stopping:
                process.spawn()

    def _continue_stop(self, drain_ends: float) -> None:
        """Tell Kong again to stop; at the end of the drain time, to stop at once.

        A SIGQUIT during the start of Kong may be lost: nginx, and the shell before it, do not handle it yet.
        """
        now = time.monotonic()
        if self._kong.get_state() != ProcessStates.STOPPING:
            return
        if now >= drain_ends:
            self._drain_ends = None
            # nginx's worker also waits up to 10 s for the output of a plugin server that Kong has started.
            why = "requests are open, or it waits for a server that it started"
            self._relay.log("warn", f"Kong still runs after {self._drain} s ({why}), it is told to end at once")
            self._kong.signal(signal.SIGTERM)
        elif now >= self._stop_again:
            self._stop_again = now + _STOP_AGAIN_SECONDS
            self._tell_kong_again()

    def _tell_kong_again(self) -> None:
        if not _ignores_signal(self._kong.pid, signal.SIGQUIT):
            self._kong.signal(signal.SIGQUIT)
            return
        # The process is still the shell of Kong's entrypoint, which ignores SIGQUIT while it waits for `kong prepare`.
        # That is in its process group, and no request is served yet.
        self._relay.log("notice", "Kong was still starting, it is told to end at once")
        with contextlib.suppress(OSError):
            os.killpg(self._kong.pid, signal.SIGTERM)

    def _limit_stop_of_servers(self) -> None:
        """Give the servers the time that Kong did not need to stop: many servers on a busy machine need it.

        Not where Kong alone is restarted by hand.
        """
        group = self.process_groups.get(SERVERS)
        if group is None or self._stop_ends is None or not self.stopping:
            return
        seconds = max(self._stop_ends - time.monotonic(), stop_times.LEAST_SERVER)
        for process in group.processes.values():
            process.config.stopwaitsecs = min(process.config.stopwaitsecs, seconds)

    def _reload_kong(self) -> None:
        if self._kong.get_state() in (ProcessStates.STARTING, ProcessStates.RUNNING):
            self._relay.log("notice", "received SIGHUP, passing it to Kong to reload")
            self._kong.signal(signal.SIGHUP)


def _ignores_signal(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    mask = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (number - 1) & 1)


def control(argv: Sequence[str]) -> int:
    """Run supervisorctl for this container's supervisord. It ends the process with its own exit status."""
    from supervisor import supervisorctl

    arguments = list(argv)
    conf = locate(os.environ).supervisord_conf
    if not arguments[:1] or arguments[0] not in ("-c", "--configuration", "-s", "--serverurl", "-h", "--help"):
        if not conf.exists():
            print(f"kong-python: {conf} does not exist: no supervisord was started here by this user", file=sys.stderr)
            return 1
        arguments = ["-c", str(conf), *arguments]
    supervisorctl.main(arguments)
    return 0
