"""ProtoBuf:1: an event and its PDK calls stay on one connection, which serves one event at a time."""

from __future__ import annotations

import functools
import logging
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import NamedTuple

from kong_pdk.logs import report
from kong_pdk.server.bridge import Bridge, CallSite, EventEnded, Unanswered, place_of
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
from kong_pdk.server.deadlines import CallUnderWay, EventUnderWay, UnderWay
from kong_pdk.server.engines import Engine, Job
from kong_pdk.server.event_record import (
    IDLE,
    OPEN,
    OWED,
    PHASE_NUMBERS,
    PROTOBUF_ANSWER,
    PROTOBUF_CALL,
    READING,
    STATE,
    due_of,
    note_protobuf_event,
    set_due,
)
from kong_pdk.server.failure_answers import OVERLOAD, FailureAnswers
from kong_pdk.server.handler import fail, log_refusal, run_handler
from kong_pdk.server.instances import Instance
from kong_pdk.server.instances.administration import InstanceStartError, answer_call, find, start
from kong_pdk.server.protocols import REFUSE_SECONDS, Serving
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
RECOVER_SECONDS = 60.0
"""How long to wait for each part of the reply to an interrupted call; Kong's own limit is as long."""

_stock_plan = functools.lru_cache(64)(plan_of_method)
_REFUSED = "Kong refused {} in {} (its log says why), or has ended"


class ProtobufChannel:
    """The PDK calls of an event, on the event's connection: a :class:`~kong_pdk.server.bridge.Channel`."""

    __slots__ = ("_connection", "_interface", "bridge", "is_claimed", "is_last", "phase", "plans", "unanswered")

    def __init__(self, connection: Connection, phase: str, plans: Plans, interface: Interface) -> None:
        self._connection = connection
        self.phase = phase
        self.plans = plans
        self._interface = interface
        self.bridge: Bridge | None = None
        self.is_claimed = False
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


class ProtobufEvent(ProtobufChannel, EventUnderWay):
    """An event whose instance is known."""

    __slots__ = ("_session", "engine", "instance", "is_queued", "sequence")

    def __init__(self, session: _Session, phase: str, sequence: bytes, instance: Instance, engine: Engine) -> None:
        """:param sequence: the field of the sequence number, as it came.

        :param engine: runs the handler.
        """
        server = session.server
        super().__init__(session.connection, phase, server.plans.of(phase), server.interface)
        self._session = session
        self.sequence = sequence
        self.instance = instance
        self.engine = engine
        self.is_queued = False

    def run(self) -> None:
        """Run the handler, and answer Kong. Raises nothing."""
        session, is_open = self._session, False
        if self.is_queued:
            self.begin()
        try:
            if run_handler(self.instance, self, self.engine):
                session.end_event(self.sequence)
            # Else Kong closes the connection once it has answered its client: the next read returns end of file.
            is_open = not self.is_last
        except ConnectionClosed as error:
            session.report_refusal(error)
        except TimeoutError:
            pass
        except BaseException:  # noqa: BLE001  # other connections must go on
            _log.exception("a connection ended by a defect of the plugin server")
        finally:
            if not self.is_claimed:
                session.finish(self, is_open)

    def refuse(self) -> None:
        """Answer without the handler, since there is no room. At the end of the server, Kong repeats it elsewhere."""
        session, connection, is_open = self._session, self._connection, False
        try:
            if not session.serving.is_stopping:
                log_refusal(self.instance, self.phase)
                connection.seconds = REFUSE_SECONDS
                connection.record[STATE] = PROTOBUF_ANSWER
                policy, answers = self.instance.policy, session.server.answers
                connection.tell(answers.protobuf_event(self.phase, policy.is_open, self.sequence, OVERLOAD))
                connection.seconds = None
                is_open = True
        except (ConnectionClosed, TimeoutError):
            pass
        finally:
            session.finish(self, is_open)

    def give_up(self) -> None:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        _Failure(self._session, self, self.sequence, self.instance.policy.is_open).start()

    @property
    def timeout(self) -> float:  # type: ignore[override]
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return self.instance.policy.timeout

    @property
    def due(self) -> float:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return due_of(self._connection.record)

    @due.setter
    def due(self, moment: float) -> None:
        set_due(self._connection.record, moment)

    @property
    def waits_for(self) -> object:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        bridge = self.bridge
        return self._connection.exchange if bridge is None or bridge.may_wait else None


