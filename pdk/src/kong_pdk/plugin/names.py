"""Checks the names of plugins, which Kong and its configuration keys must be able to distinguish."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kong_pdk.plugin.description import Source
from kong_pdk.plugin.problem import Problem

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")

# In Kong's option `plugins` these two words do not name a plugin.
_RESERVED_WORDS = frozenset({"bundled", "off"})


@cache
def bundled() -> frozenset[str]:
    """The names of the plugins in Kong 3.9. A plugin server's plugin with such a name would never run."""
    return frozenset((Path(__file__).parent / "bundled.txt").read_text("ascii").split())


def server_name(name: str) -> str:
    """The name of a plugin's server in ``pluginserver_names``; Kong makes it lower-case, unlike the plugin's name."""
    return name.lower()


def key_of(name: str) -> str:
    """A name as it is written in Kong's configuration keys, where ``My-Plugin`` and ``my_plugin`` are the same."""
    return name.lower().replace("-", "_")


def check(source: Source) -> Problem | None:
    """The problem of a plugin's name; None if the name can be used."""
    name = source.name
    if not _NAME.match(name):
        message = (
            f'plugin name "{name}" has a character other than letters (a-z, A-Z), digits, "-" and "_", or does not '
            "begin with a letter or a digit"
        )
        return Problem(source.file, None, message, f'rename it, for example to "{_suggestion(name)}"', name)
    if name in bundled():
        message = f'plugin name "{name}" belongs to a plugin bundled with Kong, which would run in its place'
        return Problem(source.file, None, message, f'rename it, for example to "my-{name}"', name)
    if name in _RESERVED_WORDS:
        message = f'plugin name "{name}" is a reserved word in Kong\'s option "plugins"'
        return Problem(source.file, None, message, f'rename it, for example to "my-{name}"', name)
    return None


def _suggestion(name: str) -> str:
    """An allowed name that is similar to ``name``: without accents, ``-`` in place of other characters."""
    plain = "".join(
        character for character in unicodedata.normalize("NFKD", name) if not unicodedata.combining(character)
    )
    allowed = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")
    if not allowed or any(character.isalpha() and not character.isascii() for character in plain):
        return "my-plugin"
    return f"my-{allowed}" if allowed in bundled() or allowed in _RESERVED_WORDS else allowed


def collisions(sources: Iterable[Source]) -> Iterator[Problem]:
    """A problem for each plugin whose name is the same as another one in Kong's configuration keys."""
    by_key: dict[str, list[Source]] = {}
    for source in sources:
        by_key.setdefault(key_of(source.name), []).append(source)
    for same_key in by_key.values():
        for source in same_key if len(same_key) > 1 else ():
            others = " and ".join(f'"{other.name}" ({other.file})' for other in same_key if other is not source)
            message = (
                f'plugin name "{source.name}" collides with {others}: in the names of plugin servers Kong does not '
                'distinguish "-" from "_", or capitals from small letters'
            )
            yield Problem(source.file, None, message, "rename one of them", source.name)
