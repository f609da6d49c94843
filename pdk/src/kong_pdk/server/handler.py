"""Runs an author's handler for one event, and answers in good order whatever it does."""

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
from kong_pdk.exception_text import describe, logged, traceback_location
from kong_pdk.logs import report
from kong_pdk.metrics.counter_layout import ABORTED, ERROR, EXIT, OK
from kong_pdk.metrics.recorder import recorder_of
from kong_pdk.protocol import PHASES
from kong_pdk.server.bridge import Bridge, Channel, EventEnded
from kong_pdk.server.instances import Instance
from kong_pdk.wire.wire_errors import UnknownMethod


def failure_method(phase: str) -> str:
    """Name the PDK function that ends a request with a 500."""
    return "kong.response.exit" if phase in ("certificate", "preread") else "kong.response.error"


def answer_failure(channel: Channel, phase: str) -> None:
    """Make the request end with a 500 in Kong's form.

    In ``certificate`` the refused call fails the handshake; in ``preread`` it ends the stream.

    :raises EventEnded: always.
    """
    with contextlib.suppress(UnknownMethod):
        channel.leave(failure_method(phase), [500])
        raise EventEnded
    # a stock ProtoBuf:1 has no kong.response.error: its page is written here
    accept, _ = channel.call("kong.request.get_header", ["accept"])
    request_id, _ = channel.call("kong.nginx.get_var", ["kong_request_id"])
    content_type, body = error_page(accept, UNEXPECTED, request_id)
    channel.leave("kong.response.exit", [500, body, {"content-type": content_type}])
    raise EventEnded


_log = logging.getLogger(__name__)
_TRIES = 3  # to answer, where exceptions from outside (a timer that the handler left behind) strike meanwhile


class HandlerError(Exception):
    """A handler that cannot be run, or has not done its work though it raised nothing."""


def run_handler(instance: Instance, phase: str, channel: Channel) -> bool:
    """Run the handler of a phase, and answer with a failure where it fails.

    :return: whether Kong still waits for the end of the event; False after an exit or a refusal.
    """
    try:
        return _run(instance, phase, channel)
    except BaseException as error:  # noqa: BLE001  # whatever strikes our own way from the handler to the answer
        report(
            _log, logging.ERROR, "%s: %s ends with a failure: %s came up behind the handler, by a timer that it left "
            "running, for example (%s)", instance.plugin.name, phase, describe(error), instance.plugin.file,
        )  # fmt: skip
        return fail(channel, phase)


def _run(instance: Instance, phase: str, channel: Channel) -> bool:
    recorder = recorder_of(instance.plugin.name)
    bridge = Bridge(channel, phase, instance.plugin.lua_style, recorder is not None)
    started = time.perf_counter()
    error = _call(instance, phase, bridge)
    seconds = time.perf_counter() - started
    if channel.interrupted and not bridge.ended and (error is None or isinstance(error, EventEnded)):
        error = HandlerError("an exception ended a PDK call before its answer was there, and the handler went on")
    if recorder is not None:
        outcome = OK if error is None and not bridge.ended else _outcome(bridge, error)
        recorder.add((phase, outcome, seconds, bridge.waited, bridge.calls or ()))
    if _log.isEnabledFor(logging.DEBUG):
        report(_log, logging.DEBUG, "%s %s, %.3f ms", instance.plugin.name, phase, seconds * 1000)
    if channel.unanswered is not None:
        where = f" ({_place(instance, phase, error)})" if error is not None else ""
        report(_log, logging.ERROR, "%s: %s%s", instance.plugin.name, channel.unanswered, where)
    if error is None:
        return not bridge.ended  # a handler can swallow anything, by a bare except
    if isinstance(error, EventEnded):
        return False
    _log_error(instance, phase, error)
    return phase == "log" if bridge.ended else fail(channel, phase)


