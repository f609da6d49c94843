"""Events over MsgPack:1: a handler on its thread gets the values of its calls from any connection."""

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
from kong_pdk.wire.pdk_values.arguments import SET_BODY, for_msgpack, set_body
from kong_pdk.wire.pdk_values.results import from_msgpack
from kong_pdk.wire.wire_errors import ArgumentError, too_deep

STEP_SECONDS = 60.0
"""How long a handler waits for the value of a call, as long as Kong itself. Kong sends nothing for a refused call."""

BODY_SECONDS = 600.0
"""The same for the request's body, which a slow client may still be sending."""

PATIENCE_SECONDS = 5.0
"""After this time a handler that waits for Kong is ended if another event needs its thread."""

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
    """Give the phase of an event of any worker, by its id; ``access`` where the id has none."""
    kind = event_id // MOST_WORKERS % _KINDS
    return PHASES[kind] if kind < len(PHASES) else "access"


class Abandoned(Exception):
    """The handler of an event was ended while Kong waits for its next call."""

    def __init__(self, event: Event) -> None:
        super().__init__(event.id)
        self.event = event


class Event:
    """A run of a handler, and its :class:`~kong_pdk.server.bridge.Channel` to Kong."""

    def __init__(self, id: int, phase: str) -> None:
        """:param id: Kong names it in steps."""
        self.id = id
        self.phase = phase
        self.waits_since: float | None = None
        self.messages: list[Message] = []
        self.unanswered: str | None = None
        self.interrupted = False
        self._outputs: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._values: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.gone = False
        """Whether the handler no longer waits for Kong, which may still send a step."""

    def call(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        if (text := unknown_message(method)) is not None:
            self.messages.append((logging.WARNING, text))
        if method == "kong.request.get_raw_body" and self._is_body_in_file():
            return None, _IN_FILE
        if method == SET_BODY:
            return set_body(self._ask, args)
        return self._ask(method, args)

    def _is_body_in_file(self) -> bool:
        """Ask whether nginx keeps the body in a file: Kong refuses to read it, and sends nothing.

        ``get_body`` as a form returns a dict for any body in memory, and nil for a body in a file.
        """
        form, _ = self._ask("kong.request.get_body", [_FORM, 1])
        return form is None

    def _ask(self, method: str, args: Sequence[object]) -> tuple[Any, str | None]:
        output = self._encode(method, args)
        if self.gone or self.interrupted:
            raise EventEnded
        patience = BODY_SECONDS if method in _BODIES else STEP_SECONDS
        self.waits_since = time.monotonic()
        # Until the value is there, since after an exception in between the next call would get this value.
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
        """See :class:`kong_pdk.server.bridge.Channel`: Kong's step with the value is answered by a failure."""
        if self.interrupted:
            self.gone = True
            raise EventEnded

    def drop(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        self.gone = True

    def _encode(self, method: str, args: Sequence[object]) -> dict[str, Any]:
        try:
            call = {"Method": method, "Args": for_msgpack(method, args)}
            size = len(encode_response(0, None, call))  # on this thread, so that an error has the author's line
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
        """Tell Kong that the handler has returned."""
        self._outputs.put({"Data": "ret", "EventId": self.id})

    def next_output(self) -> dict[str, Any]:
        """Wait for the handler's next call, or its end.

        :raises Abandoned: the handler was ended.
        """
        output = self._outputs.get()
        if output is _ENDED:
            raise Abandoned(self)
        return dict(output)

    def deliver(self, value: Any, error: str | None = None) -> None:
        """Give the handler the value of its call."""
        self._values.put((value, error))

    def abandon(self) -> None:
        """End the handler by an exception: Kong is gone, or does not answer."""
        self.gone = True
        self.waits_since = None
        self._values.put(_ENDED)

    def close(self) -> None:
        """Wake up the thread that waits in :meth:`next_output`."""
        self._outputs.put(_ENDED)


class Events:
    """The open events, by id."""

    def __init__(self, slot: int = 0) -> None:
        """:param slot: the number of the worker, which is part of the ids of its events."""
        self._slot = slot
        # A random start: after a crash, a step for an old event must not reach an event of the new process.
        self._numbers = itertools.count(random.randrange(_NUMBERS))
        self._events: dict[int, Event] = {}
        self._lock = threading.Lock()

    def begin(self, phase: str) -> Event:
        """Make an event. Its id contains the number of the worker and the phase."""
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
        return self._events.get(id)

    def end(self, event: Event) -> None:
        """Forget an event whose handler is done."""
        with self._lock:
            self._events.pop(event.id, None)
        event.close()

    def abandon_oldest(self) -> None:
        """End the handler that has waited longest for Kong, if longer than ``PATIENCE_SECONDS``.

        Kong has most likely refused its call.
        """
        with self._lock:
            since = {event: event.waits_since for event in self._events.values()}
        waiting = [(moment, event) for event, moment in since.items() if moment is not None]
        moment, oldest = min(waiting, key=lambda each: each[0], default=(math.inf, None))
        if oldest is not None and time.monotonic() - moment > PATIENCE_SECONDS:
            oldest.abandon()

    def abandon_all(self) -> None:
        """End all handlers that wait for Kong, which has closed all connections."""
        with self._lock:
            events = list(self._events.values())
        for event in events:
            event.abandon()
