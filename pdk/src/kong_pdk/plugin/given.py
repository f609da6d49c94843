"""A plugin whose class is at hand, as in a file that serves itself: checked as one that is found in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from kong_pdk.plugin import metadata, names
from kong_pdk.plugin.description import Plugin, Source
from kong_pdk.plugin.loading import Check, readable
from kong_pdk.plugin.outline import Outline
from kong_pdk.plugin.problem import PluginError


def given(name: str, cls: type, version: str | None, priority: int | None, schema: Sequence[object] | None) -> Plugin:
    """Check and describe a plugin; what is None comes from the module that defines ``cls``, or from ``cls``.

    Raises :class:`PluginError` with all that is wrong.
    """
    home = sys.modules.get(getattr(cls, "__module__", "") or "")
    file = Path(getattr(home, "__file__", None) or sys.argv[0] or "<unknown>").absolute()
    source = Source(name, file)
    if problem := names.check(source):
        raise PluginError([problem])
    named = ModuleType(name)
    said = metadata.of_module(home, {"version": version, "priority": priority, "Schema": schema})
    named.__dict__.update(said, Plugin=cls)
    with readable(source):
        return Check(source, Outline.parse(file, name), named, main_block_ran=True).plugin()
