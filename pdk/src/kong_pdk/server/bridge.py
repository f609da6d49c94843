"""The bridge behind ``kong``: from a call in an author's handler to Kong and back."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Any, Protocol

from kong_pdk.errors import PDKError, PhaseError, UnknownFunctionError
from kong_pdk.pdk.kong import absent, kong
from kong_pdk.server.arguments import EXITS, without_holes
from kong_pdk.server.exits import EventEnded
from kong_pdk.wire.errors import UnknownMethod
from kong_pdk.wire.phases import allowed, depends_on_subsystem, phases_of

_log = logging.getLogger(__name__)


class Channel(Protocol):
    """An event's way to Kong, over one of the protocols."""

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
        """Whether Kong waits for nothing more: the answer is made, or Kong is gone."""
        self.calls: list[str] | None = [] if measured else None
        """The functions that were called, where they are noted."""
        self._over = False
        self._one_at_a_time = threading.Lock()
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
        with self._one_at_a_time:
            value, error = self._send(method, args)
        if self._lua_style:
            return value, error
        if error is not None:
            raise PDKError(f"{method}: {error}")
        return value

    def _send(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        if self._over:
            raise PDKError(f"{method} was called after the handler of its event had returned")
        if self.ended:
            raise EventEnded
        self._check_phase(method)
        started = time.perf_counter()
        try:
            given = without_holes(method, args)
            if method in EXITS:
                self._channel.leave(method, given)
                self.exited = True
                raise EventEnded
            return self._channel.call(method, given)
        except EventEnded:
            self.ended = True
            raise
        except UnknownMethod as error:
            raise UnknownFunctionError(method, str(error)) from None
        finally:
            if self.calls is not None:
                self.calls.append(method)
                self.waited += time.perf_counter() - started
            if _log.isEnabledFor(logging.DEBUG):
                _log.debug("%s in %s, %.3f ms", method, self._phase, (time.perf_counter() - started) * 1000)

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
            value, _ = self._channel.call("kong.nginx.get_subsystem", ())
            self._subsystem = str(value or "http")
        return self._subsystem
