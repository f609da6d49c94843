"""The data directory: an environment for each set of requirements, and room to make new ones."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from kong_pdk.packages.requirements import Requirements
from kong_pdk.settings import DATA_DIR

DEFAULT = Path("/var/lib/kong-python")
"""Where the image has it."""

_UNUSED_DAYS = 30
_WORK = ".work-"
_POLL_SECONDS = 0.2


class StoreError(Exception):
    """The data directory cannot be used; the message says why, ``cure`` what to do."""

    def __init__(self, message: str, cure: str) -> None:
        super().__init__(message)
        self.cure = cure


@dataclass(frozen=True)
class Store:
    """A data directory; it may be shared by containers, and by users in one group."""

    path: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Store:
        """Find the directory that a process with this environment uses; makes nothing.

        :raises SettingError: ``KONG_PYTHON_DATA_DIR`` has no meaning.
        """
        return cls(DATA_DIR.read(environ) or _usual(environ).absolute())

    def environment(self, requirements: Requirements) -> Path:
        """Name the directory of what requirements ask for; if it is there, it is whole."""
        return self.path / "environments" / f"{requirements.plugin or 'all'}-{requirements.digest}"

    def refusal(self) -> StoreError | None:
        """Say why nothing can be loaded from here, if that is so."""
        there = next((path for path in (self.path, *self.path.parents) if path.exists()), self.path)
        with contextlib.suppress(OSError):
            if os.statvfs(there).f_flag & os.ST_NOEXEC:
                cure = f"mount it with the option exec, as in --tmpfs {self.path}:exec,uid={os.getuid()}"
                return StoreError(f"{self.path} is mounted noexec, and packages may hold programs", cure)
        return None

    @contextlib.contextmanager
    def locked(self, seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
        """Be the only one who installs here.

        :param seconds: how long to wait for another one.
        :param waiting: called once before waiting.
        :raises StoreError: the directory cannot be made, written to or locked.
        """
        descriptor = self._open()
        try:
            deadline = time.monotonic() + seconds
            free = _lock(descriptor, self.path)
            if not free:
                waiting()
            while not free and not _lock(descriptor, self.path):
                if time.monotonic() >= deadline:
                    cure = "look at that one, or give it another KONG_PYTHON_DATA_DIR"
                    raise StoreError(f"another start has been installing into {self.path} for {seconds:g} s", cure)
                time.sleep(_POLL_SECONDS)
            self._remove_leftovers()
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Give an empty directory on the same file system; it is removed at the end.

        :raises StoreError: there is no room for it.
        """
        try:
            made = Path(tempfile.mkdtemp(prefix=_WORK, dir=self.path))
        except OSError as error:
            raise self.not_writable(error) from error
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)

    def remove_unused(self, kept: Collection[Path]) -> None:
        """Remove environments that no start and no process has used for 30 days. What cannot be removed stays."""
        oldest = time.time() - _UNUSED_DAYS * 24 * 3600
        for environment in (self.path / "environments").glob("*"):
            with contextlib.suppress(OSError):
                if environment not in kept and environment.stat().st_mtime < oldest and _is_unused(environment):
                    # In one step: half of an environment must never stand under its name.
                    removed = self.path / f"{_WORK}{environment.name}"
                    environment.rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)

    def not_writable(self, error: OSError) -> StoreError:
        """Make the sentence of an error that came while writing here."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(f"there is no room left in {self.path}", "give it more room, or remove what is in it")
        user = os.getuid()
        cure = (
            f"mount a volume there that uid {user} may write to, or a tmpfs (--tmpfs {self.path}:exec,uid={user}), "
            "or install in an image of your own (RUN kong-python install)"
        )
        return StoreError(f"{self.path} cannot be written to ({error.strerror})", cure)

    def _open(self) -> int:
        """Make the directory if need be, and open it."""
        try:
            environments = self.path / "environments"
            if not environments.is_dir():
                environments.mkdir(parents=True, exist_ok=True)
                # Whatever the umask is: in the image, users of the directory's group share it.
                environments.chmod(environments.parent.stat().st_mode & 0o7777)
                self.give_away(environments)
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self.not_writable(error) from error

    def give_away(self, made: Path) -> None:
        """Let what root made belong to whom the data directory belongs to, who may then remove it."""
        owner = self.path.stat()
        if os.geteuid() == 0 != owner.st_uid:
            for path in (made, *made.rglob("*")):
                # Without the right to do so, it stays root's, and readable.
                with contextlib.suppress(OSError):
                    os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)

    def _remove_leftovers(self) -> None:
        """Remove what starts that were killed have left."""
        for leftover in self.path.glob(f"{_WORK}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _usual(environ: Mapping[str, str]) -> Path:
    if DEFAULT.is_dir():
        return DEFAULT
    if environ.get("XDG_DATA_HOME"):
        return Path(environ["XDG_DATA_HOME"]) / "kong-python"
    return Path(environ["HOME"]) / ".local" / "share" / "kong-python" if environ.get("HOME") else DEFAULT


def _lock(descriptor: int, path: Path) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        cure = "use a file system that has locks (flock), by KONG_PYTHON_DATA_DIR"
        raise StoreError(f"{path} cannot be locked ({error.strerror})", cure) from error
    return True


def _is_unused(environment: Path) -> bool:
    descriptor = os.open(environment, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
