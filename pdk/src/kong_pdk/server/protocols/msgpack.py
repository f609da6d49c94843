"""MsgPack:1: requests and responses. The steps of an event, with the values of its PDK calls, take any connection."""

from __future__ import annotations

import functools
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server.bridge import EventEnded
from kong_pdk.server.call_plan import CallPlan, PlansByPhase, call_set_body, plan_over_msgpack
from kong_pdk.server.connection import Connection, ConnectionClosed
from kong_pdk.server.deadlines import CallUnderWay
from kong_pdk.server.event_ids import HANDLE_EVENT, STEPS, phase_of, phase_of_request
from kong_pdk.server.event_record import (
    IDLE,
    MSGPACK_ANSWER,
    MSGPACK_CALL,
    MSGPACK_CALL_UNREAD,
    MSGPACK_EVENT,
    MSGPACK_UNREAD,
    OPEN,
    PHASE,
    PHASE_NUMBERS,
    STATE,
    note_msgpack_request,
    set_due,
)
from kong_pdk.server.failure_answers import NO_EVENT, OVERLOAD, failure_over_msgpack, lets_pass
from kong_pdk.server.handler import fail, log_refusal, run_handler
from kong_pdk.server.instances import Instance, InstanceError, administration
from kong_pdk.server.protocols import REFUSE_SECONDS, Serving
from kong_pdk.server.protocols.msgpack_event import (
    Events,
    MsgpackEvent,
    call_get_raw_body,
)
from kong_pdk.server.workers.step_forwarding import PeerGone, Peers
from kong_pdk.wire.calls import CloseInstance, GetInstanceStatus, GetPluginInfo, StartInstance
from kong_pdk.wire.msgpack_codec import (
    Messages,
    Request,
    encode_output,
    encode_request,
    encode_response,
    id_of_request,
)
from kong_pdk.wire.pdk_values.arguments import SET_BODY
from kong_pdk.wire.text import encode
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_HEAD = 40
_RELAY_SECONDS = 10.0
_SPECIALS = {"kong.request.get_raw_body": call_get_raw_body, SET_BODY: call_set_body}


class CallError(Exception):
    """A request is answered by an error."""


class MsgpackServer:
    """MsgPack:1 of a server: the connections share its open events."""

    def __init__(self, serving: Serving, peers: Peers | None = None) -> None:
        """:param peers: the other workers; None where there are none."""
        self.serving = serving
        self.peers = peers
        self.events = Events(peers.slot if peers else 0)
        self.plans = PlansByPhase(_plan)
        policies = serving.instances.policies.values()
        self.is_open = bool(policies) and all(policy.is_open for policy in policies)
        """Whether an event whose plugin is not known any more fails open: each plugin does."""

    def serve(self, connection: Connection) -> None:
        """Serve a connection from now on."""
        connection.on_readable = _Session(self, connection).readable


def _plan(phase: str, function: str) -> CallPlan:
    return plan_over_msgpack(function, phase, _SPECIALS.get(function))


