"""The run directory: the sockets and the generated files of a running container, for one user."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from kong_pdk.exit_status import StartError
from kong_pdk.settings import RUN_DIR

MODE = 0o700

_MODE_WITH_PASSAGE = 0o711
_WORKER_USER = "kong"


class RunDirectory(NamedTuple):
    """The paths of the generated files. Only its user can enter the directory."""

    path: Path

    @property
    def sockets(self) -> Path:
        """The plugin servers' sockets: outside KONG_PREFIX, where Kong's entrypoint deletes sockets."""
        return self.path / "sockets"

    @property
    def dumps(self) -> Path:
        """The dumps that Kong's query commands print, one file for each plugin."""
        return self.path / "dumps"

    @property
    def metrics(self) -> Path:
        """The counter files of the plugin servers."""
        return self.path / "metrics"

    @property
    def environment_file(self) -> Path:
        """The script that the wrapper of ``kong`` sources."""
        return self.path / "environment.sh"

    @property
    def servers_file(self) -> Path:
        """The servers that this container runs, for the starter and the health check."""
        return self.path / "servers.json"

    @property
    def supervisord_conf(self) -> Path:
        """The configuration of supervisord and supervisorctl."""
        return self.path / "supervisord.conf"

    @property
    def supervisor_socket(self) -> Path:
        """The socket on which supervisorctl reaches supervisord."""
        return self.path / "supervisor.sock"

    @property
    def pid_file(self) -> Path:
        """The file with supervisord's process id."""
        return self.path / "supervisord.pid"

    def socket(self, name: str) -> Path:
        """Give the socket of the server of plugin ``name``."""
        return self.sockets / f"{name}.sock"

    def dump(self, name: str) -> Path:
        """Give the dump of plugin ``name``."""
        return self.dumps / f"{name}.json"

    def write(self, file: Path, content: str) -> None:
        """Replace a file in one step: Kong may read it at any time.

        :raises StartError: it cannot be written.
        """
        temporary = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            temporary.write_text(content, encoding="utf-8", errors="surrogateescape")
            temporary.replace(file)
        except OSError as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise StartError(f"{file}: cannot be written: {error.strerror}; give {self.path} some room") from error

    def remove_leftovers(self) -> None:
        """Delete the sockets and counters of an earlier start.

        :raises StartError: one of them cannot be deleted.
        """
        for file in [*self.sockets.iterdir(), *self.metrics.iterdir(), self.supervisor_socket, self.pid_file]:
            _unlink_leftover(file)


def locate(environ: Mapping[str, str]) -> RunDirectory:
    """Give the directory of this process's user, or the path where it would be. Creates nothing."""
    candidates = _candidates(environ)
    for path in candidates:
        if _refusal(path) is None:
            return RunDirectory(path)
    return RunDirectory(candidates[0])


def prepare(environ: Mapping[str, str]) -> RunDirectory:
    """Create the directory of this process's user; in the temporary directory if the first path is not writable.

    :raises StartError: neither path is writable.
    """
    reasons = []
    for path in _candidates(environ):
        reason = _create(path)
        if reason is None:
            _admit_workers(RunDirectory(path), environ)
            return RunDirectory(path)
        reasons.append(f"{path}: {reason}")
    raise StartError(
        f"no place for sockets and generated files ({'; '.join(reasons)}); with a read-only root file system add "
        f"a tmpfs: --tmpfs {RUN_DIR.default}:mode=1777"
    )


def _unlink_leftover(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        raise StartError(f"{file}: left by an earlier start, cannot be deleted: {error.strerror}") from error


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    uid = os.getuid()
    chosen = RUN_DIR.read(environ) / str(uid)
    temporary = Path(environ.get("TMPDIR") or "/tmp") / f"kong-python-{uid}"  # noqa: S108 - checked for its owner
    return [chosen, temporary.absolute()]


def _create(path: Path) -> str | None:
    """Create a run directory with its folders.

    :return: the reason if that is not possible.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=MODE)
        reason = _refusal(path)
        if reason is not None:
            return reason
        path.chmod(MODE)
        run = RunDirectory(path)
        for folder in (run.sockets, run.dumps, run.metrics):
            folder.mkdir(mode=MODE, exist_ok=True)
        probe = path / ".probe"
        probe.write_bytes(b"")
        probe.unlink(missing_ok=True)  # another process may try as well
        return None
    except OSError as error:
        return error.strerror or str(error)


def _admit_workers(run: RunDirectory, environ: Mapping[str, str]) -> None:
    """If Kong runs as root, let the user of nginx's workers reach the sockets."""
    if os.getuid() != 0:
        return
    setting = environ.get("KONG_NGINX_MAIN_USER") or environ.get("KONG_NGINX_USER") or ""
    try:
        worker = pwd.getpwnam((setting.split() or [_WORKER_USER])[0])
    except KeyError:
        return
    if worker.pw_uid != 0:
        # If root may not do this, root's nginx may not change to that user either.
        with contextlib.suppress(OSError):
            os.chown(run.sockets, worker.pw_uid, -1)
            run.path.chmod(_MODE_WITH_PASSAGE)


def _refusal(path: Path) -> str | None:
    """Say why a directory must not be used: every user can write to its parent, and may have created it."""
    try:
        status = path.lstat()
    except OSError as error:
        return os.strerror(error.errno or errno.EIO)
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    if status.st_uid != os.getuid():
        return f"belongs to uid {status.st_uid}, not to {os.getuid()}"
    return None
