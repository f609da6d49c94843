"""The mode of a plugin server: its engine and the number of its worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from kong_pdk import settings

AUTO = "auto"
LOOP = "loop"
THREADS = "threads"
GEVENT = "gevent"
ENGINES = (AUTO, LOOP, THREADS, GEVENT)
_BY_CAUTION = (THREADS, GEVENT, LOOP)  # where plugins of one server ask for different engines, the first one wins


@dataclass(frozen=True)
class Mode:
    """An engine and a number of workers."""

    engine: str
    workers: int

    def __str__(self) -> str:
        return self.engine if self.workers == 1 else f"{self.engine}, {self.workers} workers"

    @property
    def options(self) -> tuple[str, ...]:
        """The options for this mode on the command line of a plugin server."""
        return "--engine", self.engine, "--workers", str(self.workers)


class Wish(Protocol):
    """The mode that a plugin's module asks for; an attribute is None where it asks for nothing."""

    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> str | None: ...

    @property
    def workers(self) -> int | None: ...

    @property
    def phases(self) -> tuple[str, ...]: ...

    @property
    def async_phases(self) -> tuple[str, ...]:
        """The phases whose methods are ``async def``: they run by asyncio, whatever the engine is."""
        ...

    @property
    def needs_threads(self) -> str | None:
        """What in its source needs threads, such as ``FILE:LINE imports threading``."""
        ...


def one_for_each_core() -> int:
    """Give the number of workers for ``-m``: one for each processor core, at least 2."""
    return max(settings.count_cores(), 2)


def default(environ: Mapping[str, str]) -> Mode:
    """Give the mode of the environment, for plugins that ask for nothing.

    :raises SettingError: a variable has an invalid value.
    """
    return Mode(settings.ENGINE.read(environ), settings.WORKERS.read(environ))


def choose(wishes: Iterable[Wish], default: Mode, engine: str | None = None, workers: int | None = None) -> Mode:
    """Choose a mode: an option wins over the attributes of the plugins' modules, and the attributes over the default.

    Where plugins of a server ask for different modes, threads win, and the largest number of workers. ``auto`` is the
    loop, unless a plugin's source needs threads.

    :param engine: the engine of an option; None without one.
    :param workers: the number of workers of an option; None without one.
    """
    all_wishes = list(wishes)
    asked = [each for wish in all_wishes if (each := _asked(wish, engine, default.engine)) is not None]
    otherwise = engine or default.engine
    numbers = [wish.workers for wish in all_wishes if wish.workers]
    return Mode(
        min(asked, key=_BY_CAUTION.index, default=LOOP if otherwise == AUTO else otherwise),
        workers or max(numbers, default=default.workers),
    )


def _asked(wish: Wish, option: str | None, default: str) -> str | None:
    """Give the engine that a plugin needs or asks for; None where any will do."""
    engine = option or wish.engine or default
    if engine == AUTO:
        return THREADS if wish.needs_threads else LOOP if wish.engine and not option else None
    return engine if option or wish.engine else None


def reason(wish: Wish, engine: str | None, environ: Mapping[str, str]) -> str:
    """Tell in a few words why a plugin has its engine.

    :param engine: the engine of an option; None without one.
    """
    if engine not in (None, AUTO):
        return "--engine"
    if engine is None and wish.engine not in (None, AUTO):
        return "its module"
    if engine is None and wish.engine is None and settings.ENGINE.read(environ) != AUTO:
        return settings.ENGINE.name
    return wish.needs_threads or "its source needs no threads"


def text(wish: Wish, mode: Mode) -> str:
    """Tell in a few words how a plugin's handlers run."""
    if not wish.async_phases:
        return str(mode)
    return str(replace(mode, engine="asyncio" if _is_async(wish) else f"{mode.engine} + asyncio"))


def announcement(wish: Wish, mode: Mode, why: str) -> str:
    """Make the log line about how a plugin's handlers run.

    :param why: see :func:`reason`.
    """
    if _is_async(wish):
        return f"{wish.name}: its handlers run by asyncio (they are async def)"
    exception = f"; by asyncio: {', '.join(wish.async_phases)} (async def)" if wish.async_phases else ""
    return f"{wish.name}: its handlers run by the engine {mode.engine} ({why}){exception}"


def _is_async(wish: Wish) -> bool:
    return set(wish.async_phases) == set(wish.phases)


def _wanted(wish: Wish, mode: Mode) -> str:
    """Give the engine that a plugin asks for; threads serve any plugin whose module asks for nothing else."""
    return mode.engine if wish.engine in (None, AUTO) else str(wish.engine)


def disagreement(wishes: Iterable[Wish], mode: Mode) -> str | None:
    """Make a message about the plugins that do not get the mode they ask for; None where there are none."""
    unmet = [
        wish.name
        for wish in wishes
        if (_wanted(wish, mode), wish.workers or mode.workers) != (mode.engine, mode.workers)
    ]
    if not unmet:
        return None
    return (
        f"{', '.join(unmet)}: runs by {mode.engine} in {mode.workers} worker(s), not as its module says: one server "
        "has one mode; serve it by a server of its own (--plugin)"
    )
