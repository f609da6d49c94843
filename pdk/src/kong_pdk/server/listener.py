"""The unix sockets on which Kong finds the server."""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from kong_pdk.logs import NOTICE
from kong_pdk.protocol import MAX_SOCKET_PATH

_log = logging.getLogger(__name__)
QUEUE_SIZE = 4096
"""How many connections may wait to be accepted; the kernel limits it to ``net.core.somaxconn``."""

_KONG_ENV = ".kong_env"
_NGINX_USER = re.compile(r"^nginx_(?:main_)?user *= *(\S.*)", re.MULTILINE)
_DEFAULT_USERS = ("kong", "nobody")


class ListenError(Exception):
    """A socket cannot be made; the message says why and has a hint."""


class Listener:
    """A listening unix socket for a path, which may belong to another server until this one is published."""

    def __init__(self, path: Path, queue_size: int = QUEUE_SIZE) -> None:
        """Listen under a temporary name, until :meth:`publish` is called.

        :param path: where Kong looks for the socket.
        :param queue_size: how many connections may wait to be accepted.
        :raises ListenError: the path is too long, or its directory cannot be written.
        """
        self.path = path.absolute()  # a plugin may change the working directory
        temporary = self._temporary = self.path.with_name(f".{secrets.token_hex(3)}")
        if max(len(os.fsencode(each)) for each in (path, path.with_name(temporary.name))) > MAX_SOCKET_PATH:
            raise ListenError(
                f"the socket path {path} is too long: a unix socket's has at most {MAX_SOCKET_PATH} bytes; "
                "choose a shorter prefix with --kong-prefix"
            )
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # A relative path stays relative: it may be short enough where the absolute path is too long.
            self.socket.bind(str(path.with_name(temporary.name)))
            _allow_kong(temporary)
            self.socket.listen(queue_size)
            # Workers share the socket's mode: a blocking socket would hold them in accept() without a connection.
            self.socket.setblocking(False)
            self._identity = _identity(temporary)
        except OSError as error:
            self.socket.close()
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise ListenError(f"cannot listen on {path}: {error.strerror}; {_hint(path)}") from error

    def publish(self) -> None:
        """Give the socket its path, and replace another server's: at a reload of Kong the old server still runs.

        :raises ListenError: the directory is gone.
        """
        try:
            self._temporary.rename(self.path)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.path}: {error.strerror}; {_hint(self.path)}") from error

    @property
    def is_lost(self) -> bool:
        """Whether the path was removed. A path that belongs to another server by now is not lost."""
        return not os.path.lexists(self.path)

    def close(self) -> None:
        """Stop listening, and remove the path if it still belongs to this socket. A second time does nothing."""
        if self.socket.fileno() < 0:  # another socket may have the inode by now
            return
        self.socket.close()
        for path in (self._temporary, self.path):
            with contextlib.suppress(OSError):
                if _identity(path) == self._identity:
                    path.unlink()


class Listeners:
    """The sockets of one server, closed together: ``with Listeners(paths) as listeners: ...``."""

    def __init__(self, paths: Iterable[Path], queue_size: int = QUEUE_SIZE) -> None:
        """Listen under temporary names.

        :param queue_size: how many connections may wait to be accepted, on each socket.
        :raises ListenError: a socket cannot be made; none is left open.
        """
        self._listeners: list[Listener] = []
        self._queue_size = queue_size
        with contextlib.ExitStack() as opened:
            for path in paths:
                self._listeners.append(Listener(path, queue_size))
                opened.callback(self._listeners[-1].close)
            opened.pop_all()

    @property
    def sockets(self) -> list[socket.socket]:
        """The listening sockets."""
        return [listener.socket for listener in self._listeners]

    def publish(self) -> None:
        """Give the sockets their paths, and log each.

        :raises ListenError: a directory is gone.
        """
        for listener in self._listeners:
            listener.publish()
            _log.log(NOTICE, "listening on %s", listener.path)

    def restore(self) -> list[Path]:
        """Listen again where a path was removed: a socket cannot get its path back, so it is a new one.

        :return: the paths.
        :raises ListenError: a directory is gone, or cannot be written.
        """
        restored: dict[int, Listener] = {}
        with contextlib.ExitStack() as opened:
            for number, lost in enumerate(self._listeners):
                if lost.is_lost:
                    restored[number] = new = Listener(lost.path, self._queue_size)
                    opened.callback(new.close)
                    new.publish()
            opened.pop_all()
        for number, new in restored.items():
            self._listeners[number].close()
            self._listeners[number] = new
        return [new.path for new in restored.values()]

    def close(self) -> None:
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> Listeners:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _allow_kong(path: Path) -> None:
    """Let only the user of Kong's workers connect, and root, which no permission keeps out."""
    path.chmod(0o600)
    if os.geteuid() == 0:
        uid = _uid_of_kongs_workers(path.parent, os.environ)
        # Where root may not change the owner, Kong cannot change the user of its workers either.
        with contextlib.suppress(OSError):
            os.chown(path, uid, -1)


def _uid_of_kongs_workers(prefix: Path, environ: Mapping[str, str]) -> int:
    """Find the uid of Kong's workers: the user that starts Kong, or another one where root does.

    The first of these counts: ``nginx_main_user`` in the environment, the same in the ``.kong_env`` that Kong wrote
    into its prefix, the owner of the prefix, and Kong's defaults: ``kong``, or ``nobody`` where there is no such user.
    """
    named = environ.get("KONG_NGINX_MAIN_USER") or environ.get("KONG_NGINX_USER")
    with contextlib.suppress(OSError, UnicodeError):
        file = prefix / _KONG_ENV
        starter = file.stat().st_uid
        if starter != 0 and not named:
            return starter
        match = _NGINX_USER.search(file.read_text(encoding="utf-8"))
        named = named or (match[1] if match else None)
    if named:
        return _uid_of(named.split()[:1])
    owner = prefix.stat().st_uid
    return owner if owner != 0 else _uid_of(_DEFAULT_USERS)


def _uid_of(names: Iterable[str]) -> int:
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_uid
        if name.isdecimal():
            return int(name)
    return 0


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _hint(path: Path) -> str:
    if not path.parent.is_dir():
        return f"make the directory {path.parent}, or name another one with --kong-prefix"
    return f"let this user (uid {os.geteuid()}) write to {path.parent}, or name another directory with --kong-prefix"
