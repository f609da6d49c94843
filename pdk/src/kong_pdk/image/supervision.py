"""Runs supervisord inside this process: the plugin servers, Kong, metrics, and the log of all of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from supervisor import events, loggers
from supervisor.loggers import LevelsByName
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates
from supervisor.supervisord import Supervisor

from kong_pdk.exit_status import StartError
from kong_pdk.image.log_relay import Output, Relay, Wakeup
from kong_pdk.image.run_directory import RunDirectory, locate
from kong_pdk.image.supervisord_conf import KILL_AFTER_DRAIN_SECONDS, KONG, METRICS, SERVERS
from kong_pdk.settings import LOG_FORMAT

_BY_TEXT = (
    # Each start and stop of the container, and each restart of a server, says these.
    (re.compile(r"received SIG(TERM|INT|QUIT) "), "notice"),
    # Said already, in words of ours.
    (re.compile(r"exited: kong |gave up: "), "debug"),
    (re.compile(r"exited: .*; expected\)"), "notice"),
    # Told to stop before it was far enough to hear it.
    (re.compile(r"stopped: .* \(terminated by SIG(TERM|QUIT)\)"), "notice"),
    # The socket lies in a directory that only its user can enter.
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
    """Give the level, by nginx's name.

    :param level: supervisord's own.
    """
    for pattern, better in _BY_TEXT:
        if pattern.match(text):
            return better
    return _BY_LEVEL.get(level, "debug")


_FLUSH_SECONDS = 1.0
_BATCH_SECONDS = 0.005
_STOP_AGAIN_SECONDS = 1.0
_SPAWN_FAILED_STATUS = 71
# What supervisord has a handler for.
_HANDLED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)
_ENDED_BY_STOP = (-signal.SIGQUIT, -signal.SIGTERM)


def run(directory: RunDirectory, drain: int, environ: Mapping[str, str]) -> int:
    """Run what ``supervisord.conf`` says until Kong ends or the container is stopped.

    :param drain: seconds that Kong gets for open requests when it is told to stop.
    :return: the exit status of the container: Kong's.
    :raises StartError: supervisord cannot start.
    """
    # supervisord wants a temporary directory even where it writes nothing to it.
    tempfile.tempdir = str(directory.path)
    out, err = Output(1), Output(2)
    relay = Relay(out, err, least=environ.get("KONG_LOG_LEVEL", "notice"), form=LOG_FORMAT.read(environ))
    options = _Options(relay)
    options.realize(["-c", str(directory.supervisord_conf)])
    options.first, options.test = True, False
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


class _RelayHandler(loggers.Handler):  # type: ignore[misc]
    """Says what supervisord has to say in the form of all other lines."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay

    def emit(self, record: Any) -> None:
        text = record.asdict()["message"]
        self._relay.say(level_of(text, record.level), text)

    def close(self) -> None:
        """Nothing is open."""


class _Options(ServerOptions):  # type: ignore[misc]
    """supervisord's options, with what it has to say going to the relay and no end of the process in the middle."""

    def __init__(self, relay: Relay) -> None:
        super().__init__()
        self._relay = relay
        self.on_hangup: Any = None
        self.last_wait_status = 0

    def usage(self, msg: object) -> None:
        raise StartError(f"supervisord cannot start: {msg}", _SPAWN_FAILED_STATUS)

    def set_uid_or_exit(self) -> None:
        """Stay the user that the container was started as, root included."""

    def make_logger(self) -> None:
        self.logger = loggers.Logger(loggers.LevelsByName.INFO, [_RelayHandler(self._relay)])

    def fork(self) -> int:
        """Fork a child in which signals have their default effect at once.

        Between fork and exec the child would run supervisord's handlers: a signal to end would be lost, and Python
        would complain that the descriptor to wake supervisord with is closed there.
        """
        signals = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            pid: int = super().fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for number in _HANDLED:
                    signal.signal(number, signal.SIG_DFL)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, signals)
        return pid

    def waitpid(self) -> tuple[int | None, int | None]:
        pid, status = super().waitpid()
        if pid:
            # supervisord itself forgets by which signal a process ended.
            self.last_wait_status = status
        return pid, status

    def get_signal(self) -> int | None:
        """Take the next signal; SIGHUP means to supervisord to restart everything, to us to reload Kong."""
        number: int | None = super().get_signal()
        if number != signal.SIGHUP:
            return number
        self.on_hangup()
        return None


