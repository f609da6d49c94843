"""MsgPack:1 on a connection: requests are answered in order; handlers run on threads of their own.

The steps of an event may come on any connection, so an event does not belong to a connection.
"""

from __future__ import annotations

import logging
import queue
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server import administration
from kong_pdk.server.activity import Activity
from kong_pdk.server.event import Abandoned, Event, Events, phase_of
from kong_pdk.server.handler import failure_method, run_handler
from kong_pdk.server.instances import Instance, InstanceError, Instances
from kong_pdk.server.step_forwarding import PeerGone, Peers
from kong_pdk.wire.calls import CloseInstance, GetInstanceStatus, GetPluginInfo, StartInstance
from kong_pdk.wire.msgpack_codec import Messages, Request, encode_request, encode_response
from kong_pdk.wire.text import encode
from kong_pdk.wire.wire_errors import WireError

_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_STEPS = "plugin.Step"
MOST_HANDLERS = 1024
FREE_SECONDS = 10.0
"""How long an event waits for a thread when ``MOST_HANDLERS`` handlers run."""

_POLL_SECONDS = 0.05


class CallError(Exception):
    """A request is answered by an error."""


class NoHandler(Exception):
    """No handler runs for an event, so its request must end with status 500."""

    def __init__(self, event_id: int) -> None:
        super().__init__(event_id)
        phase = phase_of(event_id)
        # In `log` the client has its answer, and Kong refuses the call.
        call = {"Method": failure_method(phase), "Args": [500]}
        self.output = {"Data": "ret" if phase == "log" else call, "EventId": event_id}


class _HandlerThreads:
    """Threads that run handlers. An idle thread is kept for the next handler.

    Unlike a thread of ``concurrent.futures``, an idle thread survives an exception from outside, of a gevent timer that
    a handler left running, for example.
    """

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    def run(self, job: Callable[[], None]) -> None:
        """Run a job, which must not raise.

        :raises RuntimeError: no thread can be started.
        """
        with self._lock:
            has_idle = self._idle > 0
            self._idle -= has_idle
        if has_idle:
            self._jobs.put(job)
        else:
            threading.Thread(target=self._work, args=([job],), name="handler", daemon=True).start()

    def _work(self, first: list[Callable[[], None]]) -> None:
        job = first.pop()  # the thread keeps its arguments
        while True:
            job()
            del job  # it holds the event and the instance
            with self._lock:
                self._idle += 1
            job = self._next()

    def _next(self) -> Callable[[], None]:
        while True:
            try:
                return self._jobs.get()
            except BaseException as error:  # noqa: BLE001, PERF203  # see the class
                report(_log, logging.DEBUG, "an exception interrupted an idle handler thread: %s", describe(error))


