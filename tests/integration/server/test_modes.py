"""Threads or greenlets, one process or several: Kong sees no difference."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_kong import Closed, MsgpackKong, ProtobufKong, RpcError
from process_states import is_alive, pause
from server_process import ONE, OTHER_PAIR, PAIR, SEVERAL
from waiting import DEADLINE, wait_for

PLUGIN = """
import os
import subprocess
import threading
import time

inside = 0

class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        host, err = kong.request.get_header("host")
        kong.response.set_header("x-hello", f"{self.config.get('message')} {host}")

    def rewrite(self, kong):
        raise ValueError("broken on purpose")

    def response(self, kong):
        global inside
        inside += 1
        deadline = time.monotonic() + 20
        while inside < int(self.config["together"]) and time.monotonic() < deadline:
            time.sleep(0.01)
        kong.response.set_header("x-inside", str(inside))

    def log(self, kong):
        kong.log.info(subprocess.run(["/bin/echo", "child"], capture_output=True, text=True).stdout)

    def certificate(self, kong):
        kong.log.info("begun")
        while True:
            time.sleep(0.01)
            if os.path.exists(self.config["until"]):
                break
        kong.log.info("done")
"""

# Runs in each worker: at the end it waits for its handlers only for half a second.
DRAINS_BRIEFLY = """
import kong_pdk.stop_times
kong_pdk.stop_times.EVENTS = 0.5
"""

# Over MsgPack:1 an error of the server would let the request pass.
FAILS_CLOSED = {"Method": "kong.response.error", "Args": [500]}


one_worker = pytest.mark.parametrize("mode", ONE)
several_workers = pytest.mark.parametrize("mode", SEVERAL)
mode_of_pair = pytest.mark.parametrize("mode", PAIR)
mode_of_other_pair = pytest.mark.parametrize("mode", OTHER_PAIR)
pair = pytest.mark.parametrize(("mode", "protocol"), PAIR.items())
other_pair = pytest.mark.parametrize(("mode", "protocol"), OTHER_PAIR.items())


def test_handlers_make_calls_and_fail_closed(serve, connect):
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {"message": "hello"})
    assert kong.event(instance, "access", {"kong.request.get_header": "example.test"})
    assert kong.made[-1] == ("kong.response.set_header", ["x-hello", "hello example.test"])
    assert not kong.event(instance, "rewrite", {})
    assert kong.made[-1][0] in ("kong.response.exit", "kong.response.error")
    assert "probe.py:18" in served.wait_for_log("ValueError: broken on purpose")
    again = connect(served)
    assert again.event(instance, "log")
    assert again.made == [("kong.log.info", ["child\n"])]
    assert served.stop() == 0
    assert not served.socket.exists()


@one_worker
def test_handlers_that_sleep_let_others_run(serve, connect):
    served = serve(PLUGIN)
    kongs = [connect(served) for _ in range(16)]
    instance = kongs[0].start("probe", {"together": len(kongs)})
    with ThreadPoolExecutor(len(kongs)) as threads:
        assert all(threads.map(lambda kong: kong.event(instance, "response"), kongs))
    assert [kong.made[0][1] for kong in kongs] == [["x-inside", str(len(kongs))]] * len(kongs)


@several_workers
def test_an_instance_is_known_to_every_worker_and_its_id_everywhere_the_same(serve, connect):
    served = serve(PLUGIN)
    instance = connect(served).start("probe", {"message": "m"})
    pids = served.pids()
    for pid in pids:
        assert served.connect_to(pid).start("probe", {"message": "m"}) == instance
    for _ in range(16):  # on any worker
        assert connect(served).event(instance, "access", {"kong.request.get_header": "h"})


@several_workers
def test_an_instance_that_one_worker_makes_and_another_one_is_asked_for(serve):
    served = serve(PLUGIN)
    first, second = (served.connect_to(pid) for pid in served.pids())
    instance = first.start("probe", {"message": "of the first"})
    assert second.event(instance, "access", {"kong.request.get_header": "h"})
    assert second.made[-1] == ("kong.response.set_header", ["x-hello", "of the first h"])
    first.close_instance(instance)

    def is_gone() -> bool:  # the message goes through the master
        try:
            second.event(instance, "access", {"kong.request.get_header": "h"})
        except RpcError as error:
            return "no plugin instance" in str(error)
        return False

    wait_for(is_gone)


@other_pair
def test_an_instance_is_known_to_a_worker_that_is_started_later(serve, connect):
    served = serve(PLUGIN)
    instance = connect(served).start("probe", {"message": "m"})
    old = served.pids()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not served.pids() & old, served.said)
    for _ in range(4):
        assert connect(served).event(instance, "access", {"kong.request.get_header": "h"})
    assert served.stop() == 0


@several_workers
def test_steps_of_an_event_that_another_worker_has(serve):
    served = serve(PLUGIN)
    first, second = (served.connect_to(pid) for pid in served.pids())
    instance = first.start("probe", {"message": "m"})
    for one, other in ((first, second), (second, first), (first, second)):
        output = one.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": "access"})
        assert output["Data"]["Method"] == "kong.request.get_header"
        output = other.ask("plugin.Step", {"EventId": output["EventId"], "Data": "of another worker"})
        assert output["Data"]["Args"] == ["x-hello", "m of another worker"]
        assert other.ask("plugin.Step", {"EventId": output["EventId"]})["Data"] == "ret"
        assert other.ask("plugin.Step", {"EventId": output["EventId"]})["Data"] == FAILS_CLOSED


@several_workers
def test_steps_of_an_event_whose_worker_has_ended(serve):
    served = serve(PLUGIN)
    pids = list(served.pids())
    first, second = (served.connect_to(pid) for pid in pids)
    instance = first.start("probe", {})
    for _ in range(2):  # a connection to the first worker is kept, and then one of its successor's
        output = first.ask("plugin.HandleEvent", {"InstanceId": instance, "EventName": "access"})
        output = second.ask("plugin.Step", {"EventId": output["EventId"], "Data": "x"})
        os.kill(pids[0], signal.SIGKILL)
        assert second.ask("plugin.Step", {"EventId": output["EventId"]})["Data"] == FAILS_CLOSED
        (pids[0],) = wait_for(lambda: served.pids() - set(pids), served.said)
        first = served.connect_to(pids[0])


@several_workers
def test_a_worker_that_is_killed_comes_back_and_the_others_answer(serve):
    served = serve(PLUGIN)
    killed, other = served.pids()
    kong = served.connect_to(other)
    instance = kong.start("probe", {})
    dying = served.connect_to(killed)
    os.kill(killed, signal.SIGKILL)
    assert dying.ask("plugin.GetStatus")["Pid"] != killed  # by another worker, on the same connection
    assert kong.event(instance, "access", {"kong.request.get_header": "h"})
    assert len(served.pids() - {killed}) == 2
    said = served.said()
    assert said.count(" of 2 ended (SIGKILL); another one is started") == 1
    assert said.count("[error]") == 1


# A master that waits for its workers only for a second.
IMPATIENT = """
from kong_pdk import stop_times
from kong_pdk.server.workers import liveness
stop_times.WORKER = 1.0
liveness.ANSWER_SECONDS = 1.0
"""


@pytest.mark.parametrize("mode", ["processes"])
def test_a_worker_that_hangs_holds_neither_the_others_nor_the_end(serve):
    served = serve(PLUGIN, before=IMPATIENT)
    hangs, other = served.pids()
    kong = served.connect_to(other)
    pause(hangs)
    for number in range(50):
        instance = kong.start("probe", {"message": number})
        assert kong.event(instance, "access", {"kong.request.get_header": "h"})
        kong.close_instance(instance)
    assert served.stop() == 0
    assert " of 2 does not stop: it is killed" in served.said()
    assert not is_alive(hangs)


@several_workers
def test_the_master_says_which_of_its_workers_does_not_answer(serve):
    served = serve(PLUGIN, before=IMPATIENT)
    hangs, other = served.pids()
    kong = served.connect_to(other)
    workers = kong.ask("plugin.GetWorkers")["Workers"]
    assert {worker["Pid"]: worker["Answers"] for worker in workers} == {hangs: True, other: True}
    assert sorted(worker["Number"] for worker in workers) == [1, 2]
    pause(hangs)
    answering = {worker["Pid"]: worker["Answers"] for worker in kong.ask("plugin.GetWorkers")["Workers"]}
    assert answering == {hangs: False, other: True}
    os.kill(hangs, signal.SIGCONT)
    wait_for(lambda: all(worker["Answers"] for worker in kong.ask("plugin.GetWorkers")["Workers"]))
    os.kill(hangs, signal.SIGKILL)
    wait_for(lambda: hangs not in served.pids(), served.said)
    assert hangs not in [worker["Pid"] for worker in kong.ask("plugin.GetWorkers")["Workers"]]


@one_worker
def test_the_one_worker_of_a_server_answers(serve):
    served = serve(PLUGIN)
    kong = MsgpackKong(served.socket)
    [worker] = kong.ask("plugin.GetWorkers")["Workers"]
    assert worker == {"Number": 1, "Pid": served.pid_of_a_worker(), "Answers": True}
    kong.close()


# A server with small limits: a test sees within a second what takes a day in production.
HASTY = """
from kong_pdk.server import instances
from kong_pdk.server.instances import instance_store
from kong_pdk.server.workers import worker_process
instance_store.IDLE_SECONDS = 0.0
instance_store.CLOSED_SECONDS = 0.2
instances.CLOSED_IDLE_SECONDS = 0.1
instances.IDLE_SECONDS = {idle}
worker_process.TAKE_SECONDS = 1.0
"""
SAYS_WHICH = """
class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x-number", str(self.config["number"]))
"""


@functools.cache
def of_one_id() -> tuple[dict[str, int], dict[str, int]]:
    """Two configurations whose digests begin alike, so that both would have the same id."""
    seen: dict[int, dict[str, int]] = {}
    for number in itertools.count():
        text = json.dumps(["probe", {"number": number}], sort_keys=True, separators=(",", ":"))
        start = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") % (2**31 - 1)
        if start in seen:
            return seen[start], {"number": number}
        seen[start] = {"number": number}
    raise AssertionError


@pair
def test_an_id_that_is_in_use_is_not_given_to_another_configuration(serve, connect):
    """At any time after its start, and in every worker that has an instance of it."""
    one, other = of_one_id()
    served = serve(SAYS_WHICH, before=HASTY.format(idle=3600.0))
    kongs = [connect(served) for _ in range(8)]  # on any worker
    first = kongs[0].start("probe", one)
    busy_until = time.monotonic() + 1.0
    while time.monotonic() < busy_until:
        assert kongs[0].event(first, "access")
        threading.Event().wait(0.02)
    second = kongs[-1].start("probe", other)
    assert second != first
    for kong in kongs:
        assert kong.event(first, "access") and kong.event(second, "access")
        numbers = [args[1] for _, args in kong.made[-2:]]
        assert numbers == [str(one["number"]), str(other["number"])]


@other_pair
def test_idle_instances_and_then_their_configurations_are_dropped(serve, connect):
    served = serve(SAYS_WHICH, before=HASTY.format(idle=0.2))
    instance = connect(served).start("probe", {"number": 1})
    workers = [served.connect_to(pid) for pid in served.pids()]

    def has_none() -> bool:
        return not any(kong.ask("plugin.GetStatus")["Plugins"]["probe"]["Instances"] for kong in workers)

    def is_unknown() -> bool:
        wait_for(has_none, served.said)
        try:
            connect(served).event(instance, "access")
        except (Closed, RpcError):
            return True
        return False

    wait_for(is_unknown, served.said)


@pytest.mark.parametrize("mode", ["processes"])
def test_a_worker_that_takes_nothing_from_its_master_is_replaced(serve):
    served = serve(SAYS_WHICH, before=HASTY.format(idle=3600.0))
    hangs, other = served.pids()
    kong = served.connect_to(other)
    pause(hangs)
    # each close is told to the other worker, until the unread messages fill the control channel
    deadline = time.monotonic() + DEADLINE
    while " does not read the messages of its master" not in served.said():
        assert time.monotonic() < deadline, served.said()
        for number in range(1000):
            kong.close_instance(number)
    served.wait_for_log(" of 2 ended (SIGKILL); another one is started")
    assert not is_alive(hangs)
    assert len(served.pids() - {hangs}) == 2


@mode_of_other_pair
def test_workers_end_with_a_master_that_is_killed(serve):
    served = serve(PLUGIN)
    pids = served.pids()
    served.process.kill()
    served.process.wait()
    wait_for(lambda: not any(map(is_alive, pids)))


LIMIT = """
import resource


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.set_header("x-limit", str(resource.getrlimit(resource.RLIMIT_NOFILE)))
"""


@pytest.mark.parametrize("mode", SEVERAL)
@pytest.mark.parametrize("at_once", [True, False])
def test_new_connections_spread_over_the_workers(serve, at_once):
    served = serve(LIMIT)
    served.pids()
    kongs = []
    for _ in range(20):
        kongs.append(MsgpackKong(served.socket))
        if not at_once:
            kongs[-1].ask("plugin.GetStatus")
    pids = Counter(kong.ask("plugin.GetStatus")["Pid"] for kong in kongs)
    for kong in kongs:
        kong.close()
    assert len(pids) == 2
    assert max(pids.values()) <= 13


@pair
def test_the_limit_of_open_files_is_raised(serve, connect):
    low = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 1000))"
    kong = connect(serve(LIMIT, before=low))
    assert kong.event(kong.start("probe"), "access")
    assert kong.made == [("kong.response.set_header", ["x-limit", "(1000, 1000)"])]


@pair
def test_an_event_under_way_ends_before_the_server(serve, connect, tmp_path):
    served = serve(PLUGIN)
    kong = connect(served)
    instance = kong.start("probe", {"until": str(tmp_path / "now")})
    begun = threading.Event()
    results: list[bool] = []

    def count(word: str) -> None:
        if word == "begun":
            begun.set()

    event = threading.Thread(
        target=lambda: results.append(kong.event(instance, "certificate", {"kong.log.info": count}))
    )
    event.start()
    assert begun.wait(DEADLINE)
    served.process.terminate()
    wait_for(lambda: not served.socket.exists(), served.said)
    served.process.terminate()  # a second time
    (tmp_path / "now").touch()
    event.join(DEADLINE)
    assert results == [True]
    assert [args for _, args in kong.made] == [["begun"], ["done"]]
    assert served.process.wait(DEADLINE) == 0


@mode_of_other_pair
def test_a_handler_that_does_not_end_does_not_keep_the_server(serve, tmp_path):
    served = serve(DRAINS_BRIEFLY + PLUGIN)
    kong = MsgpackKong(served.socket)
    instance = kong.start("probe", {"until": str(tmp_path / "never")})
    begun = threading.Event()

    def event() -> None:
        with contextlib.suppress(Closed, OSError):
            kong.event(instance, "certificate", {"kong.log.info": lambda word: begun.set()})

    thread = threading.Thread(target=event)
    thread.start()
    assert begun.wait(DEADLINE)
    pids = served.pids()
    assert served.stop() == 0
    assert "stopped with handlers still running after 0.5 seconds" in served.said()
    assert not any(map(is_alive, pids))
    thread.join(DEADLINE)
    kong.close()


@mode_of_pair
def test_ctrl_c_ends_the_server_once_and_quietly(serve):
    served = serve(PLUGIN)
    pids = served.pids()
    os.killpg(served.process.pid, signal.SIGINT)  # a terminal sends it to all
    assert served.process.wait(DEADLINE) == 0
    assert not any(map(is_alive, pids))
    lines = [line.partition("] probe: ")[2] for line in served.said().splitlines()]
    assert lines == [f"listening on {served.socket}", "stopped"]


@other_pair
def test_verbose_names_events_and_calls_with_their_durations(serve, connect):
    served = serve(PLUGIN, "-v")
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "access", {"kong.request.get_header": "h"})
    said = served.wait_for_log("[debug] probe: probe access, ")
    assert "[debug] probe: kong.request.get_header in access, " in said
    lines = [line for line in said.splitlines() if " ms" in line]
    assert len(lines) == 3
    assert all(("of worker " in line) is (served.workers > 1) for line in lines)


ENDS_AT_IMPORT = """
import os
if os.path.exists({flag!r}):
    os._exit(3)

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""


