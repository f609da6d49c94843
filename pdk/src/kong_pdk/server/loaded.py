"""What loading plugins came to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kong_pdk.plugin import Plugin


@dataclass
class Loaded:
    """The plugins that a worker serves, and what is to be said of those that do not load."""

    plugins: list[Plugin] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)


Load = Callable[[], Loaded]
