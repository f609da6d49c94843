"""Runs an author's handler for one event, and answers in good order whatever it does."""

from __future__ import annotations

import logging
import time
import traceback

from kong_pdk.exception_text import describe
from kong_pdk.metrics.layout import ABORTED, ERROR, EXIT, OK
from kong_pdk.metrics.recorder import recorder_of
from kong_pdk.plugin import PHASES, authors_line
from kong_pdk.server import failure
from kong_pdk.server.bridge import Bridge, Channel
from kong_pdk.server.exits import EventEnded
from kong_pdk.server.instances import Instance

_log = logging.getLogger(__name__)


def run_handler(instance: Instance, phase: str, channel: Channel) -> bool:
    """Run the handler of a phase.

    :return: whether Kong still waits for the end of the event; False after an exit or a refusal.
    """
    recorder = recorder_of(instance.plugin.name)
    bridge = Bridge(channel, phase, instance.plugin.lua_style, recorder is not None)
    started = time.perf_counter()
    error = _call(instance, phase, bridge)
    seconds = time.perf_counter() - started
    if recorder is not None:
        outcome = OK if error is None and not bridge.ended else _outcome(bridge, error)
        recorder.add((phase, outcome, seconds, bridge.waited, bridge.calls or ()))
    if _log.isEnabledFor(logging.DEBUG):
        _log.debug("%s %s, %.3f ms", instance.plugin.name, phase, seconds * 1000)
    if error is None:
        return not bridge.ended  # a handler can swallow anything, by a bare except
    if isinstance(error, EventEnded):
        return False
    return _fail(instance, phase, None if bridge.ended else channel, error)


def _call(instance: Instance, phase: str, bridge: Bridge) -> BaseException | None:
    """Give what the handler raised."""
    try:
        with instance.in_use() as its:
            handler = getattr(its, phase, None) if phase in PHASES else None
            if handler is not None:
                handler(bridge.kong)
    except BaseException as error:  # noqa: BLE001  # SystemExit too: a plugin must not end the server
        return error
    finally:
        bridge.close()
    return None


def _outcome(bridge: Bridge, error: BaseException | None) -> int:
    """Say how an event ended that did not come to its end."""
    if error is not None and not isinstance(error, EventEnded):
        return ERROR
    return EXIT if bridge.exited else ABORTED


def _fail(instance: Instance, phase: str, channel: Channel | None, error: BaseException) -> bool:
    where = _place(instance, error)
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()
    _log.error("%s: the %s handler raised %s (%s)\n%s", instance.plugin.name, phase, describe(error), where, details)
    if phase == "log":  # the client has its answer, and Kong refuses to make another one here
        return True
    if channel is None:  # it raised after the answer was made
        return False
    try:
        failure.answer(channel, phase)
    except EventEnded:
        return False
    return True


def _place(instance: Instance, error: BaseException) -> str:
    file, line = authors_line(instance.plugin.file, error)
    if line is None:  # a call that does not fit the handler, for example: it was made here
        frames = traceback.extract_tb(error.__traceback__)
        return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(file)
    return f"{file}:{line}"
