"""A worker that ends in the middle of its work: Kong gets an answer in good order, and the others notice nothing."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_kong import Closed, FakeKong, MsgpackKong, RpcError
from kong_pdk.wire.wire_errors import WireError
from server_process import PAIR, Connect, Serve, Served
from waiting import DEADLINE, wait_for

PLUGIN = """
import os
import signal

lua_style = False

def end(how):
    if how == "exit":
        os._exit(3)
    if how == "abort":
        os.abort()
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)

class Plugin:
    def __init__(self, config):
        end(config.get("ends"))

    def access(self, kong):
        end(kong.request.get_header("x-end"))
        return kong.response.exit(403, {"message": "no"})

    def rewrite(self, kong):
        for number in range(3):
            kong.response.set_header("x-number", str(number))
        end("exit")

    def certificate(self, kong):
        kong.log.info("sent at once")
        end("exit")

    def preread(self, kong):
        end("exit")

    def log(self, kong):
        if kong.request.get_header("x-end"):
            end("exit")
"""

# A master that waits for a shorter time before it answers in the place of its workers.
STANDS_IN_SOONER = """
from kong_pdk.server.workers import master
master.STAND_IN_SECONDS = 0.2
"""


def ends(how: str) -> dict[str, Any]:
    return {"kong.request.get_header": how}


def last_call(kong: FakeKong) -> tuple[str, int]:
    """The name of the last PDK call, and the status that it gave to the client."""
    name, args = kong.made[-1]
    return name.rpartition(".")[2], args[0]


def fails(kong: FakeKong, instance: int, phase: str, how: str = "") -> bool:
    """Whether an event of a worker that ends gets status 500."""
    return not kong.event(instance, phase, ends(how)) and last_call(kong)[1] == 500


def is_denied(kong: FakeKong, instance: int) -> bool:
    return not kong.event(instance, "access") and last_call(kong) == ("exit", 403)


@pytest.mark.parametrize("how", ["exit", "abort", "kill"])
def test_a_request_that_ends_its_worker_gets_500_and_no_other_one_notices(
    serve: Serve, connect: Connect, how: str
) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {})
    others = [connect(served) for _ in range(8)]
    for other in others:
        assert other.event(instance, "log")

    assert fails(kong, instance, "access", how)

    for other in others:
        assert other.event(instance, "log")
        assert is_denied(other, instance)
    assert "1 event was under way there (access)" in served.wait_for_log("was under way")


@pytest.mark.parametrize("phase", ["rewrite", "certificate", "preread"])
def test_calls_without_a_result_before_the_end_change_nothing(serve: Serve, connect: Connect, phase: str) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    assert fails(kong, kong.start("probe", {}), phase)


def test_an_event_in_log_ends_in_good_order(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    kong, other = connect(served), connect(served)
    instance = kong.start("probe", {})
    assert kong.event(instance, "log", ends("exit"))
    assert other.event(instance, "log")


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_requests_that_end_workers_again_and_again_keep_no_others_waiting(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    instance = connect(served).start("probe", {})
    for _ in range(5):
        assert fails(connect(served), instance, "access", "exit")
        assert is_denied(connect(served), instance)
    assert "answered with status 500" not in served.said()  # the master stood in for nobody


def test_an_instance_whose_init_ends_the_worker_is_refused(serve: Serve, connect: Connect) -> None:
    served = serve(PLUGIN)
    kong = connect(served)
    with pytest.raises((Closed, RpcError)):
        kong.start("probe", {"ends": "exit"})
    other = connect(served)
    assert is_denied(other, other.start("probe", {}))


def test_a_step_for_a_worker_that_has_ended_fails(serve: Serve, connect: Connect) -> None:
    """The handler waits for Kong at that moment, so that nothing on the connection waits for an answer."""
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {})

    def kill(_: str) -> None:
        pids = served.pids()  # each worker answers, and so has noted that Kong has the call
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not pids & served.pids(), served.said)

    assert not kong.event(instance, "access", {"kong.request.get_header": kill})
    assert last_call(kong)[1] == 500


class Client(threading.Thread):
    """Sends requests as fast as they are answered, until it is told to stop."""

    def __init__(self, served: Served, kind: type[FakeKong], instance: int) -> None:
        super().__init__(daemon=True)
        self._served, self._kind, self._instance = served, kind, instance
        self.stopped = False
        self.statuses: list[object] = []

    def run(self) -> None:
        kong = self._kind(self._served.socket)
        while not self.stopped:
            if select.select([kong.socket], [], [], 0)[0]:  # Kong's pool closes an idle connection that can be read
                kong.close()
                kong = self._kind(self._served.socket)
            try:
                passed = kong.event(self._instance, "access")
                self.statuses.append("passed" if passed else last_call(kong)[1])
            except (Closed, ConnectionError, RpcError, WireError) as error:  # Kong repeats the event over ProtoBuf:1
                what = type(error).__name__ if self._kind is MsgpackKong else "repeated"
                # An answer that the master repeats, in the moment of the next request: Kong expects another one.
                self.statuses.append(500 if isinstance(error, WireError) else what)
                kong.close()
                kong = self._kind(self._served.socket)
                continue
            if self._kind is not MsgpackKong:  # Kong closes it after an exit
                kong.close()
                kong = self._kind(self._served.socket)
        kong.close()


def test_workers_killed_under_load_let_nothing_pass(serve: Serve, connect: Connect, protocol: type[FakeKong]) -> None:
    served = serve(PLUGIN)
    instance = connect(served).start("probe", {})
    clients = [Client(served, protocol, instance) for _ in range(4)]
    for client in clients:
        client.start()
    for _ in range(4):
        before = [len(client.statuses) for client in clients]
        for pid in served.pids():
            os.kill(pid, signal.SIGKILL)
        wait_for(
            lambda before=before: all(
                len(client.statuses) > count + 20 for client, count in zip(clients, before, strict=True)
            ),
            served.said,
        )
    for client in clients:
        client.stopped = True
        client.join(DEADLINE)
    statuses = [status for client in clients for status in client.statuses]
    assert set(statuses) <= {403, 500, "repeated"}, served.said()
    assert len(statuses) - statuses.count(403) <= 4 * len(clients) * served.workers


@pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
def test_the_master_answers_while_no_worker_comes_up(serve: Serve, connect: Connect, tmp_path: Path) -> None:
    served = serve(PLUGIN, before=STANDS_IN_SOONER)
    idle, kong = connect(served), connect(served)
    instance = kong.start("probe", {})
    assert idle.event(instance, "log")
    pids = served.pids()
    file = tmp_path / "plugins/probe.py"
    file.write_text("import os\nos._exit(5)\n")

    assert fails(kong, instance, "access", "exit")
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    served.wait_for_log("no worker has served for 0.2 s")
    for _ in range(2):  # in good order, so that Kong uses the connection again
        assert idle.event(instance, "log")
    assert fails(connect(served), instance, "access")
    assert fails(connect(served), instance, "preread")
    with pytest.raises((Closed, RpcError)):
        connect(served).start("probe", {"other": 1})

    file.write_text(PLUGIN)
    served.wait_for_log("a worker serves again")
    assert idle.event(instance, "log")
    assert is_denied(connect(served), instance)


def test_no_worker_outlives_its_master(serve: Serve) -> None:
    served = serve(PLUGIN)
    pids = served.pids()
    served.process.kill()
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), served.said)