class MsgpackServer:
    """MsgPack:1 of a server: the connections share its instances and open events."""

    def __init__(self, instances: Instances, activity: Activity, peers: Peers | None = None) -> None:
        """:param instances: the instances of the server, started over either protocol.

        :param activity: counts the calls in progress.
        :param peers: the other workers; None where there are none.
        """
        self._instances = instances
        self._activity = activity
        self._peers = peers
        self._events = Events(peers.slot if peers else 0)
        self._threads = _HandlerThreads()
        self._free = threading.Semaphore(MOST_HANDLERS)

    def serve(self, connection: socket.socket, received: bytes) -> None:
        """Serve a connection until Kong closes it.

        :param received: the bytes that were read from it already.
        """
        messages = Messages()
        try:
            data = received
            while data:
                for message in messages.feed(data):
                    if not isinstance(message, Request):
                        raise WireError(f"a {type(message).__name__} instead of a request")
                    with self._activity:
                        self._answer(connection, message)
                data = connection.recv(_CHUNK)
        except WireError as error:
            report(_log, logging.ERROR, "closed a connection of a peer that does not speak MsgPack:1: %s", error)
        except OSError:
            pass  # Kong closed it

    def _answer(self, connection: socket.socket, request: Request) -> None:
        event: Event | None = None
        try:
            if request.method == "plugin.HandleEvent":
                event = self._begin(request)
                response = encode_response(request.id, None, event.next_output())
            elif request.method.startswith(_STEPS):
                response, event = self._step(request)
            else:
                response = _encode(request, self._administer(request))
        except (CallError, InstanceError) as error:
            response = encode_response(request.id, str(error), None)
        except NoHandler as error:
            response = encode_response(request.id, None, error.output)
        except Abandoned as error:
            response = encode_response(request.id, None, NoHandler(error.event.id).output)
        try:
            connection.sendall(response)
        except OSError:
            if event is not None:
                event.abandon()
            raise

    def _begin(self, request: Request) -> Event:
        argument = _mapping(request)
        event = self._events.begin(str(argument.get("EventName", "")))
        try:
            self._submit(event, self._find(argument, event))
        except BaseException as error:
            event.abandon()
            self._events.end(event)
            if isinstance(error, Exception) and not isinstance(error, (CallError, NoHandler)):
                raise _failed(event.id, error) from error
            raise
        return event

    def _find(self, argument: dict[str, Any], event: Event) -> Instance:
        try:
            instance = administration.find(self._instances, _integer(argument, "InstanceId"))
        except administration.InstanceStartError:
            raise NoHandler(event.id) from None
        if instance is None:  # Kong looks for these words, starts the instance again and repeats the event
            raise CallError(f"no plugin instance {argument.get('InstanceId')}")
        return instance

    def _submit(self, event: Event, instance: Instance) -> None:
        deadline = time.monotonic() + FREE_SECONDS
        while not self._free.acquire(timeout=_POLL_SECONDS):
            if time.monotonic() > deadline:
                report(_log, logging.ERROR, "all %d threads are busy: %s cannot run", MOST_HANDLERS, event.phase)
                raise NoHandler(event.id)
            self._events.abandon_oldest()
        try:
            self._threads.run(lambda: self._run(event, instance))
        except RuntimeError as error:
            self._free.release()
            report(_log, logging.ERROR, "no thread can be started: %s cannot run: %s", event.phase, error)
            raise NoHandler(event.id) from error

    def _run(self, event: Event, instance: Instance) -> None:
        try:
            with self._activity:
                if not event.gone and run_handler(instance, event.phase, event):
                    event.finish()
        finally:
            self._events.end(event)
            self._free.release()

    def abandon_events(self) -> None:
        """End the handlers that wait for Kong, which has closed all connections."""
        self._events.abandon_all()

    def _step(self, request: Request) -> tuple[bytes, Event | None]:
        """Give the value of a step to its event, and return the response, and the event if this worker has it."""
        argument = _mapping(request)
        id = _integer(argument, "EventId")
        if self._peers is not None and self._peers.is_elsewhere(id):
            return self._relay(self._peers, id, request), None
        event = self._events.get(id)
        if event is None or event.gone:
            raise _lost(id)
        event.deliver(argument.get("Data"), argument.get("Error") if request.method == "plugin.StepError" else None)
        return encode_response(request.id, None, event.next_output()), event

    @staticmethod
    def _relay(peers: Peers, id: int, request: Request) -> bytes:
        try:
            return peers.relay(id, encode_request(request.id, request.method, request.args))
        except PeerGone:
            raise _lost(id) from None
        except Exception as error:  # at an RPC error Kong lets the request pass
            raise _failed(id, error) from error

    def _administer(self, request: Request) -> Any:
        if request.method == "plugin.StartInstance":
            return self._start(_mapping(request))
        if request.method == "plugin.GetStatus":
            return administration.server_status(self._instances)
        if request.method == "plugin.GetWorkers":
            return administration.workers(self._instances)
        argument = request.args[0] if request.args else None
        if request.method == "plugin.CloseInstance" and isinstance(argument, int):
            status = administration.answer_call(self._instances, CloseInstance(argument))
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
            status = administration.start(self._instances, StartInstance(str(argument.get("Name", "")), text))
            instance = administration.find(self._instances, status.instance_id)
        except administration.InstanceStartError as error:
            raise CallError(str(error).splitlines()[0]) from None
        used = {**instance.internal, **instance.config} if instance else {}
        return {"Name": status.name, "Id": status.instance_id, "StartTime": status.started_at, "Config": used}

    def _describe(self, call: GetInstanceStatus | GetPluginInfo, missing: str) -> dict[str, Any]:
        answer = administration.answer_call(self._instances, call)
        if answer is None:
            raise CallError(missing)
        names = {"instance_id": "Id", "started_at": "StartTime"}
        described = {names.get(key, key.capitalize()): value for key, value in vars(answer).items()}
        return {key: list(value) if isinstance(value, tuple) else value for key, value in described.items()}


def _failed(id: int, error: Exception) -> NoHandler:
    """Log that an event failed for an internal reason."""
    report(_log, logging.ERROR, "an event of %s is answered by a failure: %s", phase_of(id), describe(error))
    return NoHandler(id)


def _lost(id: int) -> NoHandler:
    """Log that a step has no event any more, and answer by a failure: at an RPC error Kong lets the request pass."""
    phase = phase_of(id)
    end = "" if phase == "log" else "; its request ends with 500"
    report(_log, logging.ERROR, "Kong answered a call of a %s handler that was killed or waits no longer%s", phase, end)
    return NoHandler(id)


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
