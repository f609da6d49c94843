"""Runs an author's handler for an event, and makes sure that Kong gets an answer, whatever the handler does."""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import traceback
from collections.abc import Iterator
from contextvars import Context
from time import perf_counter
from types import BuiltinFunctionType, FunctionType, MethodType

from kong_pdk.error_page import UNEXPECTED, error_page
from kong_pdk.errors import UnknownFunctionError
from kong_pdk.exception_text import describe, log_text, traceback_line
from kong_pdk.logs import report
from kong_pdk.metrics.counter_layout import ABORTED, ERROR, EXIT, OK
from kong_pdk.metrics.recorder import recorder_of
from kong_pdk.protocol import PHASES
from kong_pdk.server.bridge import AsyncBridge, Bridge, Channel, EventEnded, EventExpired, Unanswered
from kong_pdk.server.deadlines import log_expired
from kong_pdk.server.engines import Engine
from kong_pdk.server.failure_answers import failure_function, lets_pass
from kong_pdk.server.instances import Instance
from kong_pdk.settings import CONCURRENCY, QUEUE

_log = logging.getLogger(__name__)
_TRIES = 3  # where an exception from outside interrupts the answer, of a gevent timer that the handler left running


class HandlerError(Exception):
    """A handler cannot be run, or returned before its work was done."""


def run_handler(instance: Instance, channel: Channel, engine: Engine) -> bool:
    """Run the handler of an event's phase, and answer with status 500 where it fails.

    :param engine: runs the job that calls this.
    :return: whether Kong still waits for the end of the event; False after an exit or a refused call, and where the
        event has taken too long, so that others answer it.
    """
    bridge = _bridge(channel, engine, instance.plugin.lua_style, recorder_of(instance.plugin.name) is not None)
    bridge.where = engine.where()
    channel.bridge = bridge
    try:
        return _run(instance, channel, bridge)
    except BaseException as error:  # noqa: BLE001  # raised between the handler's end and the answer
        if bridge.is_expired:
            return False
        report(
            _log, logging.ERROR, "%s: %s ends with a failure: %s was raised after the handler, for example by a timer "
            "that it left running (%s)", instance.plugin.name, channel.phase, describe(error), instance.plugin.file,
        )  # fmt: skip
        return fail(channel, instance.policy.is_open)
    finally:
        channel.is_claimed = bridge.is_expired
        channel.bridge = None


def _run(instance: Instance, channel: Channel, bridge: Bridge) -> bool:
    recorder, is_shown = recorder_of(instance.plugin.name), _log.isEnabledFor(logging.DEBUG)
    is_timed = is_shown or recorder is not None
    started = perf_counter() if is_timed else 0.0
    # A context of its own: what a handler puts into a context variable is not there in the next event.
    error = Context().run(call_handler, instance, channel.phase, bridge)
    if is_timed:
        seconds = perf_counter() - started
        if recorder is not None:
            is_ok = error is None and not bridge.ended and not bridge.is_expired
            outcome = OK if is_ok else _outcome(bridge, error)
            recorder.add((channel.phase, outcome, seconds, bridge.waited, bridge.calls or ()))
        if is_shown:
            report(_log, logging.DEBUG, "%s %s, %.3f ms", instance.plugin.name, channel.phase, seconds * 1000)
    if error is None and not bridge.is_ended:
        return True
    try:
        return _answer(instance, channel, bridge, error)
    finally:
        del error  # its traceback leads to this frame: the circle would stay until the garbage collector finds it


def _bridge(channel: Channel, engine: Engine, lua_style: bool, measured: bool) -> Bridge:
    runner, shown = engine.coroutine_runner(), _log.isEnabledFor(logging.DEBUG)
    if runner is None:
        return Bridge(channel, lua_style, measured, shown)
    return AsyncBridge(runner, channel, lua_style, measured, shown)


def _answer(instance: Instance, channel: Channel, bridge: Bridge, error: BaseException | None) -> bool:
    """Answer an event whose handler did not simply return."""
    if bridge.is_expired:
        return False
    if channel.interrupted and not bridge.ended and (error is None or isinstance(error, EventEnded)):
        error = HandlerError("an exception interrupted a PDK call before its answer, and the handler went on")
    unanswered = channel.unanswered
    if unanswered is not None:
        _log_unanswered(instance, channel.phase, unanswered, error)
    if error is None:
        return not bridge.ended  # a bare except in the handler can swallow EventEnded
    if isinstance(error, EventExpired):
        what = f"{instance.plugin.name}: {channel.phase}"
        log_expired(instance.errors, what, instance.policy.timeout, _place(instance, channel.phase, error))
    elif isinstance(error, EventEnded):
        return False
    else:
        _log_error(instance, channel.phase, error, bridge.request_id)
    if bridge.ended:
        return channel.phase == "log"
    waits = fail(channel, instance.policy.is_open)
    if unanswered is None and channel.unanswered is not None:  # Kong had refused a call before
        _log_unanswered(instance, channel.phase, channel.unanswered, None)
    return waits


