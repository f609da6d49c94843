"""A plugin whose class is at hand, as in a file that serves itself: checked as one that is found in a folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from kong_pdk.plugin import description, names
from kong_pdk.plugin.description import Plugin, Source
from kong_pdk.plugin.loading import Check, readable
from kong_pdk.plugin.outline import Outline
from kong_pdk.plugin.problem import PluginError


def given(name: str, cls: type, version: str | None, priority: int, schema: Sequence[object] | None) -> Plugin:
    """Check and describe a plugin; what is None comes from the module that defines ``cls``.

    Raises :class:`PluginError` with all that is wrong.
    """
    home = sys.modules.get(getattr(cls, "__module__", "") or "")
    file = Path(getattr(home, "__file__", None) or sys.argv[0] or "<unknown>").absolute()
    source = Source(name, file)
    if problem := names.check(source):
        raise PluginError([problem])
    named = ModuleType(name)
    named.__dict__.update(
        Plugin=cls,
        version=getattr(home, "version", description.DEFAULT_VERSION) if version is None else version,
        priority=priority,
        Schema=getattr(home, "Schema", ()) if schema is None else schema,
        lua_style=getattr(home, "lua_style", True),
        engine=getattr(home, "engine", None),
        workers=getattr(home, "workers", None),
    )
    with readable(source):
        return Check(source, Outline.parse(file, name), named).plugin()
