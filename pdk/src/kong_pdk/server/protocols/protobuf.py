"""ProtoBuf:1: an event and its PDK calls stay on one connection, which serves one event at a time."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kong_pdk.logs import report
from kong_pdk.server import engines
from kong_pdk.server.bridge import CallSite, EventEnded, Unanswered, place_of
from kong_pdk.server.call_plan import (
    Args,
    CallPlan,
    Plans,
    PlansByPhase,
    Result,
    Special,
    call_set_body,
    plan_of_method,
    plan_without_method,
)
from kong_pdk.server.connection import Connection, ConnectionClosed
from kong_pdk.server.engines import Engine
from kong_pdk.server.event_record import (
    IDLE,
    OWED,
    PHASE_NUMBERS,
    PROTOBUF_ANSWER,
    PROTOBUF_CALL,
    READING,
    STATE,
    note_protobuf_event,
)
from kong_pdk.server.handler import fail, run_handler
from kong_pdk.server.instances import Instance
from kong_pdk.server.instances.administration import InstanceStartError, answer_call, find, start
from kong_pdk.server.protocols import Serving
from kong_pdk.wire.calls import Call, HandleEvent, StartInstance
from kong_pdk.wire.interface import Interface
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.arguments import SET_BODY
from kong_pdk.wire.pdk_values.results import HEADERS_OF, query_argument
from kong_pdk.wire.protobuf_codec import EventCalls, decode_call, encode_return, event_end, frame
from kong_pdk.wire.text import decode
from kong_pdk.wire.wire_errors import UnknownMethod, WireError

_log = logging.getLogger(__name__)
_MOST_HEADERS = 1000  # Kong's own limit
_REFUSE_SECONDS = 1.0
RECOVER_SECONDS = 60.0
"""How long to wait for each part of the reply to an interrupted call; Kong's own limit is as long."""

_stock_plan = functools.lru_cache(64)(plan_of_method)
_REFUSED = "Kong refused {} in {} (its log says why), or has ended"


