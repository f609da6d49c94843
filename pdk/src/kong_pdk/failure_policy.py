"""What becomes of a request whose plugin fails, and how long a handler may take."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from kong_pdk import settings

OPEN = "open"
"""``on_error`` of a plugin that lets a request pass when it fails."""

CLOSED = "closed"
"""``on_error`` of a plugin whose failure ends the request with status 500."""

KONG_SECONDS = 60.0
"""How long Kong waits for a plugin server."""


class Wish(Protocol):
    """What a plugin's module asks for; an attribute is None where it asks for nothing."""

    @property
    def name(self) -> str: ...

    @property
    def timeout(self) -> float | None:
        """In seconds; infinite for no limit."""
        ...

    @property
    def on_error(self) -> str | None: ...


class FailurePolicy(NamedTuple):
    """The policy of a plugin."""

    timeout: float = math.inf
    """In seconds; infinite for no limit."""
    is_open: bool = False


def policy_of(wish: Wish, environ: Mapping[str, str]) -> FailurePolicy:
    """Give the policy of a plugin: its module wins over the environment.

    :raises SettingError: a variable has an invalid value.
    """
    timeout = settings.TIMEOUT.read(environ) if wish.timeout is None else wish.timeout
    if wish.on_error is not None:
        return FailurePolicy(timeout, wish.on_error == OPEN)
    chosen = settings.ON_ERROR.read(environ)
    return FailurePolicy(timeout, chosen.is_open and (not chosen.plugins or wish.name in chosen.plugins))


def announcements(wishes: Iterable[Wish], environ: Mapping[str, str]) -> list[str]:
    """Make the log lines about plugins whose policy is not the usual one.

    :raises SettingError: a variable has an invalid value.
    """
    lines = []
    for wish in wishes:
        timeout, is_open = policy_of(wish, environ)
        if is_open:
            why = "on_error in its module" if wish.on_error else settings.ON_ERROR.name
            lines.append(f"{wish.name} fails open: when it fails, the request goes on without it ({why})")
        if wish.timeout is not None:
            limit = "as long as it likes" if math.isinf(timeout) else f"{timeout:g} s"
            lines.append(f"{wish.name}: a handler may take {limit} (timeout in its module)")
    return lines
