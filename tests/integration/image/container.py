"""A container without Docker: the entrypoint in a process of its own, with a script in the place of the base image."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from programs import KONG_PYTHON
from waiting import DEADLINE, wait_for

_KONG = """#!/bin/bash
# Replaces the base image's entrypoint. Its Kong runs the given commands.
echo "2026/11/23 04:40:51 [notice] 1#0: Kong runs as $*" >&2
echo "GET / 200"
trap 'echo "Kong reloads"' HUP
trap 'echo "Kong drains"; {drain}; exit 0' QUIT
trap 'echo "Kong is terminated"; exit 0' TERM
{then}
while :; do sleep 0.05; done
"""


class Container:
    """The running entrypoint and what it has written so far."""

    def __init__(self, place: Path, environ: Mapping[str, str], command: tuple[str, ...]) -> None:
        self._log = place / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [KONG_PYTHON, "entrypoint", *command],
                env=dict(environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=place,
            )  # fmt: skip

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_for(self, text: str, count: int = 1) -> None:
        """Wait until the log has ``text`` so many times."""
        self.wait_until(lambda: self.log.count(text) >= count, f"{count} times {text!r}")

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        def is_met() -> bool:
            runs = self.process.poll() is None
            met = condition()
            assert met or runs, f"ended without {what}:\n{self.log}"
            return met

        wait_for(is_met, lambda: f"no {what} in:\n{self.log}")

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, if any, and wait; returns the exit status."""
        if number is not None:
            self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def pid_of(self, program: str) -> int:
        """Give the process id that a program has, by the last line of supervisord."""
        return int(re.findall(rf"spawned: '{program}' with pid (\d+)", self.log)[-1])

    def kill(self) -> None:
        """End all of its processes, in any state."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def base_image(place: Path, drain: str = "true", then: str = "true") -> Mapping[str, str]:
    """Write a script in place of the base image's entrypoint; returns the variables that select it.

    :param drain: what Kong does when it is asked to stop.
    :param then: what Kong does once it runs.
    """
    script = place / "base-entrypoint"
    script.write_text(_KONG.format(drain=drain, then=then))
    script.chmod(0o755)
    return {"KONG_PYTHON_BASE_ENTRYPOINT": str(script), "KONG_LOG_LEVEL": "debug"}
