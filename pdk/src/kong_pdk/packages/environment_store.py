"""The data directory: an installed environment for each set of requirements, and workspaces for new ones.

Each user has a folder in it, ``environments/UID``. Environments are code that a plugin server runs: one that another
user could have written is not used.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import pwd
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kong_pdk.packages.requirements import Requirements
from kong_pdk.settings import DATA_DIR

DEFAULT = Path("/var/lib/kong-python")
"""The data directory of the image."""

_UNUSED_DAYS = 30
_WORK = ".work-"
_POLL_SECONDS = 0.2
_ROOT = 0
_USER_OF_THE_IMAGE = "kong"
_WRITABLE_BY_OTHERS = 0o022
_MODE = 0o755


class StoreError(Exception):
    """The data directory cannot be used; ``hint`` says what to do."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


class Refused(NamedTuple):
    """An environment that exists and is not used, with the reason and a hint."""

    path: Path
    reason: str
    hint: str

    def __str__(self) -> str:
        return f"{self.path} is not used: {self.reason}"


@dataclass(frozen=True)
class Store:
    """A data directory; containers, and users who do not trust each other, may share it."""

    path: Path

    @classmethod
    def locate(cls, environ: Mapping[str, str]) -> Store:
        """Find the data directory of a process with these environment variables; nothing is created.

        :raises SettingError: ``KONG_PYTHON_DATA_DIR`` is not valid.
        """
        return cls(DATA_DIR.read(environ) or _usual(environ).absolute())

    def find(self, requirements: Requirements) -> Path | None:
        """Find the environment of requirements, of this user or of root; one that exists is complete."""
        trusted = self._trusted()
        return next((path for path in self._named(requirements) if not _distrust(path, trusted)), None)

    def refused(self, requirements: Requirements) -> list[Refused]:
        """List the environments of these requirements that exist and are not used."""
        user, trusted = os.geteuid(), self._trusted()
        found = []
        for path in self._named(requirements):
            if reason := _distrust(path, trusted):
                hint = f"remove it; if you trust its content, chmod -R go-w {path.parent}"
                if "belongs to" in reason:
                    reason = f"{reason}, and uid {user} uses its own and root's alone"
                    hint = f"install it as uid {user} or root; if you trust its content, chown -R {user} {path.parent}"
                found.append(Refused(path, reason, hint))
        return found

    def _named(self, requirements: Requirements) -> list[Path]:
        """List the directories with the name of these requirements, in the folder of this user first."""
        own = self._folder(os.geteuid()) / _name(requirements)
        try:
            others = sorted(self._environments.glob(f"*/{_name(requirements)}"))
        except OSError:
            others = []
        return [path for path in dict.fromkeys([own, *others]) if os.path.lexists(path)]

    def accept(self, made: Path, requirements: Requirements) -> Path:
        """Move a new environment to its place; an environment there that is not used is removed.

        :raises StoreError: another user's directory is in its place, or the file system keeps no owners and modes.
        :raises OSError: no room, or no right to write.
        """
        user = os.geteuid()
        folder = self._folder(user)
        path = folder / _name(requirements)
        if os.path.lexists(folder) and _distrust_one(folder, {user, _ROOT}):
            self._set_aside(folder)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(_MODE)
        if os.path.lexists(path):
            self._set_aside(path)
        made.rename(path)
        if reason := _distrust(path, {user, _ROOT}):
            hint = "let KONG_PYTHON_DATA_DIR name a place on a file system that keeps owners and modes"
            raise StoreError(f"{path} cannot be used: {reason}", hint)
        return path

    def _set_aside(self, path: Path) -> None:
        """Remove a directory that must not be used; it is renamed first."""
        aside = Path(tempfile.mkdtemp(prefix=_WORK, dir=self.path))
        try:
            path.rename(aside / path.name)
        except PermissionError as error:
            hint = "remove it, or name another KONG_PYTHON_DATA_DIR"
            raise StoreError(f"{path} is of uid {path.lstat().st_uid}, and in the way", hint) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)

    @property
    def _environments(self) -> Path:
        return self.path / "environments"

    def _folder(self, owner: int) -> Path:
        return self._environments / str(owner)

    def _trusted(self) -> set[int]:
        """Give the users whose packages this user may run: itself and root.

        For packages that are part of the image, and not on a volume, the image's own user is one of them, since any uid
        can run an image that was built as that user. Root does not trust it: that user may be running, too.
        """
        trusted = {os.geteuid(), _ROOT}
        if os.geteuid() != _ROOT and self.path == DEFAULT:
            with contextlib.suppress(KeyError, OSError):
                if self._environments.stat().st_dev == Path(sys.prefix).stat().st_dev:
                    trusted.add(pwd.getpwnam(_USER_OF_THE_IMAGE).pw_uid)
        return trusted

    def refusal(self) -> StoreError | None:
        """Give the error if nothing can be loaded from this directory."""
        there = next((path for path in (self.path, *self.path.parents) if path.exists()), self.path)
        with contextlib.suppress(OSError):
            if os.statvfs(there).f_flag & os.ST_NOEXEC:
                hint = f"mount it with the option exec, as in --tmpfs {self.path}:exec,uid={os.getuid()}"
                return StoreError(f"{self.path} is mounted noexec, and packages may hold programs", hint)
        return None

    @contextlib.contextmanager
    def locked(self, seconds: float, waiting: Callable[[], None]) -> Iterator[None]:
        """Hold the lock for installing.

        :param seconds: how long to wait for another process.
        :param waiting: called once before the wait.
        :raises StoreError: the directory cannot be created, written to or locked.
        """
        descriptor = self._open()
        try:
            deadline = time.monotonic() + seconds
            free = _lock(descriptor, self.path)
            if not free:
                waiting()
            while not free and not _lock(descriptor, self.path):
                if time.monotonic() >= deadline:
                    hint = "look at the other start, or set another KONG_PYTHON_DATA_DIR for it"
                    raise StoreError(f"another start has been installing into {self.path} for {seconds:g} s", hint)
                time.sleep(_POLL_SECONDS)
            self._remove_leftovers()
            yield
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def workspace(self) -> Iterator[Path]:
        """Create an empty directory on the same file system, and remove it at the end.

        :raises StoreError: it cannot be created.
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
        """Remove environments that no start and no process has used for 30 days; errors are ignored."""
        oldest = time.time() - _UNUSED_DAYS * 24 * 3600
        # Versions before this one had no folders of users.
        old = [path for path in self._environments.glob("*") if not path.name.isdecimal()]
        for environment in [*self._environments.glob("*/*-*"), *old]:
            with contextlib.suppress(OSError):
                if environment not in kept and environment.stat().st_mtime < oldest and _is_unused(environment):
                    # Renamed first: an environment under its name must be complete.
                    removed = self.path / f"{_WORK}{environment.name}"
                    environment.rename(removed)
                    shutil.rmtree(removed, ignore_errors=True)

    def not_writable(self, error: OSError) -> StoreError:
        """Turn an error of a write into one with a hint."""
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return StoreError(f"there is no room left in {self.path}", "give it more room, or remove its content")
        user = os.getuid()
        hint = (
            f"mount a volume there that uid {user} may write to, or a tmpfs (--tmpfs {self.path}:exec,uid={user}), "
            "or install in an image of your own (RUN kong-python install)"
        )
        return StoreError(f"{self.path} cannot be written to ({error.strerror})", hint)

    def _open(self) -> int:
        """Create the directory if it is missing, and open it."""
        try:
            _make(self.path)
            with contextlib.suppress(FileExistsError):
                self._environments.mkdir(_MODE)
                self._share(self._environments)
            for path in (self.path, self._environments):
                status = path.stat()
                if status.st_uid == os.geteuid() and status.st_mode & _WRITABLE_BY_OTHERS:
                    # Without the sticky bit, a user who can write to it can replace any directory in it.
                    path.chmod(stat.S_IMODE(status.st_mode) | stat.S_ISVTX)
            return os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise self.not_writable(error) from error

    def _share(self, made: Path) -> None:
        """Make a directory writable for all who can write to the data directory, whatever the umask is."""
        status = self.path.stat()
        shared = stat.S_IMODE(status.st_mode) & (stat.S_ISGID | _WRITABLE_BY_OTHERS)
        made.chmod(_MODE | shared | (stat.S_ISVTX if shared & _WRITABLE_BY_OTHERS else 0))
        if os.geteuid() == _ROOT != status.st_uid:
            # Without the right to change it, root stays the owner.
            with contextlib.suppress(OSError):
                os.chown(made, status.st_uid, status.st_gid)

    def _remove_leftovers(self) -> None:
        """Remove the workspaces of starts that were killed."""
        for leftover in self.path.glob(f"{_WORK}*"):
            shutil.rmtree(leftover, ignore_errors=True)


def _name(requirements: Requirements) -> str:
    return f"{requirements.plugin or 'all'}-{requirements.digest}"


def _make(directory: Path) -> None:
    """Create a directory and its parents, writable only for this user, whatever the umask is."""
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        with contextlib.suppress(FileExistsError):
            path.mkdir(_MODE)


def _distrust(path: Path, trusted: Collection[int]) -> str | None:
    """Give the reason why an environment must not be used, if another user could have written it."""
    try:
        if reason := _distrust_one(path.parent, trusted):
            return f"its folder {reason}"
        if reason := _distrust_one(path, trusted):
            return f"it {reason}"
        for folder, folders, files in os.walk(path, onerror=_raise):
            for inner in (os.path.join(folder, name) for name in (*folders, *files)):  # noqa: PTH118 - there are many
                if reason := _looseness(os.lstat(inner), trusted):
                    return f"{inner} in it {reason}"
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    return None


def _distrust_one(path: Path, trusted: Collection[int]) -> str | None:
    status = path.lstat()
    if stat.S_ISLNK(status.st_mode):
        return "is a symbolic link"
    if not stat.S_ISDIR(status.st_mode):
        return "is no directory"
    return _looseness(status, trusted)


def _looseness(status: os.stat_result, trusted: Collection[int]) -> str | None:
    if status.st_uid not in trusted:
        return f"belongs to uid {status.st_uid}"
    if status.st_mode & _WRITABLE_BY_OTHERS and not stat.S_ISLNK(status.st_mode):
        return f"can be written to by others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def _raise(error: OSError) -> None:
    raise error


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
        hint = "use a file system that has locks (flock), by KONG_PYTHON_DATA_DIR"
        raise StoreError(f"{path} cannot be locked ({error.strerror})", hint) from error
    return True


def _is_unused(environment: Path) -> bool:
    descriptor = os.open(environment, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
