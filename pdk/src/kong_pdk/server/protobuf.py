"""ProtoBuf:1 on a connection: a thread reads it and runs the handlers of its events, one after another."""

from __future__ import annotations

import logging
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from kong_pdk.exception_text import describe
from kong_pdk.logs import report
from kong_pdk.server.activity import Activity
from kong_pdk.server.administration import InstanceStartError, answer_call, find, start
from kong_pdk.server.bridge import EventEnded, Message
from kong_pdk.server.handler import fail, run_handler
from kong_pdk.server.instances import Instances
from kong_pdk.server.pdk_hints import why_unknown
from kong_pdk.wire.calls import HandleEvent, StartInstance
from kong_pdk.wire.interface import Interface
from kong_pdk.wire.pdk_functions import Method
from kong_pdk.wire.pdk_values.arguments import SET_BODY, set_body
from kong_pdk.wire.pdk_values.protobuf_arguments import encode_arguments
from kong_pdk.wire.pdk_values.protobuf_results import decode_result
from kong_pdk.wire.pdk_values.results import HEADERS_OF, from_protobuf, query_argument
from kong_pdk.wire.protobuf_codec import decode_call, encode_return, first_message, frame
from kong_pdk.wire.text import decode, encode
from kong_pdk.wire.wire_errors import UnknownMethod, WireError

_Result: TypeAlias = tuple[Any, str | None]
_log = logging.getLogger(__name__)
_CHUNK = 64 * 1024
_MOST_HEADERS = 1000  # Kong's own limit
_MOST_INTERRUPTIONS = 100
RECOVER_SECONDS = 60.0
"""How long to wait for each part of the reply to an interrupted call; Kong's own limit is as long."""


class ConnectionClosed(Exception):
    """Kong closed the connection."""


class _Exchange:
    """Data to send to Kong, how much of it is sent, and whether a reply follows.

    An exception from outside may interrupt the code anywhere. So the data is sent and counted in one step (``extend``
    of a ``map`` runs no Python code in between), and :meth:`_Stream.finish` can go on where it was interrupted.
    """

    def __init__(self, data: bytes, has_reply: bool) -> None:
        self.data = memoryview(data)
        self.has_reply = has_reply
        self.sent: deque[int] = deque()


class _Stream:
    """The frames of a connection, with one open exchange at a time."""

    def __init__(self, connection: socket.socket, received: bytes) -> None:
        self._connection = connection
        # The unread bytes and the open exchange: in one tuple, to change both in one step.
        self._state: tuple[deque[bytes], _Exchange | None] = (deque([received]), None)

    def read(self) -> bytes:
        """Wait for Kong's next call. Exceptions from outside are ignored: they belong to an event that is over.

        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are not a message.
        """
        for _ in range(_MOST_INTERRUPTIONS):
            try:
                payload, rest = self._receive()
            except (ConnectionClosed, WireError):  # noqa: PERF203
                raise
            except BaseException as error:  # noqa: BLE001  # of a gevent timer that a handler left running
                report(_log, logging.DEBUG, "an exception interrupted an idle connection: %s", describe(error))
            else:
                self._state = (rest, None)
                return payload
        raise ConnectionClosed

    def write(self, *payloads: bytes) -> None:
        """Send messages that Kong does not answer.

        :raises ConnectionClosed: Kong closed the connection.
        """
        self._begin(payloads, False)

    def ask(self, *payloads: bytes) -> bytes:
        """Send messages, and return Kong's reply.

        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are not a message.
        """
        return self._begin(payloads, True)

    def _begin(self, payloads: Sequence[bytes], has_reply: bool) -> bytes:
        data = b"".join([frame(payload) for payload in payloads])
        self._state = (self._state[0], _Exchange(data, has_reply))
        return self.finish()

    @property
    def is_interrupted(self) -> bool:
        """Whether an exception interrupted an exchange."""
        return self._state[1] is not None

    def finish(self) -> bytes:
        """Complete the open exchange, and return the reply; empty where it has none.

        :raises ConnectionClosed: Kong closed the connection.
        :raises WireError: the bytes are not a message.
        """
        received, exchange = self._state
        if exchange is None:
            return b""
        try:
            while (sent := sum(exchange.sent)) < len(exchange.data):
                exchange.sent.extend(map(self._connection.send, (exchange.data[sent:],)))
        except OSError as error:
            raise ConnectionClosed from error
        payload, rest = self._receive() if exchange.has_reply else (b"", received)
        self._state = (rest, None)
        return payload

    def finish_within(self, seconds: float) -> None:
        """Complete the open exchange as :meth:`finish` does, but wait for each part of the reply for a limited time.

        :raises ConnectionClosed: Kong closed the connection, or the time is up.
        :raises WireError: the bytes are not a message.
        """
        try:
            self._connection.settimeout(seconds)
            self.finish()
            self._connection.settimeout(None)
        except OSError as error:
            raise ConnectionClosed from error

    def _receive(self) -> tuple[bytes, deque[bytes]]:
        """Wait for a whole message, and return it with the bytes behind it."""
        received = self._state[0]
        while True:
            message_and_rest = first_message(received)
            if message_and_rest is not None:
                return message_and_rest
            try:
                received.extend(map(self._connection.recv, (_CHUNK,)))
            except OSError as error:
                raise ConnectionClosed from error
            if not received[-1]:
                raise ConnectionClosed


