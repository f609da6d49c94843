"""The names that a plugin may have, so that Kong and its configuration keys can tell it from every other plugin."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kong_pdk.plugin.description import Source
from kong_pdk.plugin.problem import Problem

_PREFIX = re.compile(r"(plugin|kong|handler)_?(?=.)")

# A letter too few or too many, or two that are swapped, in a word of six letters or more.
_MIN_SIMILARITY = 0.83


def similar(name: str, expected: str) -> bool:
    """Whether ``name`` may have been written where ``wanted`` is read. Private names (``_x``) are not.

    ``PLUGIN_PRIORITY``, ``__version__`` and ``PIORITY`` are similar to names that are read; ``api_version`` is not.
    """
    word = name.lower()
    if word.startswith("_") and not (word.startswith("__") and word.endswith("__")):
        return False
    word = _PREFIX.sub("", word.strip("_"), count=1)
    return word == expected.lower() or difflib.SequenceMatcher(None, word, expected.lower()).ratio() >= _MIN_SIMILARITY


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")

# In Kong's `plugins` option these two words do not name a plugin.
_RESERVED_WORDS = frozenset({"bundled", "off"})


@cache
def bundled() -> frozenset[str]:
    """The plugins that Kong 3.9 brings along; a plugin server's plugin of such a name would never run."""
    return frozenset((Path(__file__).parent / "bundled.txt").read_text("ascii").split())


def server_name(name: str) -> str:
    """The name of a plugin's server in ``pluginserver_names``: Kong makes it lower-case. The plugin keeps its own."""
    return name.lower()


def key_of(name: str) -> str:
    """The form in which Kong's configuration keys hold a name: ``My-Plugin`` and ``my_plugin`` are one there."""
    return name.lower().replace("-", "_")


def check(source: Source) -> Problem | None:
    """What is wrong with the name of one plugin, if anything."""
    name = source.name
    if not _NAME.match(name):
        message = (
            f'plugin name "{name}" has a character other than letters (a-z, A-Z), digits, "-" and "_", or does not '
            "begin with a letter or a digit"
        )
        return Problem(source.file, None, message, f'rename it, for example to "{_suggestion(name)}"', name)
    if name in bundled():
        message = f'plugin name "{name}" is that of a plugin bundled with Kong, which would run in its place'
        return Problem(source.file, None, message, f'rename it, for example to "my-{name}"', name)
    if name in _RESERVED_WORDS:
        message = f'plugin name "{name}" has a meaning of its own in Kong\'s option "plugins"'
        return Problem(source.file, None, message, f'rename it, for example to "my-{name}"', name)
    return None


def _suggestion(name: str) -> str:
    """A name that is allowed, near to one that is not: without accents, ``-`` in the place of other characters."""
    plain = "".join(
        character for character in unicodedata.normalize("NFKD", name) if not unicodedata.combining(character)
    )
    allowed = re.sub(r"[^A-Za-z0-9_-]+", "-", plain).strip("-_")
    if not allowed or any(character.isalpha() and not character.isascii() for character in plain):
        return "my-plugin"
    return f"my-{allowed}" if allowed in bundled() or allowed in _RESERVED_WORDS else allowed


def collisions(sources: Iterable[Source]) -> Iterator[Problem]:
    """A problem for each plugin whose name Kong's configuration keys cannot tell from another's."""
    by_key: dict[str, list[Source]] = {}
    for source in sources:
        by_key.setdefault(key_of(source.name), []).append(source)
    for same_key in by_key.values():
        for source in same_key if len(same_key) > 1 else ():
            others = " and ".join(f'"{other.name}" ({other.file})' for other in same_key if other is not source)
            message = (
                f'plugin name "{source.name}" collides with {others}: in the names of plugin servers Kong takes "-" '
                'and "_" for one, and capitals for small letters'
            )
            yield Problem(source.file, None, message, "rename one of them", source.name)
