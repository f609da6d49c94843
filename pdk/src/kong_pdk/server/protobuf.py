"""ProtoBuf:1 on one connection: a thread reads it and runs the handlers of its events, one after another."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server.activity import Activity
from kong_pdk.server.administration import StartError, answer_call, find, start
from kong_pdk.server.bridge import EventEnded, Message
from kong_pdk.server.handler import fail, run_handler
from kong_pdk.server.instances import Instances
from kong_pdk.server.pdk_hints import why_unknown
from kong_pdk.wire.calls import HandleEvent, StartInstance
from kong_pdk.wire.interface import Interface
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values import arguments
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import decode_result
from kong_pdk.wire.pdk_values.results import HEADERS_OF, from_protobuf, query_argument
from kong_pdk.wire.protobuf_codec import decode_call, encode_return, first_message, frame
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import UnknownMethod, WireError

_Result: TypeAlias = tuple[Any, str | None]
_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_MOST_HEADERS = 1000  # what Kong gives at most
_MOST_STRIKES = 100
RECOVER_SECONDS = 60.0
"""How long the reply of an interrupted call is waited for, each part of it; Kong's own limit is as long."""


class ConnectionClosed(Exception):
    """Kong closed the connection."""


class _Exchange:
    """What is sent to Kong, and whether a reply to it is to be read.

    An exception may strike anywhere: what was sent is noted in one step with the sending (``extend`` of a ``map`` runs
    no Python code in between), so that :meth:`_Stream.finish` can go on wherever it was left.
    """

    def __init__(self, data: bytes, has_reply: bool) -> None:
        self.data = memoryview(data)
        self.has_reply = has_reply
        self.sent: deque[int] = deque()


