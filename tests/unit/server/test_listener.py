"""The socket's path: taken over, and given up only by its owner."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from kong_pdk.server.listener import Listener, ListenError, Listeners
from kong_pdk.server.seat import Seat


def test_a_leftover_socket_is_taken_over(tmp_path):
    path = tmp_path / "a.sock"
    leftover = socket.socket(socket.AF_UNIX)
    leftover.bind(str(path))
    leftover.close()
    listener = Listener(path)
    listener.publish()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert not path.exists()


def test_an_old_server_does_not_remove_the_path_of_the_new_one(tmp_path):
    path = tmp_path / "a.sock"
    old = Listener(path)
    old.publish()
    new = Listener(path)
    new.publish()
    old.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    new.close()
    assert list(tmp_path.iterdir()) == []


def test_a_new_worker_does_not_let_the_others_wait_for_connections_that_do_not_come(tmp_path):
    with Listeners([tmp_path / "a.sock"]) as listeners:
        line, inbox = socket.socketpair()
        [shared] = listeners.sockets
        of_another_worker = os.dup(shared.fileno())
        seat = Seat(0, line, listeners.sockets, inbox, [])
        seat.renew()
        assert not os.get_blocking(of_another_worker)
        os.close(of_another_worker)
        for each in seat.sockets():
            each.close()


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ListenError, match=r"make the directory .*nowhere"):
        Listener(tmp_path / "nowhere" / "a.sock")


def test_a_path_too_long_for_a_socket_is_refused(tmp_path):
    with pytest.raises(ListenError, match="too long"):
        Listener(tmp_path / ("x" * 120))


def test_a_path_as_long_as_a_sockets_may_be(tmp_path):
    path = tmp_path / ("x" * (107 - len(bytes(tmp_path)) - 1))
    listener = Listener(path)
    listener.publish()
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_is_removed_from_another_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    listener = Listener(Path("a.sock"))
    listener.publish()
    monkeypatch.chdir("/")
    listener.close()
    assert list(tmp_path.iterdir()) == []