class ProtobufEvent:
    """The PDK calls of an event, on the event's connection: a :class:`~kong_pdk.server.bridge.Channel`."""

    __slots__ = ("_connection", "_interface", "is_last", "phase", "plans", "unanswered")

    def __init__(self, connection: Connection, phase: str, plans: Plans, interface: Interface) -> None:
        self._connection = connection
        self.phase = phase
        self.plans = plans
        self._interface = interface
        self.unanswered: Unanswered | None = None
        self.is_last = False
        """Whether the connection is closed after this event."""

    @property
    def interrupted(self) -> bool:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        return self._connection.is_interrupted

    def call(self, plan: CallPlan, data: bytes) -> Result:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        try:
            reply = self._connection.ask(data, plan.function)
        except (ConnectionClosed, WireError) as error:
            raise self._refused(error, plan.function) from None
        return plan.decode(reply)

    def queue(self, plan: CallPlan, data: bytes, site: CallSite) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: it is sent with what follows.

        A line for Kong's log is sent at once, so that it has the time at which it was written.
        """
        try:
            self._connection.queue(data, site)
            if plan.is_urgent:
                self._connection.flush()
        except (ConnectionClosed, WireError) as error:
            raise self._refused(error, plan.function) from None

    def leave(self, data: bytes) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        try:
            self._connection.tell(data)
        except ConnectionClosed as error:
            raise self._refused(error, "") from None

    def _refused(self, error: ConnectionClosed | WireError, function: str) -> EventEnded:
        self.is_last = True
        first = error.first_unanswered if isinstance(error, ConnectionClosed) else None
        if isinstance(first, tuple):
            self.unanswered = refused(first, self.phase)
        elif first or function:
            self.unanswered = Unanswered(_REFUSED.format(first or function, self.phase))
        return EventEnded()

    def recover(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: reads the reply of the interrupted call, and drops it."""
        if not self.interrupted:
            return
        self.is_last = True
        self._connection.seconds = RECOVER_SECONDS
        try:
            self._connection.finish()
        except (ConnectionClosed, WireError, TimeoutError):
            raise EventEnded from None
        self._connection.seconds = None

    def stock_plan(self, function: str) -> CallPlan:
        """Give the plan of Kong's own method for a function, where our extension has a second one."""
        return _stock_plan(self._interface.method(function), self.phase)

    def drop(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        self.is_last = True


class ProtobufServer:
    """ProtoBuf:1 of a server."""

    def __init__(self, serving: Serving, interface: Interface) -> None:
        """:param interface: the methods that Kong has."""
        self.serving = serving
        self.interface = interface
        self.event_calls = EventCalls()
        self.plans = PlansByPhase(self._plan)

    def serve(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        connection.on_readable = _Session(self, connection).readable

    def _plan(self, phase: str, function: str) -> CallPlan:
        try:
            method = self.interface.choose(function, phase)
        except UnknownMethod:
            return plan_without_method(function, phase)
        special = _SPECIALS.get(function)
        return plan_of_method(method, phase, special.call if special and special.applies(method, phase) else None)


class _Session:
    """A connection."""

    def __init__(self, server: ProtobufServer, connection: Connection) -> None:
        self._server = server
        self._serving = server.serving
        self._connection = connection
        # The event under way, and what is done with it.
        self._event: HandleEvent
        self._sequence: bytes
        self._instance: Instance
        self._engine: Engine
        self._run_event = functools.partial(self._do, self._serve_event)
        self._refuse_event = functools.partial(self._do, self._refuse)

    def readable(self) -> None:
        """Read what has come; called on the loop, which gives the connection away by that."""
        connection, serving = self._connection, self._serving
        connection.record[STATE] = READING
        try:
            payload = connection.next_frame()
            if payload is None:
                self._keep()
                return
            event = self._server.event_calls.decode(payload)
        except ConnectionClosed as error:
            self._report_refusal(error)
            serving.forget(connection)
        except WireError as error:
            report(_log, logging.ERROR, "closed a connection of a peer that does not speak ProtoBuf:1: %s", error)
            serving.forget(connection)
        else:
            if event is None:
                call = decode_call(payload)
                connection.record[STATE] = PROTOBUF_CALL
                self._help(functools.partial(self._administer, *call))
            elif (instance := serving.instances.ready(event[1].instance_id)) is None:
                note_protobuf_event(connection.record, PHASE_NUMBERS.get(event[1].event_name, 0), event[0])
                self._help(functools.partial(self._find, *event))
            else:
                self._handle(*event, instance)

    def _keep(self) -> None:
        """Give the connection back to the loop: nothing but replies to earlier calls has come, or a part of a frame."""
        connection = self._connection
        if not connection.owed:
            self._serving.loop_here.owed.discard(connection.fd)
        self._note_idle()
        self._serving.loop_here.keep(connection)

    def _note_idle(self) -> None:
        connection = self._connection
        connection.record[OWED] = connection.owed
        connection.record[STATE] = READING if connection.has_unread else IDLE

    def _report_refusal(self, error: ConnectionClosed) -> None:
        """Log that Kong refused a call without a result, after the event's end."""
        if isinstance(error.first_unanswered, tuple):
            unanswered = refused(error.first_unanswered, self._event.event_name)
            report(_log, logging.ERROR, "%s: %s (%s)", self._instance.plugin.name, unanswered.text, unanswered.place)

    def _find(self, sequence: bytes, event: HandleEvent) -> bool | None:
        """Make an instance that only another worker has, then run the handler."""
        try:
            instance = find(self._serving.instances, event.instance_id)
        except InstanceStartError:
            channel = self._channel(event.event_name)
            return self._end(channel, fail(channel), sequence)
        if instance is None:  # Kong starts the instance again, and repeats the event
            report(_log, logging.INFO, "there is no instance %d here: Kong starts it again", event.instance_id)
            return False
        self._serving.loop_here.call(functools.partial(self._handle, sequence, event, instance))
        return None

    def _handle(self, sequence: bytes, event: HandleEvent, instance: Instance) -> None:
        """Let the phase's engine run the handler."""
        self._event, self._sequence, self._instance = event, sequence, instance
        note_protobuf_event(self._connection.record, PHASE_NUMBERS.get(event.event_name, 0), sequence)
        engine = self._engine = self._serving.engine_of(instance, event.event_name)
        self._give(engine)
        engine.run(self._run_event, self._refuse_event)
        if engine.is_full:
            self._serving.look_soon()

    def _help(self, job: Callable[[], bool | None]) -> None:
        """Let a thread serve a call that may block."""
        helpers = self._serving.helpers
        self._give(helpers)
        helpers.run(functools.partial(self._do, job), functools.partial(self._do, lambda: False))
        if helpers.is_full:
            self._serving.look_soon()

    def _give(self, engine: Engine) -> None:
        """Give the connection to an engine."""
        serving, connection = self._serving, self._connection
        serving.running.add(self)
        loop = serving.loop_here
        loop.owed.discard(connection.fd)  # the event reads them, and the server waits for it
        waits = connection.waits = engine.waits
        if waits.blocks:
            loop.give_away(connection)

    def _do(self, job: Callable[[], bool | None]) -> None:
        """Do a job and give the connection back. The job tells whether it stays open; None where it passes it on."""
        is_open: bool | None = False
        try:
            is_open = job()
        except ConnectionClosed as error:
            self._report_refusal(error)
        except TimeoutError:
            pass
        except BaseException:  # noqa: BLE001  # other connections must go on
            _log.exception("a connection ended by a defect of the plugin server")
        finally:
            if is_open is not None:
                serving, connection = self._serving, self._connection
                if is_open and connection.owed:  # a server that stops waits for the replies
                    serving.loop_here.owed.add(connection.fd)
                self._note_idle()
                serving.ended(self)  # before the next event can begin
                if is_open:
                    serving.loop_here.release(connection)  # the loop may have been replaced meanwhile
                else:
                    serving.forget(connection)

    def _serve_event(self) -> bool:
        channel = self._channel(self._event.event_name)
        return self._end(channel, run_handler(self._instance, channel, self._engine), self._sequence)

    def _channel(self, phase: str) -> ProtobufEvent:
        return ProtobufEvent(self._connection, phase, self._server.plans.of(phase), self._server.interface)

    def _end(self, channel: ProtobufEvent, waits: bool, sequence: bytes) -> bool:
        if waits:
            self._connection.record[STATE] = PROTOBUF_ANSWER
            self._connection.tell(event_end(sequence))
        # Else Kong closes the connection once it has answered its client: the next read returns end of file.
        return not channel.is_last

    def _refuse(self) -> bool:
        """Answer an event for which there is no room. At the end of the server, Kong repeats it elsewhere."""
        if self._serving.is_stopping:
            return False
        phase = self._event.event_name
        report(_log, logging.ERROR, "all %d handlers are busy: %s cannot run", engines.MOST_HANDLERS, phase)
        self._connection.seconds = _REFUSE_SECONDS
        fail(self._channel(phase))
        return False

    def _administer(self, sequence: int, call: Call) -> bool:
        """Answer a call; the protocol reports an error by closing the connection."""
        instances = self._serving.instances
        if isinstance(call, StartInstance):
            try:
                status = start(instances, call)
            except InstanceStartError:
                return False
            self._connection.tell(frame(encode_return(sequence, status)))
        else:
            self._connection.tell(frame(encode_return(sequence, answer_call(instances, call))))
        return True


def refused(site: CallSite, phase: str) -> Unanswered:
    """Make the message about a call without a result that Kong refused, which shows at a later one."""
    return Unanswered(_REFUSED.format(site[0].function, phase), place_of(*site[1:]))


class _Special(NamedTuple):
    """What makes a PDK call out of several ones, and where that is needed."""

    call: Special
    applies: Callable[[Method, str], bool] = lambda method, phase: True


def _call(channel: ProtobufEvent, function: str, args: Args) -> Result:
    """Call a function with prepared arguments."""
    plan = channel.plans[function]
    if plan.special is not None:
        return plan.special(channel, plan, args)
    return channel.call(plan, plan.encode(args))


def _get_query_arg(channel: ProtobufEvent, plan: CallPlan, args: Args) -> Result:
    if len(args) != 1 or not isinstance(args[0], (str, bytes)):
        return channel.call(plan, plan.encode(args))
    name = decode(args[0]) if isinstance(args[0], bytes) else args[0]
    return query_argument(name, lambda: _call(channel, "kong.request.get_query", ())[0]), None


def _get_header(channel: ProtobufEvent, plan: CallPlan, args: Args) -> Result:
    """In ``log``, look in all headers whether a header is empty or missing: the result message does not tell."""
    value, error = channel.call(plan, plan.encode(args))
    if value is not None:
        return value, error
    headers, _ = _call(channel, HEADERS_OF[plan.function], [_MOST_HEADERS])
    name = decode(args[0]) if isinstance(args[0], bytes) else str(args[0])
    return "" if name.lower().replace("_", "-") in headers else None, None


def _load_consumer(channel: ProtobufEvent, plan: CallPlan, args: Args) -> Result:
    """Ask first whether the consumer exists.

    Where it does not, Kong's function gives no value at all for an id, which Kong cannot put into a ``Value``: it ends
    the request with status 500.
    """
    if not any(args[1:]):
        stock = channel.stock_plan(plan.function)
        found, error = channel.call(stock, stock.encode(args))
        if found is None:
            return None, error
    return channel.call(plan, plan.encode(args))


def _authenticate(channel: ProtobufEvent, plan: CallPlan, args: Args) -> Result:
    """Use Kong's own message where there is no consumer: of a list Kong ignores everything from a nil on."""
    if args and args[0] is None:
        plan = channel.stock_plan(plan.function)
    return channel.call(plan, plan.encode(args))


_SPECIALS: Mapping[str, _Special] = {
    SET_BODY: _Special(call_set_body),
    "kong.client.authenticate": _Special(_authenticate, lambda method, phase: method.input == "ListValue"),
    "kong.client.load_consumer": _Special(_load_consumer, lambda method, phase: method.output == "Value"),
    "kong.request.get_query_arg": _Special(_get_query_arg, lambda method, phase: method.output == "String"),
    **dict.fromkeys(
        HEADERS_OF, _Special(_get_header, lambda method, phase: method.output == "String" and phase == "log")
    ),
}