def _log_unanswered(instance: Instance, phase: str, unanswered: Unanswered, error: BaseException | None) -> None:
    place = unanswered.place or (_place(instance, phase, error) if error is not None else "")
    instance.errors.report(f"{instance.plugin.name}: {unanswered.text}{f' ({place})' if place else ''}")


def call_handler(instance: Instance, phase: str, bridge: Bridge) -> BaseException | None:
    """Run the handler, and give the exception that it raised."""
    try:
        used = instance if instance.life.begin() else instance.begin_again()
        try:
            handler = getattr(used.handler, phase, None) if phase in PHASES else None
            if handler is None:
                raise HandlerError(
                    f"Kong sends {phase or 'no phase'}, for which the plugin's class has no method; restart Kong, or "
                    "run `kong reload`, so that it learns the phases of the plugin"
                )
            result = handler(bridge.make_kong())
            if isinstance(bridge, AsyncBridge):
                result = _complete(phase, bridge, result)
            if result is not None:
                _check_is_done(phase, result)
        finally:
            used.life.done()
    except BaseException as error:  # noqa: BLE001  # SystemExit too: a plugin must not end the server
        return _end_in(error) or error
    finally:
        _close(bridge)
    return None


def _complete(phase: str, bridge: AsyncBridge, result: object) -> object:
    """Run the coroutine of a handler, and give its result.

    :raises HandlerError: a PDK call of it was not awaited.
    """
    if inspect.iscoroutine(result):
        try:
            result = bridge.runner.run(result)
        except BaseException:
            bridge.unawaited()  # closes them
            raise
    if unawaited := bridge.unawaited():
        raise HandlerError(f"{phase} did not await {unawaited}, so Kong did not get the call; write await kong...")
    return result


def _end_in(error: BaseException) -> EventEnded | None:
    """Give what says that the event has ended, where an exception, also that of a group of tasks, says nothing else."""
    if isinstance(error, EventEnded):
        return error
    if type(error).__name__ != "BaseExceptionGroup":  # Python 3.10 does not have it
        return None
    ends = [_end_in(part) for part in getattr(error, "exceptions", ())]
    return ends[0] if all(ends) else None


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
    if isinstance(result, (str, bytes, int, float, list, tuple, dict)):
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
        return "an awaitable", "write it as async def, or run async code by asyncio.run(...)"
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
    if bridge.is_expired or (error is not None and not isinstance(error, EventEnded)):
        return ERROR
    return EXIT if bridge.exited else ABORTED


def _answer_failure(channel: Channel) -> None:
    """End the request with status 500 and Kong's own error page.

    In ``certificate`` Kong refuses the call, which makes the handshake fail; in ``preread`` the call ends the stream.

    :raises EventEnded: always.
    """
    plans = channel.plans
    with contextlib.suppress(UnknownFunctionError):
        channel.leave(plans[failure_function(channel.phase)].encode([500]))
        raise EventEnded
    # A stock interface of ProtoBuf:1 does not have kong.response.error, so the page is written here.
    asked = {"kong.request.get_header": "accept", "kong.nginx.get_var": "kong_request_id"}
    accept, request_id = (channel.call(plans[name], plans[name].bytes_of((arg,)))[0] for name, arg in asked.items())
    content_type, body = error_page(accept, UNEXPECTED, request_id)
    channel.leave(plans["kong.response.exit"].encode([500, body, {"content-type": content_type}]))
    raise EventEnded


def fail(channel: Channel, is_open: bool) -> bool:
    """Answer an event whose handler has failed, so that the request ends with status 500. Logs nothing.

    :param is_open: whether the plugin fails open, so that the request goes on.
    :return: whether Kong still waits for the end of the event.
    """
    for _ in range(_TRIES):
        try:
            channel.recover()
            if lets_pass(channel.phase, is_open):
                return True
            _answer_failure(channel)
        except EventEnded:  # noqa: PERF203
            return False
        except BaseException:  # noqa: BLE001  # of a gevent timer that the handler left running, for example
            continue
    channel.drop()
    return False


def log_refusal(instance: Instance, phase: str) -> None:
    """Log and count an event that is not run, since there is no room for it."""
    recorder = recorder_of(instance.plugin.name)
    if recorder is not None:
        recorder.refuse(phase)
    instance.errors.report(
        f"{instance.plugin.name}: {phase} is refused, since too many events run and wait "
        f"({CONCURRENCY.name}, {QUEUE.name})"
    )


def _log_error(instance: Instance, phase: str, error: BaseException, request_id: str | None) -> None:
    of_request = f" (request {request_id})" if request_id else ""
    begin = f"{instance.plugin.name}: the {phase} handler"
    if isinstance(error, HandlerError):  # has no traceback to show
        instance.errors.report(f"{begin} failed ({_place(instance, phase, error)}): {error}")
        return
    place = ""
    with contextlib.suppress(BaseException):
        place = _place(instance, phase, error)
    # Without the text of the exception, which may be another one each time.
    line = f"{begin} raised {type(error).__name__} ({place})"
    instance.errors.report(line, lambda: log_text(f"{begin}{of_request}", error, lambda: place)[1])


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
