"""Plugin servers that misbehave on purpose, one function a connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from kong_pdk.wire import msgpack_codec, protobuf_codec
from kong_pdk.wire.calls import Call, CloseInstance, HandleEvent, InstanceStatus, StartInstance

Streams = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
_TURNS = 10


@asynccontextmanager
async def serving(path: Path, serve: Streams) -> AsyncIterator[None]:
    """Serve a unix socket until the block ends."""

    tasks: set[asyncio.Task[None]] = set()

    async def guarded(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            return  # The client, or the test, has closed it.
        finally:
            tasks.discard(task)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_unix_server(guarded, str(path))
    try:
        yield
    finally:
        # A connection whose server closes, or whose task is cancelled, before the task's first step stays open: the
        # last connections need some turns of the loop for this step.
        for _ in range(_TURNS):
            await asyncio.sleep(0)
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)
        await asyncio.sleep(0)  # Transports close in the loop's next turn.


class MsgPackServer:
    """Answers requests from ``answers``: ``(error, result)`` by method, or a function of the request."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.requests: list[tuple[str, Any]] = []
        self.connections = 0
        self.before: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        messages = msgpack_codec.Messages()
        while data := await reader.read(65536):
            for message in messages.feed(data):
                assert isinstance(message, msgpack_codec.Request)
                method = message.method.removeprefix("plugin.")
                self.requests.append((method, message.args[0]))
                answer = self.answers[method]
                if callable(answer):
                    answer = answer(message.args[0])
                if answer is None:
                    return
                while self.before:
                    writer.write(self.before.pop(0))
                writer.write(msgpack_codec.encode_response(message.id, *answer))

    def names(self) -> list[str]:
        return [name for name, _ in self.requests]


class ProtoBufServer:
    """Starts instances, and runs ``handle`` for each event; the default handle ends the event at once."""

    def __init__(self, handle: Callable[..., Awaitable[bool]] | None = None) -> None:
        self.calls: list[Call] = []
        self.connections = 0
        self._handle = handle

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while True:
            sequence, call = protobuf_codec.decode_call(await frame_of(reader))
            self.calls.append(call)
            if isinstance(call, StartInstance):
                started = sum(isinstance(item, StartInstance) for item in self.calls)
                writer.write(returned(sequence, InstanceStatus(call.name, started)))
            elif isinstance(call, CloseInstance):
                writer.write(returned(sequence, None))
            elif self._handle is not None and not await self._handle(reader, writer):
                return
            else:
                writer.write(protobuf_codec.frame(b"") + returned(sequence, None))

    def kinds(self) -> list[type]:
        return [type(call) for call in self.calls]

    def events(self) -> list[HandleEvent]:
        return [call for call in self.calls if isinstance(call, HandleEvent)]


def returned(sequence: int, answer: InstanceStatus | None) -> bytes:
    return protobuf_codec.frame(protobuf_codec.encode_return(sequence, answer))


async def frame_of(reader: asyncio.StreamReader) -> bytes:
    length = int.from_bytes(await reader.readexactly(4), "little")
    return await reader.readexactly(length)
