"""Names that differ from one that is read by a prefix, by underscores, or by a slip of the fingers."""

from __future__ import annotations

import difflib
import re

_PREFIX = re.compile(r"(plugin|kong|handler)_?(?=.)")

# A letter too few or too many, or two that are swapped, in a word of six letters or more.
_CLOSE = 0.83


def similar(name: str, wanted: str) -> bool:
    """Whether ``name`` may have been written where ``wanted`` is read. Private names (``_x``) are not.

    ``PLUGIN_PRIORITY``, ``__version__`` and ``PIORITY`` are similar to names that are read; ``api_version`` is not.
    """
    word = name.lower()
    if word.startswith("_") and not (word.startswith("__") and word.endswith("__")):
        return False
    word = _PREFIX.sub("", word.strip("_"), count=1)
    return word == wanted.lower() or difflib.SequenceMatcher(None, word, wanted.lower()).ratio() >= _CLOSE
