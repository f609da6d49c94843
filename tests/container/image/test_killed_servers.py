"""A server that is killed, broken by a change or loses its socket: it is back by itself, and nothing passes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest
from container.load import CLIENTS, Load, under_load
from container.log_lines import LOST_SERVER, Expected, failed_events
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative, declarative_routes

TROUBLE = (
    Expected("turns", "error", r"", "the test kills and breaks the plugin's server"),
    Expected("py-hello", "error", r"sockets", "the test removes the directory of its socket"),
    Expected("supervisord", "warn|error", r"turns", "the test kills and breaks the plugin's server"),
    failed_events("turns"),
    LOST_SERVER,
)

# Prints the ids of the instances of a plugin's worker.
IDS = """
import os, socket, sys
from kong_pdk.image.run_directory import locate
from kong_pdk.wire.msgpack_codec import Messages, encode_request
connection = socket.socket(socket.AF_UNIX)
connection.connect(str(locate(os.environ).socket(sys.argv[1])))
connection.sendall(encode_request(1, "plugin.GetStatus", []))
messages, found = Messages(), []
while not found:
    found = list(messages.feed(connection.recv(65536)))
for instance in found[0].result["Plugins"][sys.argv[1]]["Instances"]:
    print(instance["Id"])
"""


@pytest.fixture(scope="module")
def node(shared: Launcher) -> Iterator[Kong]:
    container = shared.start(
        plugins=shared.folder({"turns.py": TEST_PLUGINS / "turns.py", "py-hello.py": PY_HELLO}),
        config=declarative_routes("turns", "py-hello"),
        expected=TROUBLE,
    )
    container.wait_until_serving("/turns", status=403)
    container.wait_until_serving("/py-hello")
    yield container


def ids(node: Kong) -> set[int]:
    return {int(line) for line in node.exec("python3", "-c", IDS, "turns").stdout.split()}


@pytest.mark.parametrize("victim", ["master", "worker"])
def test_a_process_that_is_killed_under_load_is_back_and_lets_nothing_pass(
    node: Kong, victim: str, say: Callable[[str], None]
) -> None:
    """Requests get the plugin's answer or a 500. The instances are those that Kong knows."""
    with under_load(node.address(), "/turns") as load:
        node.wait_for(lambda: len(load.replies) > 10 * CLIENTS, "the load has begun")
        known = ids(node)  # each worker of Kong starts an instance of its own
        master, worker = node.pids_of_server("turns")
        node.kill("KILL", master if victim == "master" else worker)
        node.wait_for(lambda: worker not in node.pids_of_server("turns"), "it has ended")
        node.wait_for(lambda: len(node.pids_of_server("turns")) == 2, "another one runs")
        ended = time.monotonic()
        node.wait_for(lambda: serves_since(load, ended), "the plugin answers again")
        node.wait_for(lambda: len(load.replies) > 20 * CLIENTS, "requests go on")

    assert {reply.status for reply in load.replies} <= {403, 500}
    failed = [reply for reply in load.replies if reply.status == 500]
    if victim == "worker" and "no worker has served for" not in node.logs():
        assert len(failed) <= CLIENTS, "more requests failed than were in flight"
    longest = max(reply.ended - reply.began for reply in load.replies)
    seconds = max((reply.ended for reply in failed), default=0) - min((reply.began for reply in failed), default=0)
    text = f"{len(failed)} of {len(load.replies)} requests got 500, within {seconds:.2f} s"
    say(f"kill -9 of a {victim} under load: {text}; the slowest took {longest:.2f} s")
    assert ids(node) <= known
    assert node.request("/py-hello").status == 200


def serves_since(load: Load, moment: float) -> bool:
    return any(reply.status == 403 and reply.began > moment for reply in load.replies[-CLIENTS:])


@pytest.mark.parametrize(
    ("how", "why"),
    [("abort", "Fatal Python error: Aborted"), ("raise", "RuntimeError: broken by a change")],
)
def test_a_plugin_that_a_change_has_broken_is_started_again_with_pauses(node: Kong, how: str, why: str) -> None:
    """Its requests get 500, the log says why, other plugins and Kong go on, and it serves again once it is fixed."""
    restarts, reasons = node.logs().count("another one is started"), node.logs().count(why)
    node.exec("sh", "-c", f"echo {how} >/tmp/broken")
    began = time.monotonic()
    node.kill("KILL", node.pids_of_server("turns")[-1])
    node.wait_for_log("until one does, events are answered with status 500")
    assert node.request("/turns").status == 500
    node.wait_for_log("another one is started", restarts + 5)  # the one that was killed, and four that were broken
    assert time.monotonic() - began >= 1 + 2 + 4
    assert node.request("/turns").status == 500
    assert node.request("/py-hello").status == 200
    assert node.logs().count(why) > reasons
    assert "/opt/kong/plugins/turns.py" in node.logs()

    node.exec("rm", "/tmp/broken")
    node.wait_until_serving("/turns", status=403)


def test_a_server_that_does_not_start_again_concerns_no_other_one(node: Kong) -> None:
    """supervisord gives it up and tries again; its requests get 500 meanwhile."""
    node.exec("sh", "-c", "echo raise >/tmp/broken")
    node.exec("supervisorctl", "restart", "plugins:turns", check=False)
    node.wait_for_log("the plugin server of turns ends again and again right after its start")
    assert node.request("/turns").status == 500
    assert node.request("/py-hello").status == 200
    assert "turns: its plugin server cannot be reached" in node.exec("kong-python", "health", check=False).output

    node.exec("rm", "/tmp/broken")
    node.wait_until_serving("/turns", status=403)


def test_a_socket_that_is_removed_is_made_again(node: Kong) -> None:
    """Kong and the health check find the server again without a restart; also after the whole directory was removed."""
    pids = node.pids_of_server("turns")
    node.exec("sh", "-c", "rm /run/kong-python/*/sockets/turns.sock")
    node.wait_for_log("turns.sock was removed: the server listens there again")
    node.wait_until_check_passes()
    node.wait_until_serving("/turns", status=403)

    node.exec("sh", "-c", "cd /run/kong-python/* && rm -r sockets")
    node.wait_for_log("turns.sock: No such file or directory; make the directory /run/kong-python/")
    node.exec("sh", "-c", "cd /run/kong-python/* && mkdir sockets")
    node.wait_until_check_passes()
    node.wait_until_serving("/turns", status=403)
    assert node.pids_of_server("turns")[0] == pids[0], "the master is the same"


def test_docker_stop_after_all_that(kong: Launcher) -> None:
    """A container whose master was killed ends in good order."""
    container = kong.start(
        plugins=kong.folder({"turns.py": TEST_PLUGINS / "turns.py"}), config=declarative("turns"), expected=TROUBLE
    )
    container.wait_until_serving(status=403)
    container.kill("KILL", container.pids_of_server("turns")[0])
    container.wait_until_serving(status=403)
    assert container.stop() == 0
