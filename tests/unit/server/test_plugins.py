"""What plugins do to the process that serves them: it goes on, stays reachable, and ends when told to."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from unit.server.fake_kong import DEADLINE, Closed, FakeKong, MsgpackKong, ProtobufKong


class Served:
    """A plugin server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], socket: Path, log: Path) -> None:
        self.process = process
        self.socket = socket
        self.log = log

    def wait_for_log(self, text: str) -> str:
        deadline = time.monotonic() + DEADLINE
        while text not in (said := self.log.read_text("utf-8")):
            assert time.monotonic() < deadline, said
            time.sleep(0.01)
        return said

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(DEADLINE)


Serve = Callable[..., Served]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Serve a plugin, given as the text of its file."""
    running: list[Served] = []

    def start(text: str, **environment: str) -> Served:
        folder = tmp_path / "plugins"
        folder.mkdir()
        (folder / "probe.py").write_text(text)
        command = [sys.executable, "-m", "kong_pdk.server", "-d", str(folder), "-p", str(tmp_path)]
        log = tmp_path / "log"
        with log.open("w") as output:
            process = subprocess.Popen(
                [*command, "--plugin", "probe", "--socket-name", "s"],
                stdout=output, stderr=output, env=environment, start_new_session=True,
            )  # fmt: skip
        served = Served(process, tmp_path / "s", log)
        running.append(served)
        deadline = time.monotonic() + DEADLINE
        while not served.socket.exists():
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.01)
        return served

    yield start
    for served in running:
        with contextlib.suppress(ProcessLookupError):  # with the processes that its plugin left
            os.killpg(served.process.pid, signal.SIGKILL)
        served.process.wait()


@pytest.fixture(params=[ProtobufKong, MsgpackKong], ids=lambda kind: kind.name)
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[[Served], FakeKong]]:
    """Connect to a server, over one protocol and the other."""
    opened: list[FakeKong] = []

    def open(served: Served) -> FakeKong:
        kong: FakeKong = request.param(served.socket)
        opened.append(kong)
        return kong

    yield open
    for kong in opened:
        kong.close()


FORKS = """
import multiprocessing
import time

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
        process.terminate()
        process.join()
        kong.response.set_header("x-child", str(process.exitcode))
"""


def test_a_process_that_a_plugin_forks_can_be_stopped_alone(serve, connect):
    served = serve(FORKS)
    kong = connect(served)
    instance = kong.start("probe")
    for _ in range(2):
        assert kong.event(instance, "access")
        assert kong.made[-1] == ("kong.response.set_header", ["x-child", "-15"])
    served.stop()


KEEPS_A_CHILD = """
import multiprocessing
import time

class Plugin:
    def __init__(self, config):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
        raise ValueError("no")

    def access(self, kong):
        pass
"""


def test_a_process_that_a_plugin_forks_holds_no_connection_of_kong(serve):
    kong = ProtobufKong(serve(KEEPS_A_CHILD).socket)
    with pytest.raises(Closed):  # a copy in the child would keep it open
        kong.start("probe")
    kong.close()


LEAVES_A_THREAD = """
import threading
import time

def forever():
    while True:
        time.sleep(1)

threading.Thread(target=forever).start()

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""


def test_a_thread_that_never_ends_does_not_keep_the_server(serve):
    assert serve(LEAVES_A_THREAD).stop() == 0


DISABLES_LOGGERS = """
import logging.config

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        raise ValueError("broken on purpose")

logging.config.dictConfig({"version": 1, "root": {"handlers": ["h"]}, "handlers": {"h": {"class": "%s"}}})
"""


@pytest.mark.parametrize("handler", ["logging.NullHandler", "logging.StreamHandler"])
def test_a_plugin_that_configures_logging_hides_no_errors(serve, connect, handler):
    served = serve(DISABLES_LOGGERS % handler)
    kong = connect(served)
    assert not kong.event(kong.start("probe"), "access", {})
    said = served.wait_for_log("[error] probe: the access handler raised ValueError: broken on purpose")
    assert said.count("the access handler raised") == 1


PRINTS = """
class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        print("the header is", kong.request.get_header("x"))
        print("it is", kong.request.get_header("x")[0])
"""


def test_a_plugin_may_print_what_a_client_sends(serve, connect):
    served = serve(PRINTS, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii:strict")
    kong = connect(served)
    instance = kong.start("probe")
    assert kong.event(instance, "access", {"kong.request.get_header": b"caf\xe9".decode("utf-8", "surrogateescape")})
    assert kong.event(instance, "access", {"kong.request.get_header": "\u20ac"})
    served.wait_for_log(r"it is caf\udce9")  # at once, not when the buffer is full
    served.wait_for_log(r"it is \u20ac")
