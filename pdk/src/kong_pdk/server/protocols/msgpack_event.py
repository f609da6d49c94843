"""The events of MsgPack:1: a handler that gets the values of its calls from any connection."""

from __future__ import annotations

import itertools
import math
import random
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from kong_pdk.server.bridge import Bridge, CallSite, EventEnded, Unanswered
from kong_pdk.server.call_plan import Args, CallPlan, Plans, Result
from kong_pdk.server.connection import ConnectionClosed
from kong_pdk.server.deadlines import EventUnderWay
from kong_pdk.server.engines import Engine, Parking
from kong_pdk.server.event_ids import NUMBERS, event_id
from kong_pdk.server.failure_answers import UNEXPECTED_FAILURE
from kong_pdk.server.instances import Instance
from kong_pdk.wire.msgpack_codec import HANDLER_END

STEP_SECONDS = 60.0
"""How long a handler waits for the value of a call, as long as Kong itself. Kong sends nothing for a refused call."""

BODY_SECONDS = 600.0
"""The same for the request's body, which a slow client may still be sending."""

PATIENCE_SECONDS = 5.0
"""After this time a handler that waits for Kong is ended if another event needs its place."""

_BODIES = frozenset({"kong.request.get_raw_body", "kong.request.get_body"})
_FORM = "application/x-www-form-urlencoded"
_IN_FILE = (
    "the request's body is larger than nginx's buffer and in a file, which Kong does not read over MsgPack:1; use "
    "ProtoBuf:1 (KONG_PYTHON_PROTOCOL=protobuf), or raise KONG_NGINX_HTTP_CLIENT_BODY_BUFFER_SIZE"
)


class Asker(Protocol):
    """The connection of a request, which is answered by the next thing that the handler wants."""

    def answer(self, request_id: int, event: MsgpackEvent, data: bytes) -> None:
        """Send what the handler wants.

        :param data: a PDK call, or the end of the handler.
        :raises ConnectionClosed: Kong closed the connection.
        """
        ...

    def settle(self, event: MsgpackEvent) -> None:
        """Answer a request that an event leaves without an answer at its end."""
        ...


