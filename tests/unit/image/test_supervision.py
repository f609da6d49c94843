"""supervisord: its signals when it forks and while it waits, its clock, and the time that it gives to servers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from kong_pdk.image import supervision
from kong_pdk.image.supervision import SteadyTime, Wakeup
from supervisor import process, rpcinterface, supervisord

# A process like supervisord: its handlers and its wakeup descriptor are set when it forks.
_FORKS = """
import os, signal, sys
from kong_pdk.image.log_relay import Output, Relay
from kong_pdk.image.supervision import _Options

options = _Options(Relay(Output(1), Output(2)))
read, write = os.pipe()
os.set_blocking(write, False)
signal.set_wakeup_fd(write)
options.setsignals()
number = int(sys.argv[1])
pid = options.fork()
if pid == 0:
    # What supervisord does between fork and exec.
    os.close(write)
    os.kill(os.getpid(), number)
    os.execv("/bin/true", ["true"])
_, status = os.waitpid(pid, 0)
os.kill(os.getpid(), number)
print(os.waitstatus_to_exitcode(status), *iter(options.signal_receiver.get_signal, None))
"""


def _fork_and_signal(number: signal.Signals) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _FORKS, str(int(number))]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=os.sep)


def test_a_signal_between_fork_and_exec_ends_the_child_in_silence() -> None:
    done = _fork_and_signal(signal.SIGTERM)
    assert (done.stdout.split()[0], done.stderr) == (str(-signal.SIGTERM), "")


def test_supervisord_itself_still_gets_its_signals() -> None:
    assert _fork_and_signal(signal.SIGTERM).stdout.split()[-1] == str(int(signal.SIGTERM))


def test_the_clock_of_supervisord_does_not_jump(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (process, rpcinterface, supervisord):
        monkeypatch.setattr(module, "time", time)
    real = time.time
    SteadyTime().install()
    monkeypatch.setattr(time, "time", lambda: real() + 86400)
    for module in (process, rpcinterface, supervisord):
        assert abs(module.time.time() - real()) < 3600
        assert module.time.strftime is time.strftime


def test_a_wakeup_is_readable_until_it_is_read() -> None:
    wakeup = Wakeup()
    try:
        wakeup.handle_read_event()
        os.write(wakeup.write_fd, b"\0\0")
        wakeup.handle_read_event()
        with pytest.raises(BlockingIOError):
            os.read(wakeup.fd, 1)
    finally:
        wakeup.close()


@pytest.mark.parametrize(("stopping", "seconds"), [(False, 7), (True, 2)])
def test_the_time_of_the_servers_is_less_only_where_the_container_stops(stopping: bool, seconds: float) -> None:
    """`supervisorctl restart kong` may take as long as a stop; the servers run on."""
    server = SimpleNamespace(config=SimpleNamespace(stopwaitsecs=7))
    told = supervision._Supervision.__new__(supervision._Supervision)
    told.process_groups = {supervision.SERVERS: SimpleNamespace(processes={"a": server})}
    told._stop_ends = time.monotonic() - 60
    told.stopping = stopping
    told._limit_stop_of_servers()
    assert server.config.stopwaitsecs == seconds
