"""Reads requirements.txt: a digest that changes with it, the lines that pin nothing, the lines that need a build.

A file is decoded as pip decodes it.
"""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import locale
import platform
import re
import sysconfig
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from kong_pdk.packages.pip import constraints, normalized
from kong_pdk.plugin import PluginError, Problem

FILE = "requirements.txt"

# Increased when the content of environments changes: older ones are not used any more.
_FORM = "2"

_COMMENT = re.compile(r"(^|\s+)#.*$")
_OPTION = re.compile(r"(-[a-z]|--[a-z-]+)\s*=?\s*(\S.*)?")
_REQUIREMENT_FILES = ("-r", "--requirement")
_CONSTRAINT_FILES = ("-c", "--constraint")
_EDITABLE = ("-e", "--editable")
_FIND_LINKS = ("-f", "--find-links")
_NAME = re.compile(r"([A-Za-z0-9][\w.-]*)\s*(?:\[[^\]]*\])?\s*")
_ONE_VERSION = re.compile(r"={2,3}\s*[^\s,;)*]+\s*(?:[,;)]|$)")
_COMMIT = re.compile(r"@[0-9a-fA-F]{40,64}(?:#|$)")
_FILE_HASH = re.compile(r"#(?:.*&)?(?:md5|sha\d+)=")
_REPOSITORY = re.compile(r"(?:git|hg|svn|bzr)\+")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")  # as pip has it
_ARCHIVES = (".whl", ".zip", ".tar.gz", ".tar.bz2", ".tar.xz", ".tgz")
# Limits of the files below a path of a line: a start must not read a whole disk because of a typo.
_MOST_FILES = 5000
_MOST_BYTES = 1024 * 1024  # a larger file counts by its size
_MADE = frozenset({"__pycache__", ".git", "build"})
# In the order of pip, which takes UTF-32-LE for UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
)
_CODING_LINE = re.compile(rb"#.*?coding[:=]\s*([-\w.]+)")
_HINT = "save the file as UTF-8"


class Line(NamedTuple):
    """A line of a requirements file, without comments."""

    file: Path
    number: int
    text: str


@dataclass(frozen=True)
class Requirements:
    """A requirements.txt and a digest of everything that decides about the packages.

    ``plugin`` is the plugin whose file it is; None for all plugins of the folder. ``lines`` has those of the file and
    of the files that it includes, ``to_build`` the ones that no wheel can meet: directories, repositories and source
    archives. ``unpinned`` are the lines for which the next install may bring another version.
    """

    file: Path
    plugin: str | None
    digest: str
    lines: tuple[Line, ...] = ()
    to_build: tuple[Line, ...] = ()
    unpinned: tuple[Line, ...] = ()

    @property
    def owner(self) -> str:
        """The owner of the packages, for messages."""
        return f"plugin {self.plugin}" if self.plugin else "all plugins"

    @property
    def variables(self) -> frozenset[str]:
        """The environment variables that the lines refer to, as in ``${TOKEN}``."""
        return frozenset(name for line in self.lines for name in variables_of(line.text))

    @property
    def urls(self) -> list[Line]:
        """The lines that hold URLs."""
        return [line for line in self.lines if "://" in line.text]


def read(file: Path, plugin: str | None) -> Requirements | None:
    """Read a requirements file; None if it does not exist, or asks for nothing.

    :raises PluginError: it cannot be read, or names a file that does not exist.
    """
    reader = _Reader(file, plugin)
    if not reader.read(file):
        return None
    return reader.requirements()


def name_of(text: str) -> str | None:
    """Give the normalized name of the package of a line; None if the line begins with a path, a URL or an option."""
    found = _NAME.match(text)
    return normalized(found[1]) if found and not _is_place(text.partition(" @ ")[0]) and "://" not in found[0] else None


def variables_of(text: str) -> list[str]:
    """List the environment variables that a line refers to."""
    return _VARIABLE.findall(text)


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """Replace variables in a line by their values, as pip does: a variable without a value stays."""
    return _VARIABLE.sub(lambda found: environ.get(found[1]) or found[0], text)


