"""Problems of plugins and plugin folders, each printed as one line with file, line number and hint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One problem: its place (``line`` counts from 1), the message, a hint how to fix it, and the plugin's name."""

    file: Path
    line: int | None
    message: str
    hint: str | None = None
    plugin: str | None = None

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}" if self.line else str(self.file)
        text = f"{location}: {self.message}" + (f"; {self.hint}" if self.hint else "")
        # File names and exception texts are written by authors; a line break in one must not begin a second log line.
        return " ".join(text.split("\n")).replace("\r", " ")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON."""
        return {**asdict(self), "file": str(self.file)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Problem:
        """The problem behind the result of :meth:`to_dict`."""
        return cls(Path(data["file"]), data["line"], data["message"], data["hint"], data["plugin"])


class PluginError(Exception):
    """A plugin cannot be used; ``problems`` has the reasons, at least one."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class NotAPlugin(PluginError):
    """The import of a file shows that it has no ``Plugin``, which its source left open; the file is skipped."""