class _Session:
    """A connection: its requests are answered one after another."""

    def __init__(self, server: MsgpackServer, connection: Connection) -> None:
        self._server = server
        self._serving = server.serving
        self._connection = connection
        self._messages = Messages()
        self._requests: deque[Request] = deque()
        self._id = 0
        """The request that was read last."""

    def readable(self) -> None:
        """Read what has come; called on the loop, which gives the connection away by that."""
        connection, requests = self._connection, self._requests
        try:
            received = connection.peek()
            for message in self._messages.feed(received):
                if not isinstance(message, Request):
                    raise WireError(f"a {type(message).__name__} instead of a request")
                requests.append(message)
            if requests and requests[0].method == HANDLE_EVENT and self._serving.begins_nothing:
                requests.clear()  # it is not read: the master still has the connection
                self._serving.loop_here.give_away(connection)
                return
            # What is noted is read: nobody answers what was read and not noted.
            if requests:
                self._note(requests[0])
            elif received and connection.record[STATE] not in (MSGPACK_UNREAD, MSGPACK_CALL_UNREAD):
                is_call = not any(name.encode() in received[:_HEAD] for name in (HANDLE_EVENT, STEPS))
                state = MSGPACK_CALL_UNREAD if is_call else MSGPACK_UNREAD
                note_msgpack_request(connection.record, math.inf, state, 0, id_of_request(received))
            connection.take(len(received))
        except ConnectionClosed:
            self._serving.forget(connection)
        except WireError as error:
            report(_log, logging.ERROR, "closed a connection of a peer that does not speak MsgPack:1: %s", error)
            connection.take(len(received))
            self._serving.forget(connection)
        else:
            self._next()

    def _note(self, request: Request) -> None:
        note_msgpack_request(self._connection.record, math.inf, *_kind_of(request), request.id)

    def _next(self) -> None:
        """Serve the next request, or give the connection back; on the loop."""
        if not self._requests:
            self._serving.loop_here.keep(self._connection)
            return
        request = self._requests.popleft()
        self._id = self._connection.request = request.id
        try:
            if request.method == HANDLE_EVENT:
                self._begin(request)
            elif request.method.startswith(STEPS):
                self._step(request)
            else:
                self._help(request, functools.partial(self._administer, request))
        except CallError as error:
            self._respond(request, encode_response(request.id, str(error), None))

    def _send(self, response: bytes) -> None:
        """Send a response, and give the connection back.

        :raises ConnectionClosed: Kong closed the connection.
        """
        record = self._connection.record
        record[STATE] = MSGPACK_ANSWER
        self._connection.tell(response)
        record[STATE] = IDLE
        self._release()

    def _release(self) -> None:
        if self._requests:
            self._note(self._requests[0])
            self._serving.loop_here.call(self._next)
        else:
            self._serving.loop_here.release(self._connection)

    def _respond(self, request: Request, response: bytes) -> None:
        """Send a response, if Kong is still there."""
        try:
            self._send(response)
        except (ConnectionClosed, TimeoutError):
            self._serving.forget(self._connection)

    def answer(self, request_id: int, event: MsgpackEvent, data: bytes) -> None:
        """See :class:`~kong_pdk.server.protocols.msgpack_event.Asker`."""
        self._connection.waits = event.engine.waits
        self._send(encode_output(request_id, event.id, data))

    def settle(self, event: MsgpackEvent) -> None:
        """Answer the request that waits for an event which ends without an answer to it, and serve the next one.

        An exception that interrupted a call may have left the connection between any two steps of an answer.
        """
        try:
            if self._connection.request == event.request_id:
                if not self._connection.is_interrupted:
                    is_open = event.instance.policy.is_open
                    self.answer(event.request_id, event, failure_over_msgpack(event.phase, is_open, event.failure))
                    return
                self._connection.finish()
                self._connection.record[STATE] = IDLE
                self._release()
            elif event.interrupted and self._id == event.request_id and not self._connection.is_idle:
                self._release()
        except (ConnectionClosed, TimeoutError):
            self._serving.forget(self._connection)

    def _help(
        self,
        request: Request,
        job: Callable[[], bytes | Instance],
        event: MsgpackEvent | None = None,
        more_seconds: float = 0.0,
    ) -> None:
        """Do what may block on a thread of its own, which responds with its result.

        :param event: its handler runs next if the result is an instance.
        :param more_seconds: how much longer it may take than an event.
        """
        serving = self._serving
        call = _Help(request, functools.partial(self._late, request), serving.longest_timeout + more_seconds)
        set_due(self._connection.record, call.due)
        serving.running.add(call)

        def do() -> None:
            try:
                try:
                    result = job()
                except (CallError, InstanceError) as error:
                    result = encode_response(request.id, str(error), None)
                except Exception as error:  # noqa: BLE001  # Kong must get an answer
                    _log.exception("a defect of the plugin server")
                    result = encode_response(request.id, describe(error), None)
                if not call.claim():  # it has taken too long, and has its answer
                    if event is not None:
                        self._server.events.end(event)
                elif isinstance(result, bytes):
                    self._respond(request, result)
                elif event is not None:
                    serving.loop_here.call(functools.partial(self._run, event, result))
            finally:
                call.is_done = True
                serving.ended(call)

        def refuse() -> None:
            if call.claim():
                call.is_done = True
                if event is not None:
                    self._server.events.end(event)
                self._late(request)
                serving.ended(call)

        self._connection.waits = serving.helpers.waits
        serving.helpers.run(do, refuse)
        if serving.helpers.is_full or not serving.is_watching:
            serving.look_soon()

    def _late(self, request: Request) -> None:
        """Answer a call that has taken too long."""
        phase = phase_of_request(request)
        if phase is None:
            self._respond(request, encode_response(request.id, "the plugin server's timeout is over", None))
        else:
            self._respond(request, encode_output(request.id, NO_EVENT, self._failure(phase)))

    def _failure(self, phase: str) -> bytes:
        """Give the failure of an event whose plugin is not known."""
        return failure_over_msgpack(phase, self._server.is_open)

    # Events

    def _begin(self, request: Request) -> None:
        argument = _mapping(request)
        phase = str(argument.get("EventName", ""))
        event = self._server.events.begin(phase, self._server.plans.of(phase))
        event.asker, event.request_id = self, request.id
        try:
            instance_id = _integer(argument, "InstanceId")
        except CallError:
            self._server.events.end(event)
            raise
        instance = self._serving.instances.ready(instance_id)
        if instance is None:
            self._help(request, functools.partial(self._find, request, event, instance_id), event)
        else:
            self._run(event, instance)

    def _find(self, request: Request, event: MsgpackEvent, instance_id: int) -> bytes | Instance:
        """Make an instance that only another worker has."""
        try:
            instance = administration.find(self._serving.instances, instance_id)
        except administration.InstanceStartError:
            self._server.events.end(event)
            return encode_output(request.id, event.id, failure_over_msgpack(event.phase))
        except BaseException:
            self._server.events.end(event)
            raise
        if instance is None:  # Kong looks for these words, starts the instance again and repeats the event
            self._server.events.end(event)
            raise CallError(f"no plugin instance {instance_id}")
        return instance

    def _run(self, event: MsgpackEvent, instance: Instance) -> None:
        event.instance = instance
        event.due = time.monotonic() + instance.policy.timeout
        event.on_expired = functools.partial(self._give_up, event)
        self._note_policy(event)
        engine = event.engine = self._serving.engine_of(instance, event.phase)
        self._serving.running.add(event)
        engine.run(
            functools.partial(self._handle, event),
            functools.partial(self._refuse, event),
            functools.partial(self._queued, event),
        )
        if engine.is_full or not self._serving.is_watching:
            self._serving.look_soon()

    def _note_policy(self, event: MsgpackEvent) -> None:
        """Note, for the master, when an event is due, and what becomes of it then."""
        record = self._connection.record
        set_due(record, event.due)
        if event.instance.policy.is_open:
            record[PHASE] |= OPEN

    def _give_up(self, event: MsgpackEvent) -> None:
        """Answer an event that has taken too long. Called on the loop."""
        self._serving.helpers.run(functools.partial(self._fail, event), functools.partial(self._end, event))

    def _fail(self, event: MsgpackEvent) -> None:
        try:
            if fail(event, event.instance.policy.is_open):
                event.finish()
        except EventEnded:
            pass  # Kong closed the connection
        finally:
            self._end(event)

    def _queued(self, event: MsgpackEvent) -> None:
        event.queued()
        self._note_policy(event)

    def _handle(self, event: MsgpackEvent) -> None:
        if event.is_queued and not event.gone:
            event.begin()
            self._note_policy(event)
        try:
            if not event.gone and run_handler(event.instance, event, event.engine):
                event.finish()
        except EventEnded:
            pass  # Kong closed the connection
        except BaseException:  # noqa: BLE001  # other events must go on
            _log.exception("an event ended by a defect of the plugin server")
        finally:
            if not event.is_claimed:
                self._end(event)

    def _end(self, event: MsgpackEvent) -> None:
        event.close()
        self._server.events.end(event)
        if event.asker is not None:
            event.asker.settle(event)
        self._serving.ended(event)

    def _refuse(self, event: MsgpackEvent) -> None:
        """Answer an event for which there is no room, or no time before the end of the server."""
        if self._serving.begins_nothing:
            plugin = event.instance.plugin.name
            report(_log, logging.ERROR, "%s: %s has not begun when the server ends", plugin, event.phase)
        else:
            log_refusal(event.instance, event.phase)
            event.failure = OVERLOAD
        connection = self._connection
        connection.seconds = REFUSE_SECONDS
        try:
            self._end(event)
        finally:
            connection.seconds = None

    def _step(self, request: Request) -> None:
        """Give the value of a step to its event, whose handler answers with its next call or its end."""
        argument = _mapping(request)
        id = _integer(argument, "EventId")
        if self._server.peers is not None and self._server.peers.is_elsewhere(id):
            # The other worker ends its event at the timeout.
            relay = functools.partial(self._relay, self._server.peers, id, request)
            self._help(request, relay, more_seconds=_RELAY_SECONDS)
            return
        event = self._server.events.get(id)
        if event is not None:
            self._note_policy(event)
        error = argument.get("Error") if request.method == "plugin.StepError" else None
        if event is None or not event.deliver(self, request.id, argument.get("Data"), error):
            self._respond(request, encode_output(request.id, id, self._lost(id)))

    def _relay(self, peers: Peers, id: int, request: Request) -> bytes:
        try:
            return peers.relay(id, encode_request(request.id, request.method, request.args))
        except PeerGone:
            return encode_output(request.id, id, self._lost(id))
        except Exception as error:  # noqa: BLE001  # at an RPC error Kong lets the request pass
            text = "an event of %s is answered by a failure: %s"
            report(_log, logging.ERROR, text, phase_of(id), describe(error))
            return encode_output(request.id, id, self._failure(phase_of(id)))

    def _lost(self, id: int) -> bytes:
        """Log that a step has no event any more, and give a failure: at an RPC error Kong lets the request pass."""
        phase = phase_of(id)
        end = "" if lets_pass(phase, self._server.is_open) else "; its request ends with 500"
        text = "Kong answered a call of a %s handler that was killed or waits no longer%s"
        report(_log, logging.ERROR, text, phase, end)
        return self._failure(phase)

    # Calls about plugins and instances

    def _administer(self, request: Request) -> bytes:
        return _encode(request, self._answer(request))

    def _answer(self, request: Request) -> Any:
        if request.method == "plugin.StartInstance":
            return self._start(_mapping(request))
        if request.method == "plugin.GetStatus":
            return administration.server_status(self._serving.instances)
        if request.method == "plugin.GetWorkers":
            return administration.workers(self._serving.instances)
        argument = request.args[0] if request.args else None
        if request.method == "plugin.CloseInstance" and isinstance(argument, int):
            status = administration.answer_call(self._serving.instances, CloseInstance(argument))
            return {"Name": getattr(status, "name", ""), "Id": argument}
        if request.method == "plugin.GetInstanceStatus" and isinstance(argument, int):
            return self._describe(GetInstanceStatus(argument), f"no plugin instance {argument}")
        if request.method == "plugin.GetPluginInfo" and isinstance(argument, str):
            return self._describe(GetPluginInfo(argument), f"there is no plugin {argument} here")
        raise CallError(f"there is no method {request.method} with such arguments")

    def _start(self, argument: dict[str, Any]) -> dict[str, Any]:
        config = argument.get("Config", "")
        text = encode(config) if isinstance(config, str) else config
        if not isinstance(text, bytes):
            raise CallError("StartInstance needs Config, a JSON text")
        try:
            status = administration.start(self._serving.instances, StartInstance(str(argument.get("Name", "")), text))
            instance = administration.find(self._serving.instances, status.instance_id)
        except administration.InstanceStartError as error:
            raise CallError(str(error).splitlines()[0]) from None
        used = {**instance.internal, **instance.config} if instance else {}
        return {"Name": status.name, "Id": status.instance_id, "StartTime": status.started_at, "Config": used}

    def _describe(self, call: GetInstanceStatus | GetPluginInfo, missing: str) -> dict[str, Any]:
        answer = administration.answer_call(self._serving.instances, call)
        if answer is None:
            raise CallError(missing)
        names = {"instance_id": "Id", "started_at": "StartTime"}
        described = {names.get(key, key.capitalize()): value for key, value in vars(answer).items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in described.items()}


