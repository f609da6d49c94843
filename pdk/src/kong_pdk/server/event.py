"""Events over MsgPack:1: a handler on its thread, and the answers to its calls from any connection."""

from __future__ import annotations

import itertools
import logging
import math
import queue
import random
import threading
import time
from collections.abc import Sequence
from typing import Any

from kong_pdk.protocol import PHASES
from kong_pdk.server.bridge import EventEnded, Message
from kong_pdk.server.pdk_hints import unknown_message
from kong_pdk.settings import MOST_WORKERS
from kong_pdk.wire.msgpack_codec import MAX_MESSAGE, encode_response
from kong_pdk.wire.pdk_values import arguments
from kong_pdk.wire.pdk_values.arguments import for_msgpack
from kong_pdk.wire.pdk_values.results import from_msgpack
from kong_pdk.wire.wire_errors import ArgumentError, too_deep

STEP_SECONDS = 60.0
"""How long a handler waits for the value of a call. Kong says nothing when it refuses one; its own limit is as long."""

BODY_SECONDS = 600.0
"""The same for the request's body, which a slow client may still be sending."""

PATIENCE_SECONDS = 5.0
"""After so long a handler that waits for Kong makes room for another event, where there is no room otherwise."""

_KINDS = 8  # a power of two above the number of phases
_OTHER_PHASE = _KINDS - 1
_NUMBERS = 2**31 // MOST_WORKERS // _KINDS
_BODIES = frozenset({"kong.request.get_raw_body", "kong.request.get_body"})
_FORM = "application/x-www-form-urlencoded"
_IN_FILE = (
    "the request's body is larger than nginx's buffer and in a file, which Kong does not read over MsgPack:1; use "
    "ProtoBuf:1 (KONG_PYTHON_PROTOCOL=protobuf), or raise KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE"
)
_ENDED = object()


def phase_of(event_id: int) -> str:
    """Tell the phase of an event by its id, whichever worker had it; ``access`` where the id tells none."""
    kind = event_id // MOST_WORKERS % _KINDS
    return PHASES[kind] if kind < len(PHASES) else "access"


class Abandoned(Exception):
    """The event ended without another call or an end."""

    def __init__(self, event: Event) -> None:
        super().__init__(event.id)
        self.event = event