class _Reader:
    """Reads a requirements file, and the files and folders that it refers to, into one digest."""

    def __init__(self, file: Path, plugin: str | None) -> None:
        self._top = file.parent
        self._plugin = plugin
        self._hash = hashlib.sha256()
        self._file = file
        self._seen: set[tuple[Path, bool]] = set()
        self._asked: list[Line] = []
        self._to_build: list[Line] = []
        self._pinned_elsewhere: set[str] = set()
        self._lines: list[Line] = []
        for text in (_FORM, sysconfig.get_config_var("SOABI") or platform.python_version(), sysconfig.get_platform()):
            self._add(text.encode())
        self._add(constraints().encode())

    def requirements(self) -> Requirements:
        return Requirements(
            self._file,
            self._plugin,
            self._hash.hexdigest()[:20],
            tuple(self._lines),
            tuple(self._to_build),
            tuple(line for line in self._asked if not self._is_pinned(line)),
        )

    def read(self, file: Path, limits: bool = False) -> bool:
        """Read a file and the files that it refers to; say whether any package is asked for.

        :param limits: it is a file of constraints, which asks for nothing.
        """
        try:
            content = file.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            raise self._problem(file, None, *_unreadable(error)) from None
        self._seen.add((file.resolve(), limits))
        self._add(self._named(file).encode(errors="surrogateescape"))
        self._add(content)
        try:
            decoded = decode(content)
        except EncodingError as error:
            raise self._problem(file, error.line, str(error), error.hint) from None
        for number, text in _lines(decoded):
            line = Line(file, number, text)
            self._lines.append(line)
            with self._looking(file, number):
                self._follow(line, limits)
        return bool(self._asked)

    @contextlib.contextmanager
    def _looking(self, file: Path, number: int) -> Iterator[None]:
        """Name the line with a path that cannot be read: its name is too long, or it is in a folder of another user."""
        try:
            yield
        except OSError as error:
            message = f"the path here cannot be read ({error.strerror})"
            hint = "fix the path, or let the user that runs the server read it"
            raise self._problem(file, number, message, hint) from None

    def _follow(self, line: Line, limits: bool) -> None:
        option = _OPTION.match(line.text)
        if not option:
            self._take(line, limits)
            return
        name, value = option[1], (option[2] or "").strip().strip("'\"")
        if name in (*_REQUIREMENT_FILES, *_CONSTRAINT_FILES) and value and "://" not in value:
            self._refer(line, value, limits or name in _CONSTRAINT_FILES)
        elif name in _EDITABLE:
            self._asked.append(line)
            self._to_build.append(line)
            self._add_place(line.file, value)
        elif name in _FIND_LINKS:
            self._add_place(line.file, value)
        elif name == "--no-binary" and value != ":none:":
            self._to_build.append(line)

    def _take(self, line: Line, limits: bool) -> None:
        """Collect a line that names a package."""
        if limits:
            if (name := name_of(line.text)) and _is_one_version(line.text):
                self._pinned_elsewhere.add(name)
            return
        self._asked.append(line)
        if _is_place(_place(line.text)):
            self._add_place(line.file, line.text)
        if self._needs_build(line):
            self._to_build.append(line)

    def _refer(self, line: Line, value: str, limits: bool) -> None:
        referred = line.file.parent / value
        if not referred.is_file():
            raise self._problem(line.file, line.number, f"there is no file {referred}", "add it, or remove this line")
        if (referred.resolve(), limits) not in self._seen:
            self.read(referred, limits)

    def _needs_build(self, line: Line) -> bool:
        """Whether a line needs a build: no wheel can meet it."""
        target = _target(line.text)
        if _REPOSITORY.match(target):
            return True
        if "://" in target and not target.startswith("file://"):
            return target.partition("#")[0].partition("?")[0].endswith(_ARCHIVES[1:])
        place = _place(target)
        if not target.startswith("file://") and not _is_place(place):
            return False
        return place.endswith(_ARCHIVES[1:]) or any((folder / place).is_dir() for folder in self._folders(line.file))

    def _is_pinned(self, line: Line) -> bool:
        """Whether a line means the same in a year: one version, a hash, a commit, or a path on this machine."""
        editable = _OPTION.match(line.text)
        text = (editable[2] or "") if editable and editable[1] in _EDITABLE else line.text
        target = _target(text)
        if "--hash" in text or target.startswith("file://") or _is_place(_place(target)):
            return True
        if "://" in target:
            return bool((_COMMIT if _REPOSITORY.match(target) else _FILE_HASH).search(target))
        return _is_one_version(text) or name_of(text) in self._pinned_elsewhere

    def _add_place(self, file: Path, value: str) -> None:
        """Add the content of an archive or a folder on this machine."""
        places = [folder / _place(value) for folder in self._folders(file)]
        for place in [place for place in places if place.exists()][:1]:
            self._add_tree(place)

    def _folders(self, file: Path) -> tuple[Path, Path]:
        """Give the folder that pip runs in, and that of the file, where it searches the path of `--find-links`, too."""
        return self._top, file.parent

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
        """Give the path of a file relative to the folder: the digest does not depend on where it is mounted."""
        return str(file.relative_to(self._top) if file.is_relative_to(self._top) else file)

    def _problem(self, file: Path, line: int | None, message: str, hint: str) -> PluginError:
        return PluginError([Problem(file, line, message, hint, self._plugin)])


