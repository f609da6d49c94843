"""The bridge behind ``kong``: from a call in an author's handler to Kong and back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol, TypeAlias

from kong_pdk.errors import PDKError, PhaseError, UnknownFunctionError
from kong_pdk.logs import report
from kong_pdk.pdk.kong import absent, kong
from kong_pdk.wire.pdk_functions import allowed, depends_on_subsystem, phases_of
from kong_pdk.wire.pdk_values.arguments import EXITS, prepare
from kong_pdk.wire.wire_errors import UnknownMethod


class EventEnded(BaseException):
    """Kong waits for nothing more of this event: it got its answer by ``exit``, refused a call, or is gone.

    No ``Exception``, so that a plugin's ``except Exception`` does not swallow it; only ``finally`` blocks run.
    """


_log = logging.getLogger(__name__)
_SET_UPSTREAM = "kong.service.set_upstream"  # Kong gives nil and a message, which does not travel
Message: TypeAlias = tuple[int, str]
"""Level and text of a line of the log."""


class Channel(Protocol):
    """An event's way to Kong, over one of the protocols.

    No function of a channel logs anything: it runs under the bridge's lock, and a logging handler of the author's may
    call Kong. What there is to say is in ``messages``, for the bridge to take.
    """

    messages: list[Message]

    unanswered: str | None
    """What there is to say of a call that Kong refused, or that it never answered."""

    @property
    def interrupted(self) -> bool:
        """Whether an exception struck between the sending of a call and its whole answer: none can be made any more."""
        ...

    def call(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        """Have Kong make a PDK call, and give value and error.

        :raises EventEnded: Kong refused the call, or is gone.
        :raises ArgumentError: the protocol cannot carry an argument.
        :raises UnknownMethod: the protocol does not know the method.
        """
        ...

    def leave(self, method: str, args: Sequence[object]) -> None:
        """Have Kong make a call that it does not answer."""
        ...

    def recover(self) -> None:
        """Make an answer to Kong possible again after a call that was interrupted.

        :raises EventEnded: there is no answer to make: it is made elsewhere, or Kong is gone.
        """
        ...

    def drop(self) -> None:
        """Give the event up: Kong is to see that there is no answer."""
        ...


class Bridge:
    """Makes the PDK calls of one event, after checking that Kong would make them in this phase."""

    exited = False
    """Whether the handler made the answer."""

    waited = 0.0
    """The seconds that the calls took, where they are noted."""

    def __init__(self, channel: Channel, phase: str, lua_style: bool = True, measured: bool = False) -> None:
        """:param lua_style: give ``(value, err)`` rather than the value, or :class:`PDKError`.

        :param measured: note the calls and how long they take.
        """
        self._channel = channel
        self._phase = phase
        self._lua_style = lua_style
        self._subsystem: str | None = None
        self.ended = False
        """Whether Kong waits for nothing more of the handler: the answer is made, or Kong refused a call or is gone."""
        self.calls: list[str] | None = [] if measured else None
        """The functions that were called, where they are noted."""
        self._over = False
        # One that knows its thread: an exception that strikes while it is taken must not lock the thread out for good.
        self._one_at_a_time = threading.RLock()
        self._in_call = False
        self._logging = False
        self.kong = kong(self.call, "kong")

    def close(self) -> None:
        """Let nothing more out: the handler is done, a thread that it left behind may not be.

        A call that this thread has under way is waited for, as its answer is not to be taken for something else.
        """
        with self._one_at_a_time:
            self._over = True

    def call(self, method: str, args: Sequence[object]) -> Any:
        """Make one call.

        :raises PhaseError: Kong refuses the method in this phase; nothing was sent.
        :raises UnknownFunctionError: Kong cannot be asked for it; nothing was sent.
        :raises ArgumentError: an argument that cannot be sent; nothing was sent.
        :raises EventEnded: after ``exit`` and ``error``, and where Kong refused the call.
        :raises PDKError: Kong gave an error and the style is Python's; or the event is over.
        """
        started = time.perf_counter()
        try:
            self._check_open(method)
            self._check_phase(method)
            given = prepare(method, args)  # runs code of the author's: outside of the lock
            value, error = self._make_alone(method, given)
        finally:
            self._say(method, time.perf_counter() - started)
        if self._lua_style:
            return value, error
        if error is not None:
            raise PDKError(f"{method}: {error}")
        return value

    def _check_open(self, method: str) -> None:
        if self._over:
            raise PDKError(f"{method} was called after the handler of its event had returned")
        if self.ended:
            raise EventEnded

    def _check_phase(self, method: str) -> None:
        if self._phase == "log" and depends_on_subsystem(method):
            verdict = allowed(method, "log", self._ask_subsystem())
        else:
            verdict = allowed(method, self._phase)
        if verdict is False:
            phases = phases_of(method, self._subsystem or "http")
            raise PhaseError(method, self._phase, phases, absent.REFUSED.get(method))

    def _ask_subsystem(self) -> str:
        """Ask Kong, once an event, whether this is the ``log`` of a request or of a stream."""
        if self._subsystem is None:
            value, _ = self._make_alone("kong.nginx.get_subsystem", ())
            self._subsystem = str(value or "http")
        return self._subsystem

    def _make_alone(self, method: str, given: Sequence[object]) -> tuple[Any, str | None]:
        with self._one_at_a_time:
            if self._in_call:  # a __del__, or a signal handler
                raise PDKError(f"{method} was called in the middle of another PDK call, on the same thread")
            self._check_open(method)
            if self._channel.interrupted:
                raise EventEnded
            self._in_call = True
            started = time.perf_counter()
            try:
                return self._make(method, given)
            finally:
                if self.calls is not None:
                    self.calls.append(method)
                    self.waited += time.perf_counter() - started
                self._in_call = False

    def _make(self, method: str, given: Sequence[object]) -> tuple[Any, str | None]:
        try:
            if method in EXITS:
                self._channel.leave(method, given)
                self.exited = True
                raise EventEnded
            value, error = self._channel.call(method, given)
            if value is None and error is None and method == _SET_UPSTREAM:
                error = f"Kong has no upstream {given[0] if given else ''!r}: the request goes where it would have gone"
            return value, error
        except EventEnded:
            self.ended = True
            raise
        except UnknownMethod as error:
            raise UnknownFunctionError(method, str(error)) from None

    def _say(self, method: str, seconds: float) -> None:
        """Log a call, and what the channel has to say: a logging handler of the author's may call Kong meanwhile."""
        if self._logging or not (self._channel.messages or _log.isEnabledFor(logging.DEBUG)):
            return
        self._logging = True
        try:
            while self._channel.messages:
                report(_log, *self._channel.messages.pop(0))
            report(_log, logging.DEBUG, "%s in %s, %.3f ms", method, self._phase, seconds * 1000)
        finally:
            self._logging = False
