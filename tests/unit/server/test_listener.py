"""The socket's path: taken over, and given up only by its owner."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from kong_pdk.server.event_record import RecordTable
from kong_pdk.server.listener import Listener, ListenError, Listeners
from kong_pdk.server.workers.connection_channel import make_channel
from kong_pdk.server.workers.step_forwarding import ConnectionCounts
from kong_pdk.server.workers.worker import WorkerSockets


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


def test_a_second_close_removes_nothing(tmp_path, monkeypatch):
    """The inode of a socket that is gone may be that of a new server's socket."""
    path = tmp_path / "s"
    first = Listener(path)
    first.publish()
    first.close()
    second = Listener(path)
    second.publish()
    monkeypatch.setattr(first, "_identity", second._identity)
    first.close()
    assert path.exists()
    second.close()


def test_a_removed_path_is_listened_on_again(tmp_path):
    paths = [tmp_path / "a.sock", tmp_path / "b.sock"]
    with Listeners(paths) as listeners:
        listeners.publish()
        assert listeners.restore() == []
        paths[1].unlink()
        kept, old = listeners.sockets
        assert listeners.restore() == [paths[1]]
        assert listeners.sockets[0] is kept
        assert old.fileno() == -1
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(paths[1]))
            listeners.sockets[1].accept()[0].close()
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_another_server_has_is_left_to_it(tmp_path):
    path = tmp_path / "a.sock"
    with Listeners([path]) as old:
        old.publish()
        new = Listener(path)
        new.publish()
        assert old.restore() == []
    assert path.exists()
    new.close()


def test_a_removed_directory_is_named_until_it_is_there_again(tmp_path):
    folder, elsewhere = tmp_path / "sockets", tmp_path / "elsewhere"
    folder.mkdir()
    with Listeners([folder / "a.sock"]) as listeners:
        listeners.publish()
        folder.rename(elsewhere)
        for _ in range(2):
            with pytest.raises(ListenError, match=r"make the directory .*sockets"):
                listeners.restore()
        folder.mkdir()
        assert listeners.restore() == [folder / "a.sock"]


def test_a_new_worker_does_not_let_the_others_wait_for_connections_that_do_not_come(tmp_path):
    with Listeners([tmp_path / "a.sock"]) as listeners:
        line, inbox = socket.socketpair()
        channel, of_master = make_channel()
        [shared] = listeners.sockets
        of_another_worker = os.dup(shared.fileno())
        sockets = WorkerSockets(0, line, listeners.sockets, inbox, [], ConnectionCounts(1), channel, RecordTable())
        sockets.reopen()
        assert not os.get_blocking(of_another_worker)
        os.close(of_another_worker)
        for each in [*sockets.all(), of_master]:
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


def mode_and_owner(path: Path) -> tuple[int, int]:
    with Listeners([path]) as listeners:
        listeners.publish()
        status = path.stat()
    return status.st_mode & 0o777, status.st_uid


def test_only_its_user_can_connect(tmp_path):
    assert mode_and_owner(tmp_path / "a.sock")[0] == 0o600


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="a socket is given to another user by root alone")


@pytest.fixture
def users(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Give the users that there are."""
    known: dict[str, int] = {"kong": 1001, "nobody": 65534, "www": 33}

    def getpwnam(name: str) -> SimpleNamespace:
        return SimpleNamespace(pw_uid=known[name])

    monkeypatch.setattr(pwd, "getpwnam", getpwnam)
    for name in ("KONG_NGINX_MAIN_USER", "KONG_NGINX_USER"):
        monkeypatch.delenv(name, raising=False)
    return known


@as_root
@pytest.mark.usefixtures("users")
@pytest.mark.parametrize(
    ("environ", "prefix", "expected"),
    [
        ({}, (None, 0), 1001),
        ({}, (None, 4321), 4321),
        ({}, ((0, "prefix = /x\nnginx_main_user = www www\n"), 1001), 33),
        ({}, ((0, "nginx_user = www\n"), 0), 33),
        ({}, ((0, "prefix = /x\n"), 0), 1001),
        ({}, ((4321, "nginx_main_user = www www\n"), 0), 4321),
        ({"KONG_NGINX_MAIN_USER": "www www"}, (None, 4321), 33),
        ({"KONG_NGINX_MAIN_USER": "www"}, ((4321, ""), 0), 33),
        ({"KONG_NGINX_USER": "www"}, (None, 0), 33),
        ({"KONG_NGINX_MAIN_USER": "4321"}, (None, 0), 4321),
        ({"KONG_NGINX_MAIN_USER": "nosuch"}, (None, 0), 0),
    ],
)
def test_a_server_of_root_lets_kongs_workers_in(tmp_path, monkeypatch, environ, prefix, expected):
    noted, owner = prefix
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    if noted is not None:
        (tmp_path / ".kong_env").write_text(noted[1])
        os.chown(tmp_path / ".kong_env", noted[0], -1)
    os.chown(tmp_path, owner, -1)
    assert mode_and_owner(tmp_path / "a.sock") == (0o600, expected)


@as_root
def test_without_a_user_kong_its_workers_run_as_the_user_nobody(tmp_path, users):
    del users["kong"]
    assert mode_and_owner(tmp_path / "a.sock") == (0o600, 65534)


@as_root
def test_a_root_that_may_not_give_files_away_keeps_the_socket(tmp_path, users, monkeypatch):
    """Its Kong cannot change to another user, either."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "chown", refuse)
    assert mode_and_owner(tmp_path / "a.sock") == (0o600, 0)


@as_root
def test_the_user_connects_and_another_does_not(users):
    connect = "import os, socket, sys; os.setuid(int(sys.argv[2])); socket.socket(socket.AF_UNIX).connect(sys.argv[1])"
    with tempfile.TemporaryDirectory() as folder:
        os.chown(folder, 4321, -1)
        Path(folder).chmod(0o755)
        path = Path(folder, "a.sock")
        with Listeners([path]) as listeners:
            listeners.publish()
            for uid, works in ((4321, True), (4322, False)):
                command = [sys.executable, "-c", connect, str(path), str(uid)]
                done = subprocess.run(command, cwd="/", capture_output=True, check=False)
                assert (done.returncode == 0) is works, done.stderr
                assert works or b"PermissionError" in done.stderr