class Event:
    """One run of a handler, and its way to Kong (a :class:`~kong_pdk.server.bridge.Channel`)."""

    def __init__(self, id: int, phase: str) -> None:
        """:param id: by which Kong names it in steps."""
        self.id = id
        self.phase = phase
        self.waits_since: float | None = None
        self.messages: list[Message] = []
        self.unanswered: str | None = None
        self.interrupted = False
        self._outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.gone = False
        """Whether the handler waits no longer for Kong, which may still come back."""

    def call(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        if (text := unknown_message(method)) is not None:
            self.messages.append((logging.WARNING, text))
        if method == "kong.request.get_raw_body" and self._is_body_in_file():
            return None, _IN_FILE
        if method == arguments.SET_BODY:
            return arguments.set_body(self._ask, args)
        return self._ask(method, args)

    def _is_body_in_file(self) -> bool:
        """Ask whether nginx keeps the body in a file: Kong would refuse to read it, and say nothing.

        A form is never read from a file. Of any other body its reader makes an argument, or none.
        """
        form, _ = self._ask("kong.request.get_body", [_FORM, 1])
        return form is None

    def _ask(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        output = self._encode(method, args)
        if self.gone or self.interrupted:
            raise EventEnded
        patience = BODY_SECONDS if method in _BODIES else STEP_SECONDS
        self.waits_since = time.monotonic()
        # Until the value is there: an exception in between must not leave it to the next call.
        self.interrupted = True
        self._outputs.put(output)
        try:
            value = self._values.get(timeout=patience)
        except queue.Empty:
            self.gone = True
            self.unanswered = (
                f"Kong has not answered {method} in {self.phase} for {patience:g} s: it refused the call (its log says "
                "why), or has ended"
            )
            value = _ENDED
        self.waits_since = None
        self.interrupted = False
        if self.gone or value is _ENDED:
            raise EventEnded
        data, error = value
        return (None, error) if error is not None else (from_msgpack(method, data), None)

    def leave(self, method: str, args: Sequence[object]) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        output = self._encode(method, args)
        if self.gone or self.interrupted:
            raise EventEnded
        self._outputs.put(output)

    def recover(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: the step with the value is answered by a failure."""
        if self.interrupted:
            self.gone = True
            raise EventEnded

    def drop(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        self.gone = True

    def _encode(self, method: str, args: Sequence[object]) -> dict[str, Any]:
        try:
            call = {"Method": method, "Args": for_msgpack(method, args)}
            size = len(encode_response(0, None, call))  # here, where the author's line is on the stack
        except ArgumentError:
            raise
        except RecursionError as error:
            raise too_deep(method) from error
        except (TypeError, ValueError, OverflowError) as error:
            raise ArgumentError(f"{method}: an argument cannot be sent to Kong: {error}") from error
        if size > MAX_MESSAGE:
            raise ArgumentError(f"{method}: the arguments are {size} bytes long, and at most {MAX_MESSAGE} can be sent")
        return {"Data": call, "EventId": self.id}

    def finish(self) -> None:
        """Say that the handler is done."""
        self._outputs.put({"Data": "ret", "EventId": self.id})

    def next_output(self) -> dict[str, Any]:
        """Wait for the handler's next call, or its end.

        :raises Abandoned: there is neither.
        """
        output = self._outputs.get()
        if output is _ENDED:
            raise Abandoned(self)
        return dict(output)

    def deliver(self, value: Any, error: str | None = None) -> None:
        """Give the handler the value of its call."""
        self._values.put((value, error))

    def abandon(self) -> None:
        """Unwind the handler: Kong is gone, or has long not answered."""
        self.gone = True
        self.waits_since = None
        self._values.put(_ENDED)

    def close(self) -> None:
        """Let go whoever waits for an output that will not come."""
        self._outputs.put(_ENDED)


class Events:
    """The events under way, by id."""

    def __init__(self, slot: int = 0) -> None:
        """Start with none.

        :param slot: the number of the worker; the ids of its events tell it.
        """
        self._slot = slot
        # Not at 1: a step for a server that crashed must not be taken for one of an event of its successor.
        self._numbers = itertools.count(random.randrange(_NUMBERS))
        self._events: dict[int, Event] = {}
        self._lock = threading.Lock()

    def begin(self, phase: str) -> Event:
        """Make an event with an id of its own, which tells the worker and the phase."""
        kind = PHASES.index(phase) if phase in PHASES else _OTHER_PHASE
        with self._lock:
            while True:
                number = next(self._numbers) % _NUMBERS
                id = (number * _KINDS + kind) * MOST_WORKERS + self._slot
                if id not in self._events:
                    break
            event = self._events[id] = Event(id, phase)
            return event

    def get(self, id: int) -> Event | None:
        """Look an event up."""
        return self._events.get(id)

    def end(self, event: Event) -> None:
        """Forget an event whose handler is done."""
        with self._lock:
            self._events.pop(event.id, None)
        event.close()

    def abandon_oldest(self) -> None:
        """Unwind the handler that has waited longest for Kong, if that is long: Kong refused its call, most likely."""
        with self._lock:
            since = {event: event.waits_since for event in self._events.values()}
        waiting = [(moment, event) for event, moment in since.items() if moment is not None]
        moment, oldest = min(waiting, key=lambda each: each[0], default=(math.inf, None))
        if oldest is not None and time.monotonic() - moment > PATIENCE_SECONDS:
            oldest.abandon()

    def abandon_all(self) -> None:
        """Unwind every handler that waits for Kong, which has left."""
        with self._lock:
            events = list(self._events.values())
        for event in events:
            event.abandon()
