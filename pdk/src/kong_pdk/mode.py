"""How a plugin server runs handlers: by which engine, and in how many worker processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from kong_pdk import settings

THREADS = "threads"
GEVENT = "gevent"
ENGINES = (THREADS, GEVENT)


@dataclass(frozen=True)
class Mode:
    """An engine and a number of workers."""

    engine: str
    workers: int

    def __str__(self) -> str:
        """Put it into words, for people."""
        return self.engine if self.workers == 1 else f"{self.engine}, {self.workers} workers"

    @property
    def options(self) -> tuple[str, ...]:
        """The options of a plugin server's command line that say the same."""
        return "--engine", self.engine, "--workers", str(self.workers)


class Wish(Protocol):
    """What a plugin's module says of its mode; None where it says nothing."""

    @property
    def name(self) -> str: ...

    @property
    def engine(self) -> str | None: ...

    @property
    def workers(self) -> int | None: ...


def one_for_each_core() -> int:
    """Count the workers of ``-m``: at least 2, for one alone would be no multiprocessing."""
    return max(settings.count_cores(), 2)


def default(environ: Mapping[str, str]) -> Mode:
    """Give the mode of plugins that say nothing: what the variables say.

    :raises SettingError: one of them has no meaning.
    """
    return Mode(settings.ENGINE.read(environ), settings.WORKERS.read(environ))


def choose(wishes: Iterable[Wish], default: Mode, engine: str | None = None, workers: int | None = None) -> Mode:
    """Decide: an option wins over the attributes of the plugins' modules, those over the default.

    Where plugins of one server ask for different things, threads win, and the largest number of workers.

    :param engine: what an option says; None where there is none.
    :param workers: the same.
    """
    asked = list(wishes)
    engines = [wish.engine for wish in asked if wish.engine]
    numbers = [wish.workers for wish in asked if wish.workers]
    return Mode(
        engine or min(engines, key=ENGINES.index, default=default.engine),
        workers or max(numbers, default=default.workers),
    )


def disagreement(wishes: Iterable[Wish], mode: Mode) -> str | None:
    """Name the plugins that do not get what their modules ask for; None where there are none."""
    unmet = [
        wish.name
        for wish in wishes
        if (wish.engine or mode.engine, wish.workers or mode.workers) != (mode.engine, mode.workers)
    ]
    if not unmet:
        return None
    return (
        f"{', '.join(unmet)}: runs by {mode.engine} in {mode.workers} worker(s), not as its module says: one server "
        "has one mode; serve it by a server of its own (--plugin)"
    )