def _kind_of(request: Request) -> tuple[int, int]:
    """Give the state of a connection on which Kong waits for the response to a request, and the phase's number."""
    phase = phase_of_request(request)
    return (MSGPACK_CALL, 0) if phase is None else (MSGPACK_EVENT, PHASE_NUMBERS.get(phase, 0))


class _Help(CallUnderWay):
    """A request that is answered on a thread, since that may block."""

    __slots__ = ("_request", "due", "give_up_by", "timeout")

    def __init__(self, request: Request, give_up: Callable[[], object], timeout: float) -> None:
        super().__init__()
        self._request = request
        self.give_up_by = give_up
        self.timeout = timeout
        self.due = time.monotonic() + timeout

    def describe(self) -> str:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        argument = self._request.args[0] if self._request.args else None
        name = argument.get("Name") if isinstance(argument, dict) else None
        return f"{name}: __init__" if self._request.method == "plugin.StartInstance" else self._request.method

    def give_up(self) -> None:
        """See :class:`~kong_pdk.server.deadlines.UnderWay`."""
        self.give_up_by()


def _encode(request: Request, result: Any) -> bytes:
    try:
        return encode_response(request.id, None, result)
    except (TypeError, ValueError, OverflowError) as error:  # MessagePack does not have every value of JSON
        raise CallError(f"{request.method}: the answer cannot be sent: {error}") from error


def _mapping(request: Request) -> dict[str, Any]:
    argument = request.args[0] if request.args else None
    if not isinstance(argument, dict):
        raise CallError(f"{request.method} needs a map")
    return argument


def _integer(argument: dict[str, Any], key: str) -> int:
    value = argument.get(key)
    if not isinstance(value, int):
        raise CallError(f"{key} must be a number")
    return value