class ProtobufServer:
    """ProtoBuf:1 of a server."""

    def __init__(self, serving: Serving, interface: Interface) -> None:
        """:param interface: the methods that Kong has."""
        self.serving = serving
        self.interface = interface
        self.answers = FailureAnswers(interface)
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
        self.server = server
        self.serving = server.serving
        self.connection = connection
        self._last: tuple[Instance, str] | None = None
        """The instance and the phase of the last event."""

    def readable(self) -> None:
        """Read what has come; called on the loop, which gives the connection away by that."""
        connection, serving = self.connection, self.serving
        connection.record[STATE] = READING
        try:
            payload = connection.next_frame()
            if payload is None:
                self._keep()
                return
            event = self.server.event_calls.decode(payload)
            call = None if event is not None else decode_call(payload)
        except ConnectionClosed as error:
            self.report_refusal(error)
            serving.forget(connection)
        except WireError as error:
            report(_log, logging.ERROR, "closed a connection of a peer that does not speak ProtoBuf:1: %s", error)
            serving.forget(connection)
        else:
            if event is not None and serving.is_stopping:  # Kong begins it anew, elsewhere
                serving.forget(connection)
            elif event is None:
                assert call is not None
                _Administration(self, *call).start()
            elif (instance := serving.instances.ready(event[1].instance_id)) is None:
                _Search(self, *event).start()
            else:
                self.handle(*event, instance)

    def _keep(self) -> None:
        """Give the connection back to the loop: nothing but replies to earlier calls has come, or a part of a frame."""
        connection = self.connection
        if not connection.owed:
            self.serving.loop_here.owed.discard(connection.fd)
        self._note_idle()
        self.serving.loop_here.keep(connection)

    def _note_idle(self) -> None:
        connection = self.connection
        connection.record[OWED] = connection.owed
        connection.record[STATE] = READING if connection.has_unread else IDLE

    def report_refusal(self, error: ConnectionClosed) -> None:
        """Log that Kong refused a call without a result, after the event's end."""
        if isinstance(error.first_unanswered, tuple) and self._last is not None:
            instance, phase = self._last
            unanswered = refused(error.first_unanswered, phase)
            instance.errors.report(f"{instance.plugin.name}: {unanswered.text} ({unanswered.place})")

    def handle(self, sequence: bytes, event: HandleEvent, instance: Instance) -> None:
        """Let the phase's engine run the handler. Called on the loop."""
        phase, policy, serving = event.event_name, instance.policy, self.serving
        number = PHASE_NUMBERS.get(phase, 0)
        note_protobuf_event(
            self.connection.record, policy.timeout, number | OPEN if policy.is_open else number, sequence
        )
        engine = serving.engine_of(instance, phase)
        self._last = instance, phase
        under_way = ProtobufEvent(self, phase, sequence, instance, engine)
        serving.running.add(under_way)
        self._give(engine)
        engine.run(under_way.run, under_way.refuse, under_way.queued)
        if engine.is_full or not serving.is_watching:
            serving.look_soon()

    def help(self, job: Job, refuse: Job) -> None:
        """Let a helper do what may block. Called on the loop."""
        helpers = self.serving.helpers
        self._give(helpers)
        helpers.run(job, refuse)
        if helpers.is_full or not self.serving.is_watching:
            self.serving.look_soon()

    def _give(self, engine: Engine) -> None:
        """Give the connection to an engine."""
        connection = self.connection
        loop = self.serving.loop_here
        loop.owed.discard(connection.fd)  # the event reads them, and the server waits for it
        waits = connection.waits = engine.waits
        if waits.blocks:
            loop.give_away(connection)

    def end_event(self, sequence: bytes) -> None:
        """Tell Kong that the handler has returned.

        :raises ConnectionClosed: Kong closed the connection.
        """
        record = self.connection.record
        record[OWED] = self.connection.to_come
        record[STATE] = PROTOBUF_ANSWER
        self.connection.tell(event_end(sequence))

    def answer_failure(self, channel: ProtobufChannel, sequence: bytes, is_open: bool) -> bool:
        """Answer an event that has failed; tell whether the connection stays open.

        :param is_open: whether the request goes on.
        :raises ConnectionClosed: Kong closed the connection.
        """
        if fail(channel, is_open):
            self.end_event(sequence)
        return not channel.is_last

    def finish(self, call: UnderWay, is_open: bool) -> None:
        """Give the connection back after a call.

        :param is_open: whether the connection stays open.
        """
        serving, connection = self.serving, self.connection
        if is_open and connection.owed:  # a server that stops waits for the replies
            serving.loop_here.owed.add(connection.fd)
        if is_open:
            self._note_idle()
        serving.ended(call)  # before the next event can begin
        if is_open:
            serving.loop_here.release(connection)  # the loop may have been replaced meanwhile
        else:
            serving.forget(connection)


