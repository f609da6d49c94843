"""Which level an operator would give to what supervisord says: much of its routine would look like trouble."""

from __future__ import annotations

import re

from supervisor.loggers import LevelsByName

_BY_TEXT = (
    # Each start and stop of the container, and each restart of a server, says these.
    (re.compile(r"received SIG(TERM|INT|QUIT) "), "notice"),
    # Said already, in words of ours.
    (re.compile(r"exited: kong |gave up: "), "debug"),
    (re.compile(r"exited: .*; expected\)"), "notice"),
    # Told to stop before it was far enough to hear it.
    (re.compile(r"stopped: .* \(terminated by SIG(TERM|QUIT)\)"), "notice"),
    # The socket lies in a directory that only its user can enter.
    (re.compile(r"Server '.*' running without any HTTP authentication"), "debug"),
    (re.compile(r"spawnerr: "), "error"),
)

_BY_LEVEL = {
    LevelsByName.CRIT: "crit",
    LevelsByName.ERRO: "error",
    LevelsByName.WARN: "warn",
    LevelsByName.INFO: "debug",
}


def level_of(text: str, level: int) -> str:
    """Give the level, by nginx's name.

    :param level: supervisord's own.
    """
    for pattern, better in _BY_TEXT:
        if pattern.match(text):
            return better
    return _BY_LEVEL.get(level, "debug")
