"""What is wrong with a plugin or a plugin folder, as one sentence with file, line and hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is (``line`` counts from 1), what it is, how to mend it, and whose it is."""

    file: Path
    line: int | None
    message: str
    hint: str | None = None
    plugin: str | None = None

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}" if self.line else str(self.file)
        text = f"{location}: {self.message}" + (f"; {self.hint}" if self.hint else "")
        # File names and exception texts are the author's: a line break in one must not make a second log line.
        return " ".join(text.split("\n")).replace("\r", " ")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "file": str(self.file)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Problem:
        """The problem that :meth:`to_dict` made ``data`` of."""
        return cls(Path(data["file"]), data["line"], data["message"], data["hint"], data["plugin"])


class PluginError(Exception):
    """A plugin cannot be used; ``problems`` says why, with at least one entry."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class NotAPlugin(PluginError):
    """The file turned out to have no ``Plugin`` after all, as its source had left open; it is to be passed over."""
