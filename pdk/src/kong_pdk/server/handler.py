"""Runs an author's handler for an event, and makes sure that Kong gets an answer, whatever the handler does."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import time
import traceback
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, MethodType

from kong_pdk.error_page import UNEXPECTED, error_page
from kong_pdk.exception_text import describe, log_text, traceback_line
from kong_pdk.logs import report
from kong_pdk.metrics.counter_layout import ABORTED, ERROR, EXIT, OK
from kong_pdk.metrics.recorder import recorder_of
from kong_pdk.protocol import PHASES
from kong_pdk.server.bridge import Bridge, Channel, EventEnded
from kong_pdk.server.instances import Instance
from kong_pdk.wire.wire_errors import UnknownMethod

_log = logging.getLogger(__name__)
_TRIES = 3  # where an exception from outside interrupts the answer, of a gevent timer that the handler left running


class HandlerError(Exception):
    """A handler cannot be run, or returned before its work was done."""


def run_handler(instance: Instance, phase: str, channel: Channel) -> bool:
    """Run the handler of a phase, and answer with status 500 where it fails.

    :return: whether Kong still waits for the end of the event; False after an exit or a refused call.
    """
    try:
        return _run(instance, phase, channel)
    except BaseException as error:  # noqa: BLE001  # raised between the handler's end and the answer
        report(
            _log, logging.ERROR, "%s: %s ends with a failure: %s was raised after the handler, for example by a timer "
            "that it left running (%s)", instance.plugin.name, phase, describe(error), instance.plugin.file,
        )  # fmt: skip
        return fail(channel, phase)


def _run(instance: Instance, phase: str, channel: Channel) -> bool:
    recorder = recorder_of(instance.plugin.name)
    bridge = Bridge(channel, phase, instance.plugin.lua_style, recorder is not None)
    started = time.perf_counter()
    error = _call(instance, phase, bridge)
    seconds = time.perf_counter() - started
    if channel.interrupted and not bridge.ended and (error is None or isinstance(error, EventEnded)):
        error = HandlerError("an exception interrupted a PDK call before its answer, and the handler went on")
    if recorder is not None:
        outcome = OK if error is None and not bridge.ended else _outcome(bridge, error)
        recorder.add((phase, outcome, seconds, bridge.waited, bridge.calls or ()))
    if _log.isEnabledFor(logging.DEBUG):
        report(_log, logging.DEBUG, "%s %s, %.3f ms", instance.plugin.name, phase, seconds * 1000)
    if channel.unanswered is not None:
        where = f" ({_place(instance, phase, error)})" if error is not None else ""
        report(_log, logging.ERROR, "%s: %s%s", instance.plugin.name, channel.unanswered, where)
    if error is None:
        return not bridge.ended  # a bare except in the handler can swallow EventEnded
    if isinstance(error, EventEnded):
        return False
    _log_error(instance, phase, error)
    return phase == "log" if bridge.ended else fail(channel, phase)


def _call(instance: Instance, phase: str, bridge: Bridge) -> BaseException | None:
    """Run the handler, and give the exception that it raised."""
    try:
        with instance.in_use() as author_object:
            handler = getattr(author_object, phase, None) if phase in PHASES else None
            if handler is None:
                raise HandlerError(
                    f"Kong sends {phase or 'no phase'}, for which the plugin's class has no method; restart Kong, or "
                    "run `kong reload`, so that it learns the phases of the plugin"
                )
            _check_is_done(phase, handler(bridge.kong))
    except BaseException as error:  # noqa: BLE001  # SystemExit too: a plugin must not end the server
        return error
    finally:
        _close(bridge)
    return None


def _close(bridge: Bridge) -> None:
    """Close the bridge, even where exceptions interrupt its waiting for the call of another thread."""
    for _ in range(_TRIES):
        try:
            bridge.close()
        except BaseException:  # noqa: BLE001  # of a gevent timer that the handler left running
            continue
        return
    bridge.close()


def _check_is_done(phase: str, result: object) -> None:
    """Check that the result of a handler does not stand for work that is not done.

    :raises HandlerError: the work is not started, or still under way: its decision would come too late.
    """
    if result is None or isinstance(result, (str, bytes, int, float, list, tuple, dict)):
        return
    kind, hint = _unfinished(result)
    if not kind:
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()  # else Python warns that it was never awaited
    raise HandlerError(f"{phase} is not done when it returns: it returned {kind} ({type(result).__name__}); {hint}")


def _unfinished(result: object) -> tuple[str, str]:
    """Describe the kind of unfinished work that an object stands for, and give a hint; empty texts where it is none."""
    cls = type(result)
    if inspect.isawaitable(result):
        return "an awaitable", "make it a plain function, and run async code by asyncio.run(...)"
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return "a generator", "make it a function without yield"
    if isinstance(result, Iterator):
        return "an iterator that nobody runs", "use a for loop"
    # Futures of concurrent.futures, results of multiprocessing's pools, gevent's greenlets.
    for wait, done in (("result", "done"), ("get", "ready")):
        if callable(getattr(cls, wait, None)) and callable(getattr(cls, done, None)):
            return "work that may still run", f"wait for it by {wait}(), and call kong in the handler itself"
    if isinstance(result, (functools.partial, FunctionType, MethodType, BuiltinFunctionType)):
        return "a function that nobody calls", "call it"
    return "", ""


def _outcome(bridge: Bridge, error: BaseException | None) -> int:
    """Classify an event that did not end normally."""
    if error is not None and not isinstance(error, EventEnded):
        return ERROR
    return EXIT if bridge.exited else ABORTED


def failure_method(phase: str) -> str:
    """Give the name of the PDK function that ends a request with status 500 in a phase."""
    return "kong.response.exit" if phase in ("certificate", "preread") else "kong.response.error"


def answer_failure(channel: Channel, phase: str) -> None:
    """End the request with status 500 and Kong's own error page.

    In ``certificate`` Kong refuses the call, which makes the handshake fail; in ``preread`` the call ends the stream.

    :raises EventEnded: always.
    """
    with contextlib.suppress(UnknownMethod):
        channel.leave(failure_method(phase), [500])
        raise EventEnded
    # A stock interface of ProtoBuf:1 does not have kong.response.error, so the page is written here.
    accept, _ = channel.call("kong.request.get_header", ["accept"])
    request_id, _ = channel.call("kong.nginx.get_var", ["kong_request_id"])
    content_type, body = error_page(accept, UNEXPECTED, request_id)
    channel.leave("kong.response.exit", [500, body, {"content-type": content_type}])
    raise EventEnded


def fail(channel: Channel, phase: str) -> bool:
    """Answer an event whose handler has failed, so that the request ends with status 500. Logs nothing.

    :return: whether Kong still waits for the end of the event.
    """
    for _ in range(_TRIES):
        try:
            channel.recover()
            if phase == "log":  # the client has its answer, and Kong refuses the call in this phase
                return True
            answer_failure(channel, phase)
        except EventEnded:  # noqa: PERF203
            return False
        except BaseException:  # noqa: BLE001  # of a gevent timer that the handler left running, for example
            continue
    channel.drop()
    return False


def _log_error(instance: Instance, phase: str, error: BaseException) -> None:
    name = instance.plugin.name
    if isinstance(error, HandlerError):  # it happens with each request, and has no traceback to show
        level = logging.ERROR if instance.logged.is_first(str(error)) else logging.DEBUG
        report(_log, level, "%s: the %s handler failed (%s): %s", name, phase, _place(instance, phase, error), error)
        return
    _, text = log_text(f"{name}: the {phase} handler", error, lambda: _place(instance, phase, error))
    report(_log, logging.ERROR, "%s", text)


def _place(instance: Instance, phase: str, error: BaseException) -> str:
    if line := traceback_line(instance.plugin.file, error):
        return line
    if isinstance(error, HandlerError):
        return _definition(instance, phase)
    # A handler whose parameters do not fit raises here, not in the author's file.
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(instance.plugin.file)


def _definition(instance: Instance, phase: str) -> str:
    """Give the file and line of the handler's definition; the plugin's file where it has none."""
    code = getattr(inspect.unwrap(getattr(type(instance.handler), phase, None) or _place), "__code__", None)
    if code is None or code is _place.__code__:
        return str(instance.plugin.file)
    return f"{code.co_filename}:{code.co_firstlineno}"