@mode_of_other_pair
def test_a_plugin_that_ends_its_process_at_import_ends_the_server(serve, tmp_path):
    (tmp_path / "flag").touch()
    served = serve(ENDS_AT_IMPORT.format(flag=str(tmp_path / "flag")))
    assert served.process.wait(DEADLINE) == 1
    assert "ended (exit code 3) before it was ready" in served.said()
    assert not list(tmp_path.glob("s*"))
    assert not list(tmp_path.glob(".??????"))


@several_workers
def test_a_worker_that_cannot_start_any_more_is_tried_again_while_others_serve(serve, connect, tmp_path):
    served = serve(ENDS_AT_IMPORT.format(flag=str(tmp_path / "flag")))
    killed, other = served.pids()
    (tmp_path / "flag").touch()
    os.kill(killed, signal.SIGKILL)
    served.wait_for_log("ended (exit code 3); another one is started")
    kong = connect(served)
    assert kong.event(kong.start("probe", {}), "access")
    (tmp_path / "flag").unlink()
    assert other in wait_for(served.pids, served.said)
    assert served.stop() == 0


@mode_of_other_pair
def test_a_plugin_that_is_broken_is_named_once(serve, tmp_path):
    served = serve("import nosuchmodule\nclass Plugin:\n    def access(self, kong): pass\n")
    assert served.process.wait(DEADLINE) == 1
    assert served.said().count("probe.py:1") == 1
    assert served.said().count("there is no plugin probe that works") == 1


@mode_of_pair
def test_both_protocols_speak_to_one_server(serve):
    served = serve(PLUGIN)
    first, second = ProtobufKong(served.socket), MsgpackKong(served.socket)
    instance = first.start("probe", {"message": "m"})
    assert second.start("probe", {"message": "m"}) == instance
    for kong in (first, second):
        assert kong.event(instance, "access", {"kong.request.get_header": "h"})
        kong.close()