class _Stream:
    """The frames of a connection, of which one exchange at a time may be under way."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self._connection = connection
        # What came and was not read, and the exchange under way: in one tuple, to change both in one step.
        self._state: tuple[deque[bytes], _Exchange | None] = (deque([received]), None)

    def read(self) -> bytes:
        """Wait for the next message of Kong's own, whatever strikes meanwhile: it belongs to an event that is over.

        :raises ConnectionClosed: there will be none.
        :raises WireError: what came is none.
        """
        for _ in range(_MOST_STRIKES):
            try:
                payload, rest = self._receive()
            except (ConnectionClosed, WireError):  # noqa: PERF203
                raise
            except BaseException as error:  # noqa: BLE001  # a timer of gevent's that a handler left behind
                report(_log, logging.DEBUG, "an idle connection was struck by %s", describe(error))
            else:
                self._state = (rest, None)
                return payload
        raise ConnectionClosed

    def write(self, *payloads: bytes) -> None:
        """Send messages that Kong does not answer.

        :raises ConnectionClosed: nobody is there to read them.
        """
        self._begin(payloads, False)

    def ask(self, *payloads: bytes) -> bytes:
        """Send messages, and give Kong's reply.

        :raises ConnectionClosed: there will be none.
        :raises WireError: what came is none.
        """
        return self._begin(payloads, True)

    def _begin(self, payloads: Sequence[bytes], has_reply: bool) -> bytes:
        data = b"".join([frame(payload) for payload in payloads])
        self._state = (self._state[0], _Exchange(data, has_reply))
        return self.finish()

    @property
    def is_interrupted(self) -> bool:
        """Whether an exchange was left by an exception."""
        return self._state[1] is not None

    def finish(self) -> bytes:
        """Bring the exchange under way to its end, and give the reply; empty where it has none.

        :raises ConnectionClosed: it cannot be.
        :raises WireError: what came is no reply.
        """
        received, exchange = self._state
        if exchange is None:
            return b""
        try:
            while (done := sum(exchange.sent)) < len(exchange.data):
                exchange.sent.extend(map(self._connection.send, (exchange.data[done:],)))
        except OSError as error:
            raise ConnectionClosed from error
        payload, rest = self._receive() if exchange.has_reply else (b"", received)
        self._state = (rest, None)
        return payload

    def finish_within(self, seconds: float) -> None:
        """Bring the exchange under way to its end, but wait for Kong no longer than this at a time.

        :raises ConnectionClosed, WireError: it cannot be.
        """
        try:
            self._connection.settimeout(seconds)
            self.finish()
            self._connection.settimeout(None)
        except OSError as error:
            raise ConnectionClosed from error

    def _receive(self) -> tuple[bytes, deque[bytes]]:
        """Wait for a whole message: it, and what came behind it."""
        received = self._state[0]
        while True:
            cut = first_message(received)
            if cut is not None:
                return cut
            try:
                received.extend(map(self._connection.recv, (_CHUNK,)))
            except OSError as error:
                raise ConnectionClosed from error
            if not received[-1]:
                raise ConnectionClosed


class _Channel:
    """The PDK calls of one event, on the connection that brought it."""

    def __init__(self, stream: _Stream, interface: Interface, phase: str) -> None:
        self._stream = stream
        self._interface = interface
        self._phase = phase
        self.messages: list[Message] = []
        self.unanswered: str | None = None
        self.is_last = False
        """Whether the connection is to be closed behind this event."""

    @property
    def interrupted(self) -> bool:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        return self._stream.is_interrupted

    def recover(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: reads the reply of the interrupted call, for nobody."""
        if not self.interrupted:
            return
        self.is_last = True
        try:
            self._stream.finish_within(RECOVER_SECONDS)
        except (ConnectionClosed, WireError):
            raise EventEnded from None

    def drop(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        self.is_last = True

    def call(self, method: str, args: Sequence[object]) -> _Result:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        chosen = self._choose(method)
        special = _SPECIAL.get(method)
        return special(self, chosen, args) if special else self._make(chosen, args)

    def _set_body(self, _: Method, args: Sequence[object]) -> _Result:
        return arguments.set_body(lambda name, given: self._make(self._choose(name), given), args)

    def _get_query_arg(self, chosen: Method, args: Sequence[object]) -> _Result:
        if chosen.output != "String" or len(args) != 1 or not isinstance(args[0], (str, bytes)):
            return self._make(chosen, args)
        name = decode(args[0]) if isinstance(args[0], bytes) else args[0]
        return query_argument(name, lambda: self.call("kong.request.get_query", ())[0]), None

    def _get_header(self, chosen: Method, args: Sequence[object]) -> _Result:
        """Look among all headers, in `log`, whether one is empty or not there: no method tells that."""
        value, error = self._make(chosen, args)
        if value is not None or self._phase != "log" or chosen.output != "String":
            return value, error
        headers, _ = self.call(HEADERS_OF[chosen.function], [_MOST_HEADERS])
        name = decode(args[0]) if isinstance(args[0], bytes) else str(args[0])
        return "" if name.lower().replace("_", "-") in headers else None, None

    def _load_consumer(self, chosen: Method, args: Sequence[object]) -> _Result:
        """Ask first whether there is such a consumer: where there is none, Kong's function by id gives no value at all.

        Kong cannot make a ``Value`` of that, and ends the request with a 500.
        """
        if chosen.output == "Value" and not any(args[1:]):
            found, error = self._make(self._interface.method(chosen.function), args)
            if found is None:
                return None, error
        return self._make(chosen, args)

    def _authenticate(self, chosen: Method, args: Sequence[object]) -> _Result:
        """Take Kong's own message where there is no consumer: in a list Kong stops at what is nil."""
        if chosen.input == "ListValue" and args and args[0] is None:
            chosen = self._interface.method(chosen.function)
        return self._make(chosen, args)

    def _make(self, chosen: Method, args: Sequence[object]) -> _Result:
        payload = encode_arguments(chosen, args)
        try:
            reply = self._stream.ask(encode(chosen.name), payload)
        except (ConnectionClosed, WireError):  # the connection is of no use; who reads it next says why
            self.unanswered = f"Kong refused {chosen.function} in {self._phase} (its log says why), or has ended"
            raise EventEnded from None
        return from_protobuf(chosen, decode_result(chosen, reply))

    def leave(self, method: str, args: Sequence[object]) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        chosen = self._choose(method)
        payload = encode_arguments(chosen, args)
        try:
            self._stream.write(encode(chosen.name), payload)
        except ConnectionClosed:
            raise EventEnded from None

    def _choose(self, method: str) -> Method:
        try:
            return self._interface.choose(method, self._phase)
        except UnknownMethod as error:
            error.args = (why_unknown(method),)
            raise


_SPECIAL: Mapping[str, Callable[[_Channel, Method, Sequence[object]], _Result]] = {
    arguments.SET_BODY: _Channel._set_body,
    "kong.client.authenticate": _Channel._authenticate,
    "kong.client.load_consumer": _Channel._load_consumer,
    "kong.request.get_query_arg": _Channel._get_query_arg,
    **dict.fromkeys(HEADERS_OF, _Channel._get_header),
}


def serve(
    connection: socket.socket, received: bytes, instances: Instances, activity: Activity, interface: Interface
) -> None:
    """Serve a connection until Kong closes it.

    :param received: what was read of it so far.
    :param interface: what Kong can be asked for.
    """
    try:
        stream = _Stream(connection, received)
        open_still = True
        while open_still:
            payload = stream.read()
            with activity:
                open_still = _serve_call(stream, instances, payload, interface)
    except ConnectionClosed:
        pass
    except WireError as error:
        report(_log, logging.ERROR, "closed a connection of a peer that does not speak ProtoBuf:1: %s", error)


def _serve_call(stream: _Stream, instances: Instances, payload: bytes, interface: Interface) -> bool:
    """Answer a call.

    :return: whether the connection stays open; closing it is the protocol's way to say no.
    """
    sequence, call = decode_call(payload)
    if isinstance(call, HandleEvent):
        return _serve_event(stream, instances, sequence, call, interface)
    if isinstance(call, StartInstance):
        try:
            status = start(instances, call)
        except StartError:
            return False
        stream.write(encode_return(sequence, status))
        return True
    stream.write(encode_return(sequence, answer_call(instances, call)))
    return True


def _serve_event(stream: _Stream, instances: Instances, sequence: int, call: HandleEvent, interface: Interface) -> bool:
    channel = _Channel(stream, interface, call.event_name)
    try:
        instance = find(instances, call.instance_id)
    except StartError:
        waits = fail(channel, call.event_name)
    else:
        if instance is None:  # Kong starts it anew and sends the event again
            report(_log, logging.INFO, "there is no instance %d here: Kong is to start it anew", call.instance_id)
            return False
        waits = run_handler(instance, call.event_name, channel)
    if waits:
        stream.write(b"", encode_return(sequence, None))
    # else Kong closes the connection when it has answered its client, which may take a while: the next read sees it
    return not channel.is_last