class MsgpackEvent(EventUnderWay):
    """A run of a handler, and its :class:`~kong_pdk.server.bridge.Channel` to Kong."""

    __slots__ = (
        "_delivering", "_parking", "_value", "asker", "bridge", "due", "engine", "failure", "gone", "id", "instance",
        "interrupted", "is_claimed", "is_queued", "on_expired", "patience", "phase", "plans", "request_id",
        "unanswered", "waits_since",
    )  # fmt: skip

    def __init__(self, id: int, phase: str, plans: Plans) -> None:
        """:param id: Kong names it in steps."""
        self.id = id
        self.phase = phase
        self.plans = plans
        self.engine: Engine
        """Runs the handler."""
        self.instance: Instance
        self.bridge: Bridge | None = None
        self.due = math.inf
        self.is_claimed = False
        self.is_queued = False
        self.on_expired: Callable[[], object] = lambda: None
        """Answers in the place of the handler."""
        self.asker: Asker | None = None
        """Waits for the handler's next call or its end, under the number :attr:`request_id`."""
        self.request_id = 0
        self.failure = UNEXPECTED_FAILURE
        """What the client gets if the event ends without an answer to that."""
        self.unanswered: Unanswered | None = None
        self.interrupted = False
        self.gone = False
        """Whether the handler no longer waits for Kong, which may still send a step."""
        self.waits_since: float | None = None
        self.patience = 0.0
        """How long the handler waits for the value of its call, in seconds."""
        self._delivering = threading.Lock()
        self._parking: Parking | None = None
        self._value: tuple[Any, str | None] = (None, None)

    def call(self, plan: CallPlan, data: bytes) -> Result:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        if self.gone or self.interrupted:
            raise EventEnded
        parking = self._parking = self.engine.parking()
        self.patience = BODY_SECONDS if plan.function in _BODIES else STEP_SECONDS
        # Until the value is there, since after an exception in between the next call would get this value.
        self.interrupted = True
        self.waits_since = time.monotonic()
        self._say(data)
        parking.wait()
        value, error = self._value
        self.waits_since = None
        self.interrupted = False
        if self.gone:
            if self.unanswered is not None:
                self.unanswered = Unanswered(self.unanswered.text.format(plan.function))
            raise EventEnded
        return (None, error) if error is not None else plan.decode(value)

    @property
    def timeout(self) -> float:  # type: ignore[override]
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return self.instance.policy.timeout

    @property
    def waits_for(self) -> object:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        bridge = self.bridge
        return self._parking if self.waits_since is not None and (bridge is None or bridge.may_wait) else None

    def give_up(self) -> None:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        self.on_expired()

    def queue(self, plan: CallPlan, data: bytes, site: CallSite) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: over this protocol each call waits for its step."""
        self.call(plan, data)

    def leave(self, data: bytes) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        if self.gone or self.interrupted:
            raise EventEnded
        self._say(data)

    def recover(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: Kong's step with the value is answered by a failure."""
        if self.interrupted:
            self.gone = True
            raise EventEnded

    def drop(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        self.gone = True

    def finish(self) -> None:
        """Tell Kong that the handler has returned.

        :raises EventEnded: Kong has closed the connection that waits for it.
        """
        self._say(HANDLER_END)

    def _say(self, data: bytes) -> None:
        assert self.asker is not None
        try:
            self.asker.answer(self.request_id, self, data)
        except ConnectionClosed:
            self.gone = True
            raise EventEnded from None

    def deliver(self, asker: Asker, request_id: int, value: Any, error: str | None) -> bool:
        """Give the handler the value of its call. Called on the loop.

        :param asker: waits for the next call or the end under the number ``request_id``.
        :return: False where the handler does not wait for a value.
        """
        with self._delivering:
            if self.gone or self.waits_since is None:
                return False
            self.asker, self.request_id = asker, request_id
            self._value = (value, error)
            self.waits_since = None
        self._wake()
        return True

    def close(self) -> None:
        """Take no more values: the handler is done."""
        with self._delivering:
            self.gone = True

    def abandon(self) -> None:
        """End the handler by an exception: Kong is gone, or does not answer."""
        self.gone = True
        self._wake()

    def expire(self) -> None:
        """End a handler for whose call Kong has not brought the value in time."""
        text = f"Kong has not answered {{}} in {self.phase} for {self.patience:g} s"
        self.unanswered = Unanswered(f"{text}: it refused the call (its log says why), or has ended")
        self.abandon()

    def _wake(self) -> None:
        if self._parking is not None:
            self._parking.wake()


def call_get_raw_body(event: MsgpackEvent, plan: CallPlan, args: Args) -> Result:
    """Call ``kong.request.get_raw_body``, unless nginx keeps the body in a file: Kong refuses that, and sends nothing.

    ``get_body`` as a form returns a dict for any body in memory, and nil for a body in a file.
    """
    form = event.plans["kong.request.get_body"]
    found, _ = event.call(form, form.encode([_FORM, 1]))
    return (None, _IN_FILE) if found is None else event.call(plan, plan.encode(args))


class Events:
    """The open events, by id."""

    def __init__(self, slot: int = 0) -> None:
        """:param slot: the number of the worker, which is part of the ids of its events."""
        self._slot = slot
        # A random start: after a crash, a step for an old event must not reach an event of the new process.
        self._numbers = itertools.count(random.randrange(NUMBERS))
        self._events: dict[int, MsgpackEvent] = {}
        self._lock = threading.Lock()

    def begin(self, phase: str, plans: Plans) -> MsgpackEvent:
        """Make an event."""
        with self._lock:
            while True:
                id = event_id(next(self._numbers), phase, self._slot)
                if id not in self._events:
                    break
            event = self._events[id] = MsgpackEvent(id, phase, plans)
            return event

    def get(self, id: int) -> MsgpackEvent | None:
        return self._events.get(id)

    def end(self, event: MsgpackEvent) -> None:
        """Forget an event whose handler is done."""
        self._events.pop(event.id, None)

    def expire(self) -> None:
        """End the handlers for whose calls Kong has not brought the values in time."""
        now = time.monotonic()
        for event in list(self._events.values()):
            since = event.waits_since
            if since is not None and now - since > event.patience and not event.gone:
                event.expire()

    def abandon_oldest(self) -> None:
        """End the handler that has waited longest for Kong, if longer than ``PATIENCE_SECONDS``.

        Kong has most likely refused its call.
        """
        since = {event: event.waits_since for event in list(self._events.values()) if not event.gone}
        waiting = [(moment, event) for event, moment in since.items() if moment is not None]
        moment, oldest = min(waiting, key=lambda each: each[0], default=(math.inf, None))
        if oldest is not None and time.monotonic() - moment > PATIENCE_SECONDS:
            oldest.abandon()

    def abandon_all(self) -> None:
        """End all handlers that wait for Kong, which has closed all connections."""
        for event in list(self._events.values()):
            event.abandon()

    def __len__(self) -> int:
        return len(self._events)