class _Supervision(Supervisor):  # type: ignore[misc]
    """supervisord, tied to Kong: ends with it, drains it first, and never gives up what runs beside it."""

    def __init__(self, options: _Options, relay: Relay, drain: int) -> None:
        super().__init__(options)
        self.exit_status = 0
        self._relay = relay
        self._drain = drain
        self._drain_ends: float | None = None
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
        """Do what is due; called in every turn of the loop, after signals and ends of processes."""
        super().tick(now)
        if self._output_came:
            # A busy Kong writes thousands of lines a second: let them come in batches, not each in a turn of its own.
            self._output_came = False
            time.sleep(_BATCH_SECONDS)
        if self._restart_now:
            # Not in the next turn, which may be a second away.
            self._restart_now = False
            for group in self._beside_kong:
                group.transition()
        if self._drain_ends is not None:
            self._go_on_stopping(self._drain_ends)

    @property
    def _kong(self) -> Any:
        return self.process_groups[KONG].processes[KONG]

    @property
    def _beside_kong(self) -> list[Any]:
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
            what = "what serves the metrics" if process.group.config.name == METRICS else f"the plugin server of {name}"
            self._relay.say("error", f"{what} ends again and again right after its start")

    def _on_kong_state(self, event: Any) -> None:
        if isinstance(event, events.ProcessStateStoppingEvent):
            self._drain_ends = self._drain_ends or time.monotonic() + self._drain
            self._stop_again = time.monotonic() + _STOP_AGAIN_SECONDS
        elif isinstance(event, (events.ProcessStateExitedEvent, events.ProcessStateStoppedEvent)):
            self._give_servers_the_rest()
            self._drain_ends = None
            self._on_kong_end(os.waitstatus_to_exitcode(self.options.last_wait_status))
        elif isinstance(event, events.ProcessStateFatalEvent):
            self.exit_status = _SPAWN_FAILED_STATUS
            self.options.mood = SupervisorStates.SHUTDOWN

    def _on_kong_end(self, code: int) -> None:
        if self.stopping and code in _ENDED_BY_STOP:
            # It was told to stop before it was far enough to do so in good order: nothing is lost.
            code = 0
        self.exit_status = 128 - code if code < 0 else code
        if self.options.mood > SupervisorStates.SHUTDOWN and self._kong.administrative_stop is False:
            level = "notice" if code == 0 else "error"
            self._relay.say(level, f"Kong ended with status {self.exit_status}, so the container ends")
            self.options.mood = SupervisorStates.SHUTDOWN

    def _on_tick(self, event: Any) -> None:
        """Try again what supervisord gave up: a plugin server that cannot start now may start later."""
        for process in [process for group in self._beside_kong for process in group.processes.values()]:
            if process.get_state() == ProcessStates.FATAL and not self.stopping:
                process.spawn()

    def _go_on_stopping(self, drain_ends: float) -> None:
        """Tell Kong again to stop, and at the end of its drain to do so at once.

        A first SIGQUIT that comes while Kong starts may be lost: nginx, and the shell before it, take it only later.
        """
        now = time.monotonic()
        if self._kong.get_state() != ProcessStates.STOPPING:
            return
        if now >= drain_ends:
            self._drain_ends = None
            # It is not always requests: nginx's worker waits up to 10 s for the output of a server that Kong started.
            why = "requests are open, or it waits for a server that it started"
            self._relay.say("warn", f"Kong still runs after {self._drain} s ({why}), it is told to end at once")
            self._kong.signal(signal.SIGTERM)
        elif now >= self._stop_again:
            self._stop_again = now + _STOP_AGAIN_SECONDS
            self._tell_kong_again()

    def _tell_kong_again(self) -> None:
        if not _ignores(self._kong.pid, signal.SIGQUIT):
            self._kong.signal(signal.SIGQUIT)
            return
        # This is still the shell of Kong's entrypoint: it ignores the signal for the seconds that it takes to prepare
        # Kong, and nothing is served yet. What it waits for, `kong prepare`, is in its group.
        self._relay.say("notice", "Kong was still starting, it is told to end at once")
        with contextlib.suppress(OSError):
            os.killpg(self._kong.pid, signal.SIGTERM)

    def _give_servers_the_rest(self) -> None:
        """Let the servers have what Kong left of the time to stop: many of them on a busy machine need it."""
        group = self.process_groups.get(SERVERS)
        if group is None or self._drain_ends is None:
            return
        rest = self._drain_ends + KILL_AFTER_DRAIN_SECONDS - time.monotonic()
        for process in group.processes.values():
            process.config.stopwaitsecs = max(process.config.stopwaitsecs, rest)

    def _reload_kong(self) -> None:
        if self._kong.get_state() in (ProcessStates.STARTING, ProcessStates.RUNNING):
            self._relay.say("notice", "received SIGHUP, passing it to Kong to reload")
            self._kong.signal(signal.SIGHUP)


def _ignores(pid: int, number: signal.Signals) -> bool:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    ignored = re.search(r"^SigIgn:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return ignored is not None and bool(int(ignored[1], 16) >> (number - 1) & 1)


def control(argv: Sequence[str]) -> int:
    """Run supervisorctl on this container's supervisord; it ends the process with its own exit status."""
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
