"""Health of plugin servers."""

from __future__ import annotations

import functools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kong_pdk.exit_status import StartError
from kong_pdk.image.ping import Server, at_once, ping, ping_all, read_servers, wait_for_all, write_servers
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.wire.msgpack_codec import encode_notification, encode_response
from waiting import DEADLINE

Answer = Callable[[socket.socket, bytes], None]
Serve = Callable[[Path, Answer], None]


def healthy(connection: socket.socket, data: bytes) -> None:
    connection.sendall(encode_notification("serverPid", 7))
    connection.sendall(encode_response(1, None, {"Pid": 7}))


def of_three_workers(connection: socket.socket, data: bytes) -> None:
    assert b"plugin.GetWorkers" in data
    workers = [{"Number": number, "Pid": 40 + number, "Answers": number != 2} for number in (1, 2, 3)]
    connection.sendall(encode_response(1, None, {"Workers": workers}))


def refusing(connection: socket.socket, data: bytes) -> None:
    connection.sendall(encode_response(1, "not now", None))


def talking_otherwise(connection: socket.socket, data: bytes) -> None:
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def hanging_up(connection: socket.socket, data: bytes) -> None:
    return


def silent(connection: socket.socket, data: bytes) -> None:
    # Until the other side gives up.
    connection.recv(1)


def test_a_server_that_answers_is_healthy(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), healthy)
    assert ping(Server("a", run.socket("a")), 20) is None


def test_a_worker_that_does_not_answer_is_named(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), of_three_workers)
    wrong = ping(Server("a", run.socket("a")), 20, every_worker=True)
    assert wrong == "has 3 workers, of which worker 2 (process 42) does not answer"
    servers = [Server("a", run.socket("a"))]
    assert ping_all(servers, 20, every_worker=True) == {"a": wrong}


def test_workers_that_all_answer_are_healthy(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), healthy)
    assert ping(Server("a", run.socket("a")), 20, every_worker=True) is None


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (refusing, "answers with an error: not now"),
        (talking_otherwise, "an answer that is not MessagePack-RPC"),
        (hanging_up, "closes the connection without an answer"),
    ],
)
def test_a_server_that_is_not_healthy(run: RunDirectory, serve: Serve, answer: Answer, expected: str) -> None:
    serve(run.socket("a"), answer)
    assert expected in str(ping(Server("a", run.socket("a")), 20))


def test_a_server_that_does_not_answer_is_given_up(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), silent)
    assert "does not answer within" in str(ping(Server("a", run.socket("a")), 0.05))


def test_a_missing_socket_is_named(run: RunDirectory) -> None:
    assert f"cannot be reached at {run.socket('a')}: No such file" in str(ping(Server("a", run.socket("a")), 20))


def test_all_servers_are_asked(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), healthy)
    serve(run.socket("b"), hanging_up)
    write_servers(run, ["a", "b", "c"])
    assert sorted(ping_all(read_servers(run), 20)) == ["b", "c"]
    assert ping_all([], 20) == {}


def test_a_server_that_comes_late_is_waited_for(run: RunDirectory, serve: Serve) -> None:
    waiting: list[dict[str, str]] = []
    servers = [Server("a", run.socket("a"))]
    thread = threading.Thread(target=lambda: waiting.append(wait_for_all(servers, 60)))
    thread.start()
    serve(run.socket("a"), healthy)
    thread.join(60)
    assert waiting == [{}]


def test_waiting_ends_and_names_the_servers_that_do_not_answer(run: RunDirectory, serve: Serve) -> None:
    serve(run.socket("a"), healthy)
    began = time.monotonic()
    assert list(wait_for_all([Server("a", run.socket("a")), Server("b", run.socket("b"))], 0.2)) == ["b"]
    assert time.monotonic() - began >= 0.2


def test_without_a_list_of_servers_kong_was_not_started(run: RunDirectory) -> None:
    with pytest.raises(StartError, match="Kong was not started here"):
        read_servers(run)


@pytest.mark.parametrize("text", ["", "[1]", "{", '{"a": 1}'])
def test_a_corrupt_list_of_servers_is_named(run: RunDirectory, text: str) -> None:
    run.write(run.servers_file, text)
    with pytest.raises(StartError, match="cannot be understood"):
        read_servers(run)


def test_functions_are_called_at_once_and_their_results_keep_their_order():
    together = threading.Barrier(3, timeout=DEADLINE)
    assert at_once([lambda number=number: (together.wait(), number)[1] for number in range(3)]) == [0, 1, 2]
    assert at_once([functools.partial(int, str(number)) for number in range(100)]) == list(range(100))
    assert at_once([]) == []


def test_what_a_function_raises_is_raised_after_the_others():
    done = []
    with pytest.raises(ZeroDivisionError):
        at_once([lambda: 1 / 0, lambda: done.append(True)])
    assert done