class _Help(CallUnderWay):
    """A call of Kong that is done on a thread, since it may block."""

    __slots__ = ("_session",)

    def __init__(self, session: _Session) -> None:
        super().__init__()
        self._session = session

    def start(self) -> None:
        """Begin with it; on the loop."""
        self._session.serving.running.add(self)
        self._session.help(self._run, lambda: self._session.finish(self, False))

    def _run(self) -> None:
        try:
            self._work()
        finally:
            self.is_done = True

    def _work(self) -> None:
        answer: Callable[[], bool] | None = None
        is_open = False
        try:
            answer = self._do()
        except BaseException:  # noqa: BLE001  # other connections must go on
            _log.exception("a connection ended by a defect of the plugin server")
        if not self.claim():  # it has taken too long
            return
        try:
            is_open = answer is not None and answer()
        except (ConnectionClosed, TimeoutError):
            pass
        except BaseException:  # noqa: BLE001  # see above
            _log.exception("a connection ended by a defect of the plugin server")
        finally:
            self._finish(is_open)

    def _finish(self, is_open: bool) -> None:
        self._session.finish(self, is_open)

    @abstractmethod
    def _do(self) -> Callable[[], bool] | None:
        """Do it, and give the function that answers Kong and tells whether the connection stays open.

        :return: None where a closed connection is the answer.
        """

    @property
    def timeout(self) -> float:  # type: ignore[override]
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return self._session.serving.longest_timeout

    @property
    def due(self) -> float:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return due_of(self._session.connection.record)

    @due.setter
    def due(self, moment: float) -> None:
        set_due(self._session.connection.record, moment)

    def give_up(self) -> None:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`. A closed connection is the protocol's only error."""
        self._session.serving.forget(self._session.connection)


class _Administration(_Help):
    """A call about plugins or instances."""

    __slots__ = ("_call", "_sequence")

    def __init__(self, session: _Session, sequence: int, call: Call) -> None:
        super().__init__(session)
        self._sequence = sequence
        self._call = call
        self.due = time.monotonic() + self.timeout
        session.connection.record[STATE] = PROTOBUF_CALL

    def describe(self) -> str:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return f"{self._call.name}: __init__" if isinstance(self._call, StartInstance) else type(self._call).__name__

    def _do(self) -> Callable[[], bool] | None:
        instances, call = self._session.serving.instances, self._call
        try:
            answer = start(instances, call) if isinstance(call, StartInstance) else answer_call(instances, call)
        except InstanceStartError:
            return None
        return functools.partial(self._answer, frame(encode_return(self._sequence, answer)))

    def _answer(self, data: bytes) -> bool:
        self._session.connection.tell(data)
        return True


class _Search(_Help):
    """An event whose instance is not made here: only another worker has it, or nobody."""

    __slots__ = ("_event", "_instance", "_sequence")

    def __init__(self, session: _Session, sequence: bytes, event: HandleEvent) -> None:
        super().__init__(session)
        self._sequence = sequence
        self._event = event
        self._instance: Instance | None = None
        number = PHASE_NUMBERS.get(event.event_name, 0)
        note_protobuf_event(session.connection.record, self.timeout, number, sequence)

    def describe(self) -> str:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return f"the start of an instance for {self._event.event_name}"

    def _do(self) -> Callable[[], bool] | None:
        """Make the instance, then run the handler."""
        try:
            self._instance = find(self._session.serving.instances, self._event.instance_id)
        except InstanceStartError:
            return functools.partial(self._session.answer_failure, self._channel(), self._sequence, False)
        if self._instance is None:  # Kong starts the instance again, and repeats the event
            report(_log, logging.INFO, "there is no instance %d here: Kong starts it again", self._event.instance_id)
        return None

    def _finish(self, is_open: bool) -> None:
        if self._instance is None:
            super()._finish(is_open)
            return
        serving = self._session.serving
        handle = functools.partial(self._session.handle, self._sequence, self._event, self._instance)
        serving.loop_here.call(lambda: (handle(), serving.ended(self)))

    def _channel(self) -> ProtobufChannel:
        phase, server = self._event.event_name, self._session.server
        return ProtobufChannel(self._session.connection, phase, server.plans.of(phase), server.interface)

    def give_up(self) -> None:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        _Failure(self._session, self._channel(), self._sequence, False).start()


class _Failure(_Help):
    """The answer to an event in the place of what has taken too long."""

    __slots__ = ("_channel", "_is_open", "_sequence")

    def __init__(self, session: _Session, channel: ProtobufChannel, sequence: bytes, is_open: bool) -> None:
        """:param is_open: whether the request goes on."""
        super().__init__(session)
        self._channel = channel
        self._sequence = sequence
        self._is_open = is_open
        self.due = time.monotonic() + RECOVER_SECONDS

    def describe(self) -> str:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        return f"the answer to {self._channel.phase}"

    def _do(self) -> Callable[[], bool] | None:
        return functools.partial(self._session.answer_failure, self._channel, self._sequence, self._is_open)


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