class _Channel:
    """The PDK calls of an event, on the event's connection."""

    def __init__(self, stream: _Stream, interface: Interface, phase: str) -> None:
        self._stream = stream
        self._interface = interface
        self._phase = phase
        self.messages: list[Message] = []
        self.unanswered: str | None = None
        self.is_last = False
        """Whether the connection is closed after this event."""

    @property
    def interrupted(self) -> bool:
        """See :class:`kong_pdk.server.bridge.Channel`."""
        return self._stream.is_interrupted

    def recover(self) -> None:
        """See :class:`kong_pdk.server.bridge.Channel`: reads the reply of the interrupted call, and drops it."""
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
        return set_body(lambda name, given: self._make(self._choose(name), given), args)

    def _get_query_arg(self, chosen: Method, args: Sequence[object]) -> _Result:
        if chosen.output != "String" or len(args) != 1 or not isinstance(args[0], (str, bytes)):
            return self._make(chosen, args)
        name = decode(args[0]) if isinstance(args[0], bytes) else args[0]
        return query_argument(name, lambda: self.call("kong.request.get_query", ())[0]), None

    def _get_header(self, chosen: Method, args: Sequence[object]) -> _Result:
        """In ``log``, look in all headers whether a header is empty or missing: the result message does not tell."""
        value, error = self._make(chosen, args)
        if value is not None or self._phase != "log" or chosen.output != "String":
            return value, error
        headers, _ = self.call(HEADERS_OF[chosen.function], [_MOST_HEADERS])
        name = decode(args[0]) if isinstance(args[0], bytes) else str(args[0])
        return "" if name.lower().replace("_", "-") in headers else None, None

    def _load_consumer(self, chosen: Method, args: Sequence[object]) -> _Result:
        """Ask first whether the consumer exists.

        Where it does not, Kong's function gives no value at all for an id, which Kong cannot put into a ``Value``: it
        ends the request with status 500.
        """
        if chosen.output == "Value" and not any(args[1:]):
            found, error = self._make(self._interface.method(chosen.function), args)
            if found is None:
                return None, error
        return self._make(chosen, args)

    def _authenticate(self, chosen: Method, args: Sequence[object]) -> _Result:
        """Use Kong's own message where there is no consumer: of a list Kong ignores everything from a nil on."""
        if chosen.input == "ListValue" and args and args[0] is None:
            chosen = self._interface.method(chosen.function)
        return self._make(chosen, args)

    def _make(self, chosen: Method, args: Sequence[object]) -> _Result:
        payload = encode_arguments(chosen, args)
        try:
            reply = self._stream.ask(encode(chosen.name), payload)
        except (ConnectionClosed, WireError):  # the next read of the connection raises the same
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
    SET_BODY: _Channel._set_body,
    "kong.client.authenticate": _Channel._authenticate,
    "kong.client.load_consumer": _Channel._load_consumer,
    "kong.request.get_query_arg": _Channel._get_query_arg,
    **dict.fromkeys(HEADERS_OF, _Channel._get_header),
}


def serve(
    connection: socket.socket, received: bytes, instances: Instances, activity: Activity, interface: Interface
) -> None:
    """Serve a connection until Kong closes it.

    :param received: the bytes that were read from it already.
    :param activity: counts the calls in progress.
    :param interface: the methods that Kong has over ProtoBuf:1.
    """
    try:
        stream = _Stream(connection, received)
        is_open = True
        while is_open:
            payload = stream.read()
            with activity:
                is_open = _serve_call(stream, instances, payload, interface)
    except ConnectionClosed:
        pass
    except WireError as error:
        report(_log, logging.ERROR, "closed a connection of a peer that does not speak ProtoBuf:1: %s", error)


def _serve_call(stream: _Stream, instances: Instances, payload: bytes, interface: Interface) -> bool:
    """Answer a call.

    :return: whether the connection stays open; the protocol reports an error by closing it.
    """
    sequence, call = decode_call(payload)
    if isinstance(call, HandleEvent):
        return _serve_event(stream, instances, sequence, call, interface)
    if isinstance(call, StartInstance):
        try:
            status = start(instances, call)
        except InstanceStartError:
            return False
        stream.write(encode_return(sequence, status))
        return True
    stream.write(encode_return(sequence, answer_call(instances, call)))
    return True


def _serve_event(stream: _Stream, instances: Instances, sequence: int, call: HandleEvent, interface: Interface) -> bool:
    channel = _Channel(stream, interface, call.event_name)
    try:
        instance = find(instances, call.instance_id)
    except InstanceStartError:
        waits = fail(channel, call.event_name)
    else:
        if instance is None:  # Kong starts the instance again, and repeats the event
            report(_log, logging.INFO, "there is no instance %d here: Kong starts it again", call.instance_id)
            return False
        waits = run_handler(instance, call.event_name, channel)
    if waits:
        stream.write(b"", encode_return(sequence, None))
    # Else Kong closes the connection once it has answered its client: the next read returns end of file.
    return not channel.is_last
