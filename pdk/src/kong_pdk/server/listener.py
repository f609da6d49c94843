"""The unix sockets on which Kong finds the server."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
from pathlib import Path

_BACKLOG = 1024
_LONGEST_PATH = 107  # bytes; sockaddr_un holds 108 with the final zero


class ListenError(Exception):
    """A socket that cannot be made; the message says why and what helps."""


class Listener:
    """A listening unix socket at a path, taken over from whoever had it before."""

    def __init__(self, path: Path) -> None:
        """Bind under a temporary name and rename: at a reload of Kong the old server is still there.

        :param path: where Kong looks for it.
        :raises ListenError: the path is too long, or its directory cannot be written.
        """
        self.path = path.absolute()  # a plugin may change the working directory
        temporary = path.with_name(f".{secrets.token_hex(3)}")
        if max(len(os.fsencode(each)) for each in (path, temporary)) > _LONGEST_PATH:
            raise ListenError(
                f"the socket path {path} is too long: a unix socket's has at most {_LONGEST_PATH} bytes; "
                "choose a shorter prefix with --kong-prefix"
            )
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.socket.bind(str(temporary))
            temporary.chmod(0o666 if os.geteuid() == 0 else 0o600)
            self.socket.listen(_BACKLOG)
            self._identity = _identity(temporary)
            temporary.rename(path)
        except OSError as error:
            self.socket.close()
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise ListenError(f"cannot listen on {path}: {error.strerror}; {_cure(path)}") from error

    def close(self) -> None:
        """Stop listening, and remove the path if it is still this socket's."""
        self.socket.close()
        with contextlib.suppress(OSError):
            if _identity(self.path) == self._identity:
                self.path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    status = path.lstat()
    return status.st_dev, status.st_ino


def _cure(path: Path) -> str:
    if not path.parent.is_dir():
        return f"make the directory {path.parent}, or name another one with --kong-prefix"
    return f"let this user (uid {os.geteuid()}) write to {path.parent}, or name another directory with --kong-prefix"
