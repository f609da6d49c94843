"""Reads a YAML or JSON file as plain values, with the line of each value."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

Place = tuple[str | int, ...]


class DocumentError(Exception):
    """The text is not valid YAML or JSON. ``line`` counts from 1; None if it is unknown."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Reads dates as strings, like Kong's YAML parser."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


class Document:
    """A parsed text: ``value`` has its content. A place is the keys and indexes that lead to a value inside it."""

    def __init__(self, text: str, is_json: bool = False) -> None:
        self._lines: dict[Place, int] = {}
        if is_json:
            self.value = _json(text)
            try:
                self._compose(text)
            except DocumentError:
                self._lines.clear()
        else:
            self.value = self._compose(text)

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file. Raises :class:`DocumentError`, also for a file that cannot be read."""
        try:
            text = path.read_text(encoding="utf-8")
        except OSError as error:
            raise DocumentError(f"{error.strerror or error}; give a file that can be read") from error
        except UnicodeDecodeError as error:
            raise DocumentError(f"not UTF-8 ({error.reason}); save it as UTF-8") from error
        return cls(text, path.suffix == ".json")

    def line(self, place: Place) -> int | None:
        """The line of a value, or of the nearest enclosing value whose line is known."""
        for end in range(len(place), -1, -1):
            line = self._lines.get(place[:end])
            if line is not None:
                return line
        return None

    def _compose(self, text: str) -> Any:
        try:
            loader = _Loader(text)
        except yaml.YAMLError as error:
            raise DocumentError(f"not YAML: {error}") from error
        try:
            node = loader.get_single_node()
            return None if node is None else self._value(loader, node, (), ())
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = mark.line + 1 if mark else None
            raise DocumentError(f"{error.problem or error.context}; correct the YAML", line) from error
        except (yaml.YAMLError, ValueError) as error:
            raise DocumentError(f"not YAML: {error}") from error
        finally:
            loader.dispose()

    def _value(self, loader: Any, node: yaml.Node, place: Place, within: tuple[yaml.Node, ...]) -> Any:
        if node in within:
            raise yaml.MarkedYAMLError(problem="an alias that contains itself", problem_mark=node.start_mark)
        self._lines.setdefault(place, node.start_mark.line + 1)
        within = (*within, node)
        if isinstance(node, yaml.MappingNode):
            loader.flatten_mapping(node)
            return {
                key: self._member(loader, key_node, member, (*place, key), within)
                for key_node, member in node.value
                for key in (self._key(loader, key_node),)
            }
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, entry, (*place, index), within) for index, entry in enumerate(node.value)]
        return loader.construct_object(node, deep=True)

    def _member(
        self, loader: Any, key: yaml.Node, member: yaml.Node, place: Place, within: tuple[yaml.Node, ...]
    ) -> Any:
        self._lines[place] = key.start_mark.line + 1
        return self._value(loader, member, place, within)

    @staticmethod
    def _key(loader: Any, node: yaml.Node) -> str | int:
        if not isinstance(node, yaml.ScalarNode):
            raise yaml.MarkedYAMLError(problem="a key that is no scalar", problem_mark=node.start_mark)
        key = loader.construct_object(node)
        return key if isinstance(key, str) else str(node.value)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DocumentError(f"{error.msg}; correct the JSON", error.lineno) from error
