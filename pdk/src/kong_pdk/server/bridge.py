"""The bridge behind ``kong``: takes a call of an author's handler to Kong, and its value back."""

from __future__ import annotations

import inspect
import logging
import sys
import threading
from collections.abc import Coroutine, Sequence
from time import perf_counter
from types import CodeType, FrameType
from typing import Any, NamedTuple, NoReturn, Protocol, TypeAlias

from kong_pdk.errors import PDKError
from kong_pdk.logs import report
from kong_pdk.pdk.kong import kong
from kong_pdk.server.call_plan import REQUEST_ID, CallPlan, Plans, Result
from kong_pdk.server.engines import CoroutineRunner, Engine
from kong_pdk.wire.pdk_values.arguments import prepare

_log = logging.getLogger(__name__)
_SUBSYSTEM = "kong.nginx.get_subsystem"


class EventEnded(BaseException):
    """The event is over for Kong: it got its answer by ``exit``, refused a call, or is gone.

    Not an ``Exception``, so that a plugin's ``except Exception`` does not swallow it; only ``finally`` blocks run.
    """


class EventExpired(EventEnded):
    """The event has taken longer than its timeout. Raised wherever the handler is."""


class Site(NamedTuple):
    """The place of a call, with the names of a frame's attributes."""

    f_code: CodeType
    f_lasti: int


CallSite: TypeAlias = tuple[CallPlan, CodeType, int]
"""A call without a result, for which the handler does not wait, and the code and the instruction that made it."""


def place_of(code: CodeType, instruction: int) -> str:
    """Give ``FILE:LINE`` of a call."""
    lines = (line for start, end, line in code.co_lines() if start <= instruction < end)
    return f"{code.co_filename}:{next(lines, None) or code.co_firstlineno}"


class Unanswered(NamedTuple):
    """The message about a call that Kong refused or never answered."""

    text: str
    place: str = ""
    """``FILE:LINE`` of the call, where the exception that ends the handler does not tell."""


class Channel(Protocol):
    """The connection of an event to Kong, over one of the protocols.

    It runs under the bridge's lock, so it logs nothing: the author's logging handlers may call Kong.
    """

    phase: str

    plans: Plans
    """The plans of the event's phase."""

    unanswered: Unanswered | None
    """What Kong did not answer; None where there is nothing."""

    bridge: Bridge | None
    """The calls of the handler; None while it does not run."""

    is_claimed: bool
    """Whether the event has taken too long, so that others answer it."""

    @property
    def interrupted(self) -> bool:
        """Whether an exception interrupted a call between sending and its whole answer, so that no call can follow."""
        ...

    def call(self, plan: CallPlan, data: bytes) -> Result:
        """Make a PDK call, and return value and error.

        :param data: the bytes of the call, from its plan.
        :raises EventEnded: Kong refused the call, or one before it, or is gone.
        """
        ...

    def queue(self, plan: CallPlan, data: bytes, site: CallSite) -> None:
        """Take a call without a result. Kong makes it before the next call, or the end of the event.

        :raises EventEnded: Kong refused a call, or is gone.
        """
        ...

    def leave(self, data: bytes) -> None:
        """Send a call that Kong does not answer.

        :raises EventEnded: Kong is gone.
        """
        ...

    def recover(self) -> None:
        """Make an answer to Kong possible again after an interrupted call.

        :raises EventEnded: no answer can be made: it is made elsewhere, or Kong is gone.
        """
        ...

    def drop(self) -> None:
        """Give the event up, so that Kong sees that there is no answer."""
        ...


