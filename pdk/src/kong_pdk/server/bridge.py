"""The bridge behind ``kong``: takes a call of an author's handler to Kong, and its value back."""

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

_log = logging.getLogger(__name__)
_SET_UPSTREAM = "kong.service.set_upstream"  # Kong returns nil and a message, of which only nil arrives
Message: TypeAlias = tuple[int, str]
"""Level and text of a log line."""


class EventEnded(BaseException):
    """The event is over for Kong: it got its answer by ``exit``, refused a call, or is gone.

    Not an ``Exception``, so that a plugin's ``except Exception`` does not swallow it; only ``finally`` blocks run.
    """


class Channel(Protocol):
    """The connection of an event to Kong, over one of the protocols.

    A channel logs nothing itself: it runs under the bridge's lock, and the author's logging handlers may call Kong. It
    puts log lines into ``messages``, and the bridge logs them.
    """

    messages: list[Message]

    unanswered: str | None
    """The message about a call that Kong refused or never answered; None where there is none."""

    @property
    def interrupted(self) -> bool:
        """Whether an exception interrupted a call between sending and its whole answer, so that no call can follow."""
        ...

    def call(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        """Send a PDK call to Kong, and return value and error.

        :raises EventEnded: Kong refused the call, or is gone.
        :raises ArgumentError: the protocol cannot carry an argument.
        :raises UnknownMethod: the interface does not have the method.
        """
        ...

    def leave(self, method: str, args: Sequence[object]) -> None:
        """Send a call that Kong does not answer."""
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

    exited = False
    """Whether the handler has answered the client, by ``exit`` or ``error``."""

    waited = 0.0
    """The seconds that the calls took, where they are measured."""

    def __init__(self, channel: Channel, phase: str, lua_style: bool = True, measured: bool = False) -> None:
        """:param lua_style: return ``(value, err)``, instead of returning the value and raising :class:`PDKError`.

        :param measured: record the calls and how long they take.
        """
        self._channel = channel
        self._phase = phase
        self._lua_style = lua_style
        self._subsystem: str | None = None
        self.ended = False
        """Whether the event is over for Kong: it has the answer, refused a call, or is gone."""
        self.calls: list[str] | None = [] if measured else None
        """The functions that were called, where they are measured."""
        self._closed = False
        # Reentrant: an exception from outside while it is acquired must not lock out this thread for good.
        self._calling = threading.RLock()
        self._in_call = False
        self._logging = False
        self.kong = kong(self.call, "kong")

    def close(self) -> None:
        """Allow no more calls: the handler is done, but a thread that it started may still run.

        Waits for the open call of such a thread, since its answer must not be read as the answer to something else.
        """
        with self._calling:
            self._closed = True

    def call(self, method: str, args: Sequence[object]) -> Any:
        """Make one call.

        :param method: the dotted name of the PDK function.
        :return: ``(value, err)`` in Lua style, else the value.
        :raises PhaseError: Kong refuses the method in this phase; nothing was sent.
        :raises UnknownFunctionError: Kong does not have the method; nothing was sent.
        :raises ArgumentError: an argument cannot be sent; nothing was sent.
        :raises EventEnded: after ``exit`` and ``error``, and where Kong refused the call.
        :raises PDKError: Kong returned an error, and the plugin has no Lua style; or the handler is done.
        """
        started = time.perf_counter()
        try:
            self._check_open(method)
            self._check_phase(method)
            prepared = prepare(method, args)  # may run the author's code, so without the lock
            value, error = self._make_locked(method, prepared)
        finally:
            self._log_call(method, time.perf_counter() - started)
        if self._lua_style:
            return value, error
        if error is not None:
            raise PDKError(f"{method}: {error}")
        return value

    def _check_open(self, method: str) -> None:
        if self._closed:
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
        """Ask Kong, once for an event, whether this is the ``log`` of a request or of a stream."""
        if self._subsystem is None:
            value, _ = self._make_locked("kong.nginx.get_subsystem", ())
            self._subsystem = str(value or "http")
        return self._subsystem

    def _make_locked(self, method: str, prepared: Sequence[object]) -> tuple[Any, str | None]:
        with self._calling:
            if self._in_call:  # by a __del__, or a signal handler
                raise PDKError(f"{method} was called in the middle of another PDK call, on the same thread")
            self._check_open(method)
            if self._channel.interrupted:
                raise EventEnded
            self._in_call = True
            started = time.perf_counter()
            try:
                return self._make(method, prepared)
            finally:
                if self.calls is not None:
                    self.calls.append(method)
                    self.waited += time.perf_counter() - started
                self._in_call = False

    def _make(self, method: str, prepared: Sequence[object]) -> tuple[Any, str | None]:
        try:
            if method in EXITS:
                self._channel.leave(method, prepared)
                self.exited = True
                raise EventEnded
            value, error = self._channel.call(method, prepared)
            if value is None and error is None and method == _SET_UPSTREAM:
                name = prepared[0] if prepared else ""
                error = f"Kong has no upstream {name!r}: the request goes where it would have gone"
            return value, error
        except EventEnded:
            self.ended = True
            raise
        except UnknownMethod as error:
            raise UnknownFunctionError(method, str(error)) from None

    def _log_call(self, method: str, seconds: float) -> None:
        """Log a call and the messages of the channel, without the lock: the author's logging handlers may call Kong."""
        if self._logging or not (self._channel.messages or _log.isEnabledFor(logging.DEBUG)):
            return
        self._logging = True
        try:
            while self._channel.messages:
                report(_log, *self._channel.messages.pop(0))
            report(_log, logging.DEBUG, "%s in %s, %.3f ms", method, self._phase, seconds * 1000)
        finally:
            self._logging = False