def _call(instance: Instance, phase: str, bridge: Bridge) -> BaseException | None:
    """Give what the handler raised."""
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
    """Close the bridge, whatever strikes while a call of another thread is waited for."""
    for _ in range(_TRIES):
        try:
            bridge.close()
        except BaseException:  # noqa: BLE001  # a timer of gevent's that the handler left running
            continue
        return
    bridge.close()


def _check_is_done(phase: str, result: object) -> None:
    """Refuse a result that stands for work which nobody has begun, or which is still under way somewhere.

    :raises HandlerError: it does: the decision that it was to bring would come too late.
    """
    if result is None or isinstance(result, (str, bytes, int, float, list, tuple, dict)):
        return
    kind, hint = _unfinished(result)
    if not kind:
        return
    if inspect.iscoroutine(result) or inspect.isgenerator(result):
        result.close()  # Python would warn that it was never awaited
    raise HandlerError(f"{phase} is not done when it returns: it gave {kind} ({type(result).__name__}); {hint}")


def _unfinished(result: object) -> tuple[str, str]:
    """Say what kind of unfinished work an object is, and what to do; nothing where it is none."""
    cls = type(result)
    if inspect.isawaitable(result):
        return "an awaitable", "make it a plain function and run what is async by asyncio.run(...)"
    if inspect.isgenerator(result) or inspect.isasyncgen(result):
        return "a generator", "make it a function without yield"
    if isinstance(result, Iterator):
        return "an iterator that nobody runs", "use a for loop"
    # Futures of concurrent.futures, results of multiprocessing's pools, greenlets of gevent.
    for wait, done in (("result", "done"), ("get", "ready")):
        if callable(getattr(cls, wait, None)) and callable(getattr(cls, done, None)):
            return "work that may still run", f"wait for it by {wait}(), and call kong in the handler itself"
    if isinstance(result, (functools.partial, FunctionType, MethodType, BuiltinFunctionType)):
        return "a function that nobody calls", "call it"
    return "", ""


def _outcome(bridge: Bridge, error: BaseException | None) -> int:
    """Say how an event ended that did not come to its end."""
    if error is not None and not isinstance(error, EventEnded):
        return ERROR
    return EXIT if bridge.exited else ABORTED


def fail(channel: Channel, phase: str) -> bool:
    """Answer an event whose handler has failed, without a line in the log: the request ends with 500.

    :return: whether Kong still waits for the end of the event.
    """
    for _ in range(_TRIES):
        try:
            channel.recover()
            if phase == "log":  # the client has its answer, and Kong refuses to make another one here
                return True
            answer_failure(channel, phase)
        except EventEnded:  # noqa: PERF203
            return False
        except BaseException:  # noqa: BLE001  # a timer of gevent's that the handler left behind, for example
            continue
    channel.drop()
    return False


def _log_error(instance: Instance, phase: str, error: BaseException) -> None:
    name = instance.plugin.name
    if isinstance(error, HandlerError):  # each request meets it, and there is no traceback to show
        level = logging.ERROR if instance.logged.is_first(str(error)) else logging.DEBUG
        report(_log, level, "%s: the %s handler failed (%s): %s", name, phase, _place(instance, phase, error), error)
        return
    _, text = logged(f"{name}: the {phase} handler", error, lambda: _place(instance, phase, error))
    report(_log, logging.ERROR, "%s", text)


def _place(instance: Instance, phase: str, error: BaseException) -> str:
    file, line = traceback_location(instance.plugin.file, error)
    if line is not None:
        return f"{file}:{line}"
    if isinstance(error, HandlerError):
        return _definition(instance, phase)
    # a call that does not fit the handler, for example: it was made here
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(file)


def _definition(instance: Instance, phase: str) -> str:
    """Give the place where the handler is defined; the plugin's file where there is none."""
    code = getattr(inspect.unwrap(getattr(type(instance.handler), phase, None) or _place), "__code__", None)
    if code is None or code is _place.__code__:
        return str(instance.plugin.file)
    return f"{code.co_filename}:{code.co_firstlineno}"