class Bridge:
    """Makes the PDK calls of an event, after a check that Kong allows them in its phase."""

    ended = False
    """Whether the event is over for Kong: it has the answer, refused a call, or is gone."""

    is_expired = False
    """Whether the event was ended by its timeout, and is answered by others than the handler."""

    is_closed = False
    """Whether the handler has returned."""

    where: Any = None
    """Where the handler runs: what its engine needs to interrupt it."""

    exited = False
    """Whether the handler has answered the client, by ``exit`` or ``error``."""

    waited = 0.0
    """The seconds that the calls took, where they are measured."""

    calls: list[str] | None = None
    """The functions that were called, where they are measured."""

    _site: Site | None = None
    """What calls, where the stack does not tell."""

    request_id: str | None = None
    """The id of the request, where the handler has asked Kong for it."""

    _is_late = False
    _is_logging = False
    _subsystem: str | None = None

    def __init__(self, channel: Channel, lua_style: bool = True, measured: bool = False, shown: bool = False) -> None:
        """:param lua_style: return ``(value, err)``, instead of returning the value and raising :class:`PDKError`.

        :param measured: record the calls and how long they take.
        :param shown: log each call, at level debug.
        """
        self._channel = channel
        self._plans = channel.plans
        self._lua_style = lua_style
        self._is_watched = shown
        self._ask, self._queue = channel.call, channel.queue
        if measured:
            self.calls = []
        # Reentrant: an exception from outside while it is acquired must not lock out this thread for good.
        self._calling = threading.RLock()
        self._no_call: str | None = None
        """Why no call can be made now; None where one can."""

    def make_kong(self) -> kong:
        """Make the argument of the handler.

        It leads to the bridge, and the bridge not to it: a circle would stay in memory until the garbage collector
        finds it, and each event would work in memory that the processor has not at hand.
        """
        return kong(self.call, "kong")

    @property
    def is_ended(self) -> bool:
        """Whether the event is over, or an exception interrupted one of its calls."""
        return self._no_call is _ENDED

    def close(self) -> None:
        """Allow no more calls: the handler is done, but a thread that it started may still run.

        Waits for the open call of such a thread, since its answer must not be read as the answer to something else.
        """
        with self._calling:
            self.is_closed = True
            if self._no_call is not _ENDED:
                self._no_call = _CLOSED

    @property
    def may_wait(self) -> bool:
        """Whether an exchange with Kong is a call under way, or the answer after the handler.

        Else an exception has interrupted the call, and the handler does something else.
        """
        return self.is_closed or self._no_call is _IN_CALL

    def expire(self) -> bool:
        """Allow no more calls: the event has taken too long.

        :return: False where the handler has returned, the event is over, or a call is under way. Then the next call
            raises :class:`EventExpired`.
        """
        self._is_late = self._is_watched = True
        if not self._calling.acquire(blocking=False):
            return False
        try:
            # An interrupted call has no answer yet, although no call can follow it.
            if self.is_closed or (self._no_call is not None and (self._no_call is not _ENDED or self.ended)):
                return False
            self._no_call, self.is_expired = _ENDED, True
            return True
        finally:
            self._calling.release()

    def interrupt(self, engine: Engine) -> None:
        """Raise :class:`EventExpired` in the handler, as far as Python allows, unless it has returned."""
        if not self._calling.acquire(blocking=False):
            return
        try:
            if not self.is_closed and self._no_call is not _IN_CALL:
                engine.interrupt(self)
        finally:
            self._calling.release()

    def call(self, function: str, args: Sequence[object]) -> Any:
        """Make one call.

        :param function: the dotted name of the PDK function.
        :return: ``(value, err)`` in Lua style, else the value.
        :raises PhaseError: Kong refuses the function in this phase; nothing was sent.
        :raises UnknownFunctionError: Kong does not have the function; nothing was sent.
        :raises ArgumentError: an argument cannot be sent; nothing was sent.
        :raises EventEnded: after ``exit`` and ``error``, and where Kong refused a call.
        :raises PDKError: Kong returned an error, and the plugin has no Lua style; or the handler is done.
        """
        plan = self._plans[function]
        if plan.needs_care or self._is_watched:
            result = self._call_with_care(plan, args)
        else:
            # As _call_with_care does it, without the calls in between: nearly all calls of a plugin pass here.
            data = plan.bytes_of(args)  # may run the author's code, so without the lock
            with self._calling:
                if self._no_call is not None:
                    self._refuse(function)
                if self.calls is not None:
                    self.calls.append(function)
                self._no_call = _IN_CALL
                try:
                    if plan.has_result and self.calls is None:
                        result = self._ask(plan, data)
                    elif plan.has_result:
                        started = perf_counter()
                        try:
                            result = self._ask(plan, data)
                        finally:
                            self.waited += perf_counter() - started
                    else:
                        author = self._site or sys._getframe(2)  # behind the method of the PDK
                        self._queue(plan, data, (plan, author.f_code, author.f_lasti))
                        result = _NOTHING
                except BaseException as error:
                    self._no_call = self._why_ended(error)
                    raise
                self._no_call = None
        if self._lua_style:
            return result
        if result[1] is not None:
            raise PDKError(f"{function}: {result[1]}")
        return result[0]

    def _why_ended(self, error: BaseException) -> str | None:
        """Give the reason why no call can follow one that has raised; None where one can."""
        if isinstance(error, EventEnded):
            self.ended = True
        return _ENDED if self.ended or self._channel.interrupted else None

    def _refuse(self, function: str) -> NoReturn:
        """Raise why no call can be made now."""
        if self._no_call is _ENDED:
            raise EventEnded
        raise PDKError(f"{function} was called {self._no_call}")

    def _call_with_care(self, plan: CallPlan, args: Sequence[object]) -> Result:
        """Make a call that is watched, or that is not one plain call in every phase."""
        started = perf_counter()
        try:
            if self._is_late and self._no_call is None:
                raise EventExpired
            if self._no_call is not None and self._no_call is not _IN_CALL:
                self._refuse(plan.function)
            if plan.is_refused or plan.depends_on_subsystem:
                self._check_phase(plan)
            # Both may run the author's code, so this is done without the lock.
            data = prepare(plan.function, args) if plan.special else plan.bytes_of(args)
            result = self._send_with_care(plan, data)
            if plan.tells_request_id and args[:1] == (REQUEST_ID,) and isinstance(result[0], str):
                self.request_id = result[0]
            return result
        finally:
            seconds = perf_counter() - started
            self.waited += seconds
            if self.calls is not None:
                self.calls.append(plan.function)
            if self._is_watched or plan.notice is not None:
                self._log_call(plan, seconds)

    def _send_with_care(self, plan: CallPlan, data: Any) -> Result:
        """Make a call whose bytes, or prepared arguments, are ready."""
        with self._calling:
            if self._no_call is not None:
                self._refuse(plan.function)
            self._no_call = _IN_CALL
            try:
                result = self._send(plan, data)
            except BaseException as error:
                self._no_call = self._why_ended(error)
                raise
            self._no_call = None
            return result

    def _send(self, plan: CallPlan, data: Any) -> Result:
        if plan.special is not None:
            return plan.special(self._channel, plan, data)
        if plan.is_exit:
            self._channel.leave(data)
            self.exited = True
            raise EventEnded
        if plan.has_result:
            return self._channel.call(plan, data)
        author = self._site or _author_of(sys._getframe(1))
        self._channel.queue(plan, data, (plan, author.f_code, author.f_lasti))
        return _NOTHING

    def _check_phase(self, plan: CallPlan) -> None:
        """Check that Kong allows a call; a phase ``log`` may be that of a request or of a stream, so ask Kong once."""
        if self._subsystem is None and plan.depends_on_subsystem:
            asked = self._plans[_SUBSYSTEM]
            self._subsystem = str(self._send_with_care(asked, asked.bytes_of(()))[0] or "http")
        plan.check_phase(self._channel.phase, self._subsystem or "http")

    def _log_call(self, plan: CallPlan, seconds: float) -> None:
        """Log a call, without the lock: the author's logging handlers may call Kong."""
        if self._is_logging:
            return
        self._is_logging = True
        try:
            if plan.notice is not None:
                notice, plan.notice = plan.notice, None
                report(_log, logging.WARNING, notice)
            if self._is_watched:
                report(_log, logging.DEBUG, "%s in %s, %.3f ms", plan.function, self._channel.phase, seconds * 1000)
        finally:
            self._is_logging = False