def _unreadable(error: OSError) -> tuple[str, str]:
    return f"cannot be read ({error.strerror})", "let the user that runs the server read it (chmod a+r)"


def _is_one_version(text: str) -> bool:
    """Whether a line names one version of a package: ``alpha==1.0``, and not ``alpha==1.*``."""
    found = _NAME.match(text)
    return (
        found is not None and _ONE_VERSION.search(text[found.end() :].partition(";")[0].partition(" --")[0]) is not None
    )


def _target(text: str) -> str:
    """Give the URL or path of a line, ``lib @ file:///lib`` or the path alone, without markers and options."""
    return re.split(r"\s+--|\s;", re.split(r"\s@\s|(?<=[\w\]])@\s*(?=[\w+.-]+://)", text, maxsplit=1)[-1])[0].strip()


def _place(value: str) -> str:
    """Give the possible path in a line such as ``./lib[extra]; python_version > "3"`` or ``lib @ file:///lib``."""
    text = re.split(r"\s+--|\s*;|\s+#|#", value.rpartition("file://")[2])[0]
    return re.sub(r"\[[^\]]*\]$", "", text.strip())


def _is_made(inner: Path) -> bool:
    """Whether a file is the product of a build, and not source."""
    return any(part in _MADE or part.endswith(".egg-info") for part in inner.parts)


def _is_place(text: str) -> bool:
    """Whether pip takes a text for a path on this machine, and not for the name of a package or a URL."""
    return "://" not in text and (text.startswith(".") or "/" in text or text.endswith(_ARCHIVES))


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Give the lines without comments and empty lines, with their numbers; a backslash continues a line."""
    begun, first = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        first = first or number
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            begun += line[:-1] + " "
            continue
        stripped = _COMMENT.sub("", begun + line).strip()
        if stripped:
            yield first, stripped
        begun, first = "", 0
    if begun.strip():
        yield first, begun.strip()


class EncodingError(Exception):
    """A file that pip cannot decode; the message names the byte."""

    def __init__(self, line: int, message: str, hint: str = _HINT) -> None:
        super().__init__(message)
        self.line = line
        self.hint = hint


def decode(content: bytes) -> str:
    """Decode a requirements file as pip does: by byte order mark, coding line, UTF-8, or the encoding of the locale.

    :raises EncodingError: pip cannot decode it, or it holds NUL characters.
    """
    encoding, mark, hint = _encoding(content)
    try:
        text = _decoded(content[mark:], encoding)
    except LookupError:
        raise EncodingError(1, f"the coding line names {encoding}, which Python does not know", hint) from None
    except UnicodeDecodeError as error:
        line = content[mark : mark + error.start].decode(encoding, "replace").count("\n") + 1
        message = f"the file is not {encoding.upper()}: byte 0x{error.object[error.start]:02x} at {mark + error.start}"
        raise EncodingError(line, message, hint) from None
    except UnicodeError:
        raise EncodingError(1, f"the file is not {encoding}, which its coding line names", hint) from None
    before, nul, _ = text.partition("\0")
    if nul:
        message = "the file holds a NUL byte, as UTF-16 without a byte order mark does, or a file that is not text"
        raise EncodingError(before.count("\n") + 1, message)
    return text


def _encoding(content: bytes) -> tuple[str, int, str]:
    """Give the encoding, the length of the byte order mark, and a hint for a file that does not have this encoding."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return encoding, len(mark), f"{_HINT}; its byte order mark says {encoding.upper()}"
    for line in content.split(b"\n")[:2]:
        if found := _CODING_LINE.match(line):
            return found[1].decode("ascii"), 0, f"{_HINT}, or correct its coding line"
    return "utf-8", 0, f"{_HINT}, or name its encoding in the first line, as in # -*- coding: latin-1 -*-"


def _decoded(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        preferred = locale.getpreferredencoding(False)
        if encoding != "utf-8" or codecs.lookup(preferred).name in ("utf-8", "ascii"):
            raise
        return content.decode(preferred)
