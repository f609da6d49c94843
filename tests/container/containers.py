"""Real containers for tests: started with a random name, waited for by a condition, always removed.

A run that is killed leaves its containers; they have a label:
``docker rm -f $(docker ps -aq --filter label=kong-python.tests)``.
"""

from __future__ import annotations

import http.client
import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

LABEL = "kong-python.tests"
# Generous, since several tests run at once and the machine may be busy. A passing test never waits this long.
DEADLINE_SECONDS = 150.0
# A condition often runs the docker command, which takes a tenth of a second of CPU time.
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.1, 0.5
_ALIVE_SECONDS = 2.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class Finished:
    """The result of a command or a container that has ended."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def output(self) -> str:
        return self.stdout + self.stderr


@dataclass(frozen=True)
class Answer:
    """An HTTP response; header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def docker(*arguments: str, check: bool = True, timeout: float = 120.0) -> Finished:
    """Run the docker command. With ``check``, a failure is an AssertionError with its output."""
    done = subprocess.run(
        ["docker", *arguments],
        capture_output=True,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        timeout=timeout,
        check=False,
    )
    finished = Finished(done.returncode, done.stdout, done.stderr)
    assert not check or finished.exit_code == 0, f"docker {' '.join(arguments)}\n{finished.output}"
    return finished


def run_once(
    image: str,
    *command: str,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    timeout: float = DEADLINE_SECONDS,
) -> Finished:
    """Run a container to its end and remove it. A container that exceeds the time fails the test."""
    with started(image, *command, env=env, options=options, ports=()) as container:
        exit_code = container.wait_exit(timeout)
        streams = docker("logs", container.id)
        return Finished(exit_code, streams.stdout, streams.stderr)


@contextmanager
def started(
    image: str,
    *command: str,
    env: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
    ports: Sequence[int] = (8000,),
) -> Iterator[TrackedContainer]:
    """Start a container that is removed at the end of the block."""
    container = TrackedContainer.run(image, *command, env=env, options=options, ports=ports)
    try:
        yield container
    finally:
        container.remove()