class AsyncBridge(Bridge):
    """Makes the PDK calls of an event whose handler is a coroutine: each call is a coroutine, which must be awaited."""

    def __init__(
        self,
        runner: CoroutineRunner,
        channel: Channel,
        lua_style: bool = True,
        measured: bool = False,
        shown: bool = False,
    ) -> None:
        """:param runner: runs the handler and the calls; the others as in :class:`Bridge`."""
        super().__init__(channel, lua_style, measured, shown)
        self.runner = runner
        self._unawaited: dict[int, tuple[str, Site, Coroutine[Any, Any, Any]]] = {}

    def make_kong(self) -> kong:
        """See :meth:`Bridge.make_kong`."""
        return kong(self.make, "kong")

    def make(self, function: str, args: Sequence[object]) -> Coroutine[Any, Any, Any]:
        """Make the coroutine of a call. See :meth:`Bridge.call`, which it calls when it is awaited."""
        author = sys._getframe(2)  # behind the method of the PDK
        site = Site(author.f_code, author.f_lasti)
        coroutine = self._call(site, function, args)
        self._unawaited[id(site)] = function, site, coroutine
        return coroutine

    async def _call(self, site: Site, function: str, args: Sequence[object]) -> Any:
        self._unawaited.pop(id(site), None)
        return await self.runner.call(self._call_from, site, function, args)

    def _call_from(self, site: Site, function: str, args: Sequence[object]) -> Any:
        self._site = site
        return self.call(function, args)

    def unawaited(self) -> str | None:
        """Name the calls that nobody has awaited, so that Kong has not got them; None where there are none.

        A task that was cancelled before it began is no mistake: its coroutine is closed.
        """
        found = [each for each in self._unawaited.values() if inspect.getcoroutinestate(each[2]) != inspect.CORO_CLOSED]
        self._unawaited.clear()
        for _, _, coroutine in found:
            coroutine.close()  # else Python warns as well
        return ", ".join(f"{function} ({place_of(*site)})" for function, site, _ in found) or None


# Why no call can be made, in words that follow "kong.request.get_header was called".
_IN_CALL = "in the middle of another PDK call, on the same thread"  # by a __del__, or a signal handler
_CLOSED = "after the handler of its event had returned"
_ENDED = "after its event had ended"

_CALL = Bridge.call.__code__


def _author_of(frame: FrameType) -> FrameType:
    """Give the frame of the author's code, behind a frame of the bridge."""
    while frame.f_code is not _CALL and frame.f_back is not None:
        frame = frame.f_back
    for _ in range(2):  # the method of the PDK, then the author's code
        frame = frame.f_back or frame
    return frame


_NOTHING: Result = (None, None)
