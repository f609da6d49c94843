"""Reads what a requirements.txt asks for, as far as it takes to tell whether that has changed."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from kong_pdk.packages.constraints import constraints
from kong_pdk.plugin import PluginError, Problem

FILE = "requirements.txt"

# Raised when what an environment holds is made otherwise: those of earlier versions are not taken for ours then.
_FORM = "1"

_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(-[a-z]|--[a-z-]+)\s*=?\s*(\S.*)?")
_FILES = ("-r", "--requirement", "-c", "--constraint")
_PLACES = ("-f", "--find-links", "-e", "--editable")
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz")
# Of what a line names: a start is not to read a whole disk for a slip of the pen.
_MOST_FILES = 5000
_MOST_BYTES = 1024 * 1024  # a larger file counts by its size
_MADE = frozenset({"__pycache__", ".git", "build"})


@dataclass(frozen=True)
class Requirements:
    """A requirements.txt and a digest of all that decides what it installs.

    ``plugin`` is whose it is; None for all plugins of the folder.
    """

    file: Path
    plugin: str | None
    digest: str

    @property
    def whose(self) -> str:
        """Whose packages they are, for sentences."""
        return f"plugin {self.plugin}" if self.plugin else "all plugins"


def read(file: Path, plugin: str | None) -> Requirements | None:
    """Read a requirements file; None where it is not there, or asks for nothing.

    :raises PluginError: it cannot be read, or names a file that is not there.
    """
    reader = _Reader(file, plugin)
    if not reader.read(file):
        return None
    return Requirements(file, plugin, reader.digest())


class _Reader:
    """Takes a requirements file and what it refers to into one digest."""

    def __init__(self, file: Path, plugin: str | None) -> None:
        self._top = file.parent
        self._plugin = plugin
        self._hash = hashlib.sha256()
        self._seen: set[Path] = set()
        self._asks = False
        for text in (_FORM, sysconfig.get_config_var("SOABI") or platform.python_version(), sysconfig.get_platform()):
            self._add(text.encode())
        self._add(constraints().encode())

    def digest(self) -> str:
        """Give the digest of what was read, short enough for the name of a directory."""
        return self._hash.hexdigest()[:20]

    def read(self, file: Path) -> bool:
        """Read one file with those that it refers to. Whether anything is asked for; not where it is not there."""
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._problem(file, None, *_unreadable(error)) from None
        self._seen.add(file.resolve())
        self._add(self._named(file).encode(errors="surrogateescape"))
        self._add(content)
        for number, line in _lines(content.decode("utf-8-sig", "replace")):
            with self._looking(file, number):
                self._follow(file, number, line)
        return self._asks

    @contextlib.contextmanager
    def _looking(self, file: Path, number: int) -> Iterator[None]:
        """Name the line whose path cannot even be looked at: a name that is too long, a folder of another user."""
        try:
            yield
        except OSError as error:
            message = f"what is named here cannot be looked at ({error.strerror})"
            cure = "mend the path, or let the user that runs the server read it"
            raise self._problem(file, number, message, cure) from None

    def _follow(self, file: Path, number: int, line: str) -> None:
        option = _OPTION.match(line)
        if not option:
            self._asks = True
            if _is_place(_place(line)):
                self._add_place(file, line)
            return
        name, value = option[1], (option[2] or "").strip().strip("'\"")
        if name in _FILES and value and "://" not in value:
            referred = file.parent / value
            if not referred.is_file():
                raise self._problem(file, number, f"there is no file {referred}", "add it, or remove this line")
            if referred.resolve() not in self._seen:
                self.read(referred)
        elif name in _PLACES:
            self._asks = self._asks or name in ("-e", "--editable")
            self._add_place(file, value)

    def _add_place(self, file: Path, value: str) -> None:
        """Add the content of what a line names on this machine: an archive, or a folder."""
        # pip runs in the folder of the first file, and looks for `--find-links` beside the file that says it, too.
        places = [folder / _place(value) for folder in (self._top, file.parent)]
        for place in [place for place in places if place.exists()][:1]:
            self._add_tree(place)

    def _add_tree(self, place: Path) -> None:
        inside = sorted(
            islice((each for each in place.rglob("*") if not _is_made(each.relative_to(place))), _MOST_FILES)
        )
        for each in [each for each in [place, *inside] if each.is_file()]:
            self._add(self._named(each).encode(errors="surrogateescape"))
            try:
                size = each.stat().st_size
                self._add(each.read_bytes() if size <= _MOST_BYTES else b"%d bytes" % size)
            except OSError as error:
                raise self._problem(each, None, *_unreadable(error)) from None

    def _add(self, part: bytes) -> None:
        self._hash.update(b"%d:" % len(part) + part)

    def _named(self, file: Path) -> str:
        """Give a file's name from the folder on: where that is mounted is no difference."""
        return str(file.relative_to(self._top) if file.is_relative_to(self._top) else file)

    def _problem(self, file: Path, line: int | None, message: str, cure: str) -> PluginError:
        return PluginError([Problem(file, line, message, cure, self._plugin)])


def _unreadable(error: OSError) -> tuple[str, str]:
    return f"cannot be read ({error.strerror})", "let the user that runs the server read it (chmod a+r)"


def _place(value: str) -> str:
    """Give what may be a path of a requirement such as ``./lib[extra]; python_version > "3"`` or ``lib @ file:///lib``."""
    text = re.split(r"\s+--|\s*;|\s+#|#", value.rpartition("file://")[2])[0]
    return re.sub(r"\[[^\]]*\]$", "", text.strip())


def _is_made(inner: Path) -> bool:
    """Whether a file of a folder is none of its source: a build leaves some behind."""
    return any(part in _MADE or part.endswith(".egg-info") for part in inner.parts)


def _is_place(text: str) -> bool:
    """Whether pip takes it for a path on this machine, and not for the name of a package or a URL."""
    return "://" not in text and (text.startswith(".") or "/" in text or text.endswith(_ARCHIVES))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Give the lines that say something, with the number of their first one; a backslash continues a line."""
    begun, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            begun += line[:-1] + " "
            continue
        said = _COMMENT.sub("", begun + line).strip()
        if said:
            yield first, said
        begun, first = "", 0
    if begun.strip():
        yield first, begun.strip()