class TrackedContainer:
    """One container, known by its id."""

    def __init__(self, container_id: str) -> None:
        self.id = container_id
        self._addresses: dict[int, tuple[str, int]] = {}

    @classmethod
    def run(
        cls,
        image: str,
        *command: str,
        env: Mapping[str, str] | None = None,
        options: Sequence[str] = (),
        ports: Sequence[int] = (8000,),
    ) -> TrackedContainer:
        """Start a container in the background.

        :param env: environment variables.
        :param options: more options of ``docker run``, such as ``--read-only``.
        :param ports: container ports to publish, each on a free port of 127.0.0.1.
        """
        name = f"kong-python-test-{secrets.token_hex(6)}"
        arguments = ["create", "--name", name, "--label", LABEL]
        for key, value in (env or {}).items():
            arguments += ["--env", f"{key}={value}"]
        for port in ports:
            arguments += ["--publish", f"127.0.0.1::{port}"]
        container = cls(docker(*arguments, *options, image, *command).stdout.strip())
        try:
            docker("start", container.id)
        except BaseException:
            container.remove()
            raise
        return container

    # --- its state

    def inspect(self) -> Any:
        return json.loads(docker("inspect", self.id).stdout)[0]

    @property
    def running(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    @property
    def health(self) -> str:
        """``starting``, ``healthy`` or ``unhealthy`` by the engine's own checks; ``none`` if it makes none."""
        return str(self.inspect()["State"].get("Health", {}).get("Status", "none"))

    def logs(self) -> str:
        """Standard output and standard error, in the order in which they were written."""
        done = subprocess.run(
            ["docker", "logs", self.id],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        )
        return done.stdout

    # --- waiting

    def wait_for(
        self, condition: Callable[[], Value], what: str, seconds: float = DEADLINE_SECONDS, alive: bool = True
    ) -> Value:
        """Wait until the condition returns a true value, and return it.

        A condition that raises OSError (refused, reset) or HTTPException counts as false.
        With ``alive``, a container that has ended is a failure, too, within seconds. A failure shows the log.
        """
        began = looked = time.monotonic()
        pause = _FIRST_POLL_SECONDS
        while True:
            try:
                value = condition()
            except (OSError, http.client.HTTPException) as error:
                value, reason = None, f" (last: {error!r})"
            else:
                reason = ""
            if value:
                return value
            now = time.monotonic()
            if alive and now - looked > _ALIVE_SECONDS:
                looked = now
                assert self.running, f"the container ended before: {what}\n{self.logs()}"
            assert now - began < seconds, f"after {seconds} s still not: {what}{reason}\n{self.logs()}"
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_POLL_SECONDS)

    def wait_for_log(self, text: str, times: int = 1, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until the log has this text this number of times."""
        self.wait_for(lambda: self.logs().count(text) >= times, f"{times} x {text!r} in the log", seconds)

    def wait_until_it_answers(self, path: str = "/", port: int = 8000, seconds: float = DEADLINE_SECONDS) -> Answer:
        """Wait for the first HTTP answer, of any status."""
        return self.wait_for(lambda: self.request(path, port=port), f"an answer on port {port}", seconds)

    def wait_until_healthy(self, seconds: float = DEADLINE_SECONDS) -> None:
        self.wait_for(lambda: self.health == "healthy", "healthy", seconds)

    def wait_exit(self, seconds: float = DEADLINE_SECONDS) -> int:
        """Wait until the container has ended; return its exit code."""
        self.wait_for(lambda: not self.running, "ended", seconds, alive=False)
        return int(self.inspect()["State"]["ExitCode"])

    # --- actions on it

    def exec(
        self, *command: str, env: Mapping[str, str] | None = None, user: str | None = None, check: bool = True
    ) -> Finished:
        """Run a command in it, as its own user unless another is given."""
        options = [f"--env={key}={value}" for key, value in (env or {}).items()]
        if user is not None:
            options.append(f"--user={user}")
        return docker("exec", *options, self.id, *command, check=check)

    def signal(self, name: str) -> None:
        docker("kill", "--signal", name, self.id)

    def stop(self, seconds: int = 10) -> int:
        """``docker stop``: the image's stop signal, and a kill after this number of seconds; return the exit code."""
        docker("stop", "--time", str(seconds), self.id, timeout=seconds + 60)
        return int(self.inspect()["State"]["ExitCode"])

    def restart(self, seconds: int = 10) -> None:
        """``docker restart``: like ``docker stop`` and ``docker start``."""
        self._addresses.clear()
        docker("restart", "--time", str(seconds), self.id, timeout=seconds + 60)

    def start(self) -> None:
        """``docker start`` of a container that has ended: the same file system, a new process."""
        self._addresses.clear()
        docker("start", self.id)

    def remove(self) -> None:
        docker("rm", "--force", "--volumes", self.id, check=False)

    # --- requests to it

    def address(self, port: int = 8000) -> tuple[str, int]:
        """Give the address of a published port on this machine. Raises OSError when the container has ended."""
        if port not in self._addresses:
            published = docker("port", self.id, str(port), check=False)
            if published.exit_code != 0:
                raise ConnectionRefusedError(published.output.strip())
            host, _, number = published.stdout.splitlines()[0].rpartition(":")
            self._addresses[port] = host, int(number)
        return self._addresses[port]

    def request(  # noqa: PLR0913
        self,
        path: str = "/",
        *,
        method: str = "GET",
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        port: int = 8000,
        timeout: float = 30.0,
    ) -> Answer:
        """Send one HTTP request on its own connection. Raises OSError if the connection fails."""
        host, number = self.address(port)
        connection = http.client.HTTPConnection(host, number, timeout=timeout)
        try:
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        except OSError:
            self._addresses.clear()  # The engine chooses another port when a container starts again.
            raise
        finally:
            connection.close()


class Start(Protocol):
    """Starts a container with the arguments of :meth:`TrackedContainer.run`; it is removed after the test."""

    def __call__(self, image: str, *command: str, **options: object) -> TrackedContainer: ...
