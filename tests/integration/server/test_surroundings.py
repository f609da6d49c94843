"""What may happen around a server: its socket's path is removed, the clock jumps, its master is killed."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from fake_kong import Closed, RpcError
from programs import PLUGINSERVER
from server_process import MODES, OTHER_PAIR, PAIR, Connect, Serve, Start
from waiting import wait_for

PLUGIN = """
import time

lua_style = False

class Plugin:
    def __init__(self, config):
        self.status = config["status"]

    def access(self, kong):
        if kong.request.get_header("x-slow"):
            time.sleep(0.5)
        if kong.request.get_header("x-late"):
            while True:
                time.sleep(0.01)
        return kong.response.exit(self.status)
"""

LOOKS_SOONER = """
from kong_pdk.server.workers import master
master.LOOK_AROUND_SECONDS = 0.1
"""

# Each look at the clock shows another day, before and after the real one.
JUMPS = """
import itertools
import time

real, looks = time.time, itertools.count(1)
time.time = lambda: real() + 86400 * (-1) ** (look := next(looks)) * look
time.time_ns = lambda: int(time.time() * 1e9)
"""


def header(name: str) -> dict[str, object]:
    return {"kong.request.get_header": lambda asked, *_: "yes" if asked == name else None}


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_a_removed_socket_is_made_again(serve: Serve, connect: Connect) -> None:
    """What is under way goes on; Kong finds the server again, and the instances that it knows are there."""
    served = serve(PLUGIN, before=LOOKS_SOONER)
    kong = connect(served)
    instance = kong.start("probe", {"status": 403})
    removed: list[bool] = []

    def remove(name: str, *_: object) -> str | None:
        if not removed:
            served.socket.unlink()
            removed.append(wait_for(served.socket.exists, served.said))
        return "yes" if name == "x-slow" else None

    assert not kong.event(instance, "access", {"kong.request.get_header": remove})
    assert kong.status() == 403

    for _ in range(2):
        other = connect(served)
        assert not other.event(instance, "access")
        assert other.status() == 403
    assert f"{served.socket} was removed: the server listens there again" in served.said()
    assert served.stop() == 0
    assert not served.socket.exists()


@pytest.mark.parametrize(("mode", "protocol"), OTHER_PAIR.items())
def test_a_clock_that_jumps_changes_no_deadline(serve: Serve, connect: Connect) -> None:
    """No event ends early, and one that exceeds its timeout ends."""
    served = serve(PLUGIN, before=JUMPS, KONG_PYTHON_TIMEOUT="2")
    kong, other = connect(served), connect(served)
    instance = kong.start("probe", {"status": 403})
    for name in ("none", "x-slow"):
        assert not kong.event(instance, "access", header(name))
        assert kong.status() == 403
        kong = connect(served)
    assert not kong.event(instance, "access", header("x-late"))
    assert kong.status() == 500
    assert not other.event(instance, "access")
    assert other.status() == 403
    assert "the event is ended" in served.said()
    assert "is killed" not in served.said()
    assert served.stop() == 0


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_instances_have_the_same_ids_after_the_end_of_a_master(
    start: Start, connect: Connect, mode: str, tmp_path: Path
) -> None:
    """Kong starts an instance that a new master does not know, without a new configuration."""
    plugins = tmp_path / "plugins"
    plugins.mkdir()
    (plugins / "probe.py").write_text(PLUGIN)
    command = (PLUGINSERVER, "-d", plugins, "--plugin", "probe", *MODES[mode])
    served = start(*command)
    kong = connect(served)
    ids = [kong.start("probe", {"status": status}) for status in (401, 403)]
    served.process.send_signal(signal.SIGKILL)
    assert kong.socket.recv(1) == b""  # the worker has ended with its master
    served.socket.unlink()

    again = connect(start(*command))
    with pytest.raises((Closed, RpcError)) as refused:
        again.event(ids[0], "access")
    assert refused.type is Closed or "no plugin instance" in str(refused.value)
    again = connect(served)
    assert [again.start("probe", {"status": status}) for status in (401, 403)] == ids
    assert not again.event(ids[1], "access")
    assert again.status() == 403
