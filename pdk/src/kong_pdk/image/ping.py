"""Asks plugin servers for a sign of life by an RPC: a socket may accept connections that no process serves."""

from __future__ import annotations

import functools
import json
import socket
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from threading import Thread
from typing import NamedTuple, TypeVar

from kong_pdk.exit_status import StartError
from kong_pdk.image.run_directory import RunDirectory
from kong_pdk.wire.msgpack_codec import Messages, Response, encode_request
from kong_pdk.wire.wire_errors import WireError

T = TypeVar("T")

_REQUEST_ID = 1
_THREADS = 32
_PAUSE = 0.05
_ONE_TRY = 5.0


class Server(NamedTuple):
    """A plugin server that this container runs."""

    name: str
    socket: Path


def write_servers(run: RunDirectory, names: Iterable[str]) -> None:
    """Write the list of the servers that the container runs, for other processes.

    :raises StartError: the file cannot be written.
    """
    run.write(run.servers_file, json.dumps({name: str(run.socket(name)) for name in names}, indent=1) + "\n")


def read_servers(run: RunDirectory) -> list[Server]:
    """Read the list of the servers that the container runs.

    :raises StartError: there is no list: our entrypoint did not start the container.
    """
    try:
        entries = json.loads(run.servers_file.read_text(encoding="utf-8", errors="surrogateescape"))
        return [Server(str(name), Path(path)) for name, path in entries.items()]
    except OSError as error:
        raise StartError(
            f"{run.servers_file}: {error.strerror}; Kong was not started here by user {run.path.name}"
        ) from error
    except (ValueError, AttributeError, TypeError) as error:
        raise StartError(f"{run.servers_file}: cannot be understood ({error}); restart the container") from error


def ping(server: Server, timeout: float, every_worker: bool = False) -> str | None:
    """Ask a server for a sign of life once.

    :param timeout: in seconds, for the whole exchange.
    :param every_worker: ask all workers, not only the worker that accepts the connection.
    :return: the problem, or None.
    """
    deadline = time.monotonic() + timeout
    method = "plugin.GetWorkers" if every_worker else "plugin.GetStatus"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(max(timeout, 0.001))
            connection.connect(str(server.socket))
            connection.sendall(encode_request(_REQUEST_ID, method, []))
            return _answer(connection, deadline)
    except TimeoutError:
        return f"does not answer within {timeout:.0f} s"
    except OSError as error:
        return f"cannot be reached at {server.socket}: {error.strerror or error}"


def _answer(connection: socket.socket, deadline: float) -> str | None:
    messages = Messages()
    while True:
        connection.settimeout(max(deadline - time.monotonic(), 0.001))
        data = connection.recv(65536)
        if not data:
            return "closes the connection without an answer"
        try:
            received = messages.feed(data)
        except WireError as error:
            return f"sends an answer that is not MessagePack-RPC: {error}"
        for message in received:
            if isinstance(message, Response) and message.id == _REQUEST_ID:
                if message.error is not None:
                    return f"answers with an error: {message.error}"
                return _silent_workers(message.result)


def _silent_workers(result: object) -> str | None:
    workers = result.get("Workers", []) if isinstance(result, dict) else []
    silent = [f"worker {each['Number']} (process {each['Pid']})" for each in workers if not each["Answers"]]
    verb = "does" if len(silent) == 1 else "do"
    return f"has {len(workers)} workers, of which {', '.join(silent)} {verb} not answer" if silent else None


def ping_all(servers: list[Server], timeout: float, every_worker: bool = False) -> dict[str, str]:
    """Ask all servers at once.

    :param timeout: in seconds, for each server.
    :param every_worker: see :func:`ping`.
    :return: the problems, by the name of the server.
    """
    return _check_all(servers, lambda server: ping(server, timeout, every_worker))


def wait_for_all(servers: list[Server], timeout: float) -> dict[str, str]:
    """Wait until every server answers.

    :param timeout: in seconds, for all servers together.
    :return: the problems that are left, by the name of the server.
    """
    deadline = time.monotonic() + timeout
    return _check_all(servers, lambda server: _wait_for(server, deadline))


def _wait_for(server: Server, deadline: float) -> str | None:
    while True:
        problem = ping(server, min(_ONE_TRY, deadline - time.monotonic()))
        if problem is None or time.monotonic() >= deadline:
            return problem
        time.sleep(_PAUSE)


def _check_all(servers: list[Server], check: Callable[[Server], str | None]) -> dict[str, str]:
    answers = at_once([functools.partial(check, server) for server in servers])
    return {server.name: problem for server, problem in zip(servers, answers, strict=True) if problem is not None}


def at_once(functions: Sequence[Callable[[], T]]) -> list[T]:
    """Call functions on threads, some at once, and give their results, in their order. Raises what one of them raises.

    ``concurrent.futures`` does the same, but its import takes a fifth of the time of a health check.
    """
    results: dict[int, T] = {}
    errors: list[BaseException] = []
    todo = iter(list(enumerate(functions)))

    def work() -> None:
        for number, function in todo:
            try:
                results[number] = function()
            except BaseException as error:  # noqa: BLE001, PERF203  # raised on the thread that waits
                errors.append(error)

    threads = [Thread(target=work) for _ in functions[:_THREADS]]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return [results[number] for number in range(len(functions))]
