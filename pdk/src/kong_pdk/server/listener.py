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
"""How many connections may wait to be accepted; the kernel takes no more than its ``net.core.somaxconn``."""

_KONG_ENV = ".kong_env"
_NGINX_USER = re.compile(r"^nginx_(?:main_)?user *= *(\S.*)", re.MULTILINE)
_DEFAULT_USERS = ("kong", "nobody")


class ListenError(Exception):
    """A socket that cannot be made; the message says why and what helps."""


class Listener:
    """A listening unix socket for a path, which may be another server's until it is published."""

    def __init__(self, path: Path, queue_size: int = QUEUE_SIZE) -> None:
        """Listen under a temporary name; :meth:`publish` follows once there is somebody to answer.

        :param path: where Kong looks for it.
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
            # As it was given: a relative path may be short enough where the whole one is not.
            self.socket.bind(str(path.with_name(temporary.name)))
            _allow_kong(temporary)
            self.socket.listen(queue_size)
            # For good: workers share it, and one that is being started must not let the others wait in accept().
            self.socket.setblocking(False)
            self._identity = _identity(temporary)
        except OSError as error:
            self.socket.close()
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise ListenError(f"cannot listen on {path}: {error.strerror}; {_hint(path)}") from error

    def publish(self) -> None:
        """Let Kong find it, in the place of whoever was there: at a reload of Kong the old server still is.

        :raises ListenError: the directory is gone.
        """
        try:
            self._temporary.rename(self.path)
        except OSError as error:
            raise ListenError(f"cannot listen on {self.path}: {error.strerror}; {_hint(self.path)}") from error

    def close(self) -> None:
        """Stop listening, and remove the path if it is still this socket's."""
        self.socket.close()
        for path in (self._temporary, self.path):
            with contextlib.suppress(OSError):
                if _identity(path) == self._identity:
                    path.unlink()


class Listeners:
    """The sockets of one server, closed together: ``with Listeners(paths) as listeners: ...``."""

    def __init__(self, paths: Iterable[Path], queue_size: int = QUEUE_SIZE) -> None:
        """Listen.

        :param queue_size: how many connections may wait to be accepted, on each.
        :raises ListenError: one of them cannot be made; none is left.
        """
        self._listeners: list[Listener] = []
        with contextlib.ExitStack() as opened:
            for path in paths:
                self._listeners.append(Listener(path, queue_size))
                opened.callback(self._listeners[-1].close)
            opened.pop_all()

    @property
    def sockets(self) -> list[socket.socket]:
        """Where connections are accepted."""
        return [listener.socket for listener in self._listeners]

    def publish(self) -> None:
        """Let Kong find them, and say so in the log.

        :raises ListenError: a directory is gone.
        """
        for listener in self._listeners:
            listener.publish()
            _log.log(NOTICE, "listening on %s", listener.path)

    def close(self) -> None:
        """Stop listening."""
        for listener in self._listeners:
            listener.close()

    def __enter__(self) -> Listeners:
        """Give itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        self.close()


def _allow_kong(path: Path) -> None:
    """Let the one user connect that Kong's workers run as, and nobody else; root connects to anything."""
    path.chmod(0o600)
    if os.geteuid() == 0:
        uid = _uid_of_kongs_workers(path.parent, os.environ)
        # Without the right to do this, root's Kong has not the right to change its workers' user either.
        with contextlib.suppress(OSError):
            os.chown(path, uid, -1)


def _uid_of_kongs_workers(prefix: Path, environ: Mapping[str, str]) -> int:
    """Find the user that a Kong's workers have: the one it is started by, or another one where that is root.

    ``nginx_main_user`` in the environment says it, then what Kong itself noted in its prefix, then the owner of the
    prefix. Where nothing does, it is what Kong takes by default: ``kong``, or ``nobody`` where there is no such user.
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
