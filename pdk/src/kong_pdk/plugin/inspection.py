"""Loads each plugin of a folder in a child process, to describe it without running its code in this process."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from kong_pdk.plugin.description import Description, Plugin, Source
from kong_pdk.plugin.discovery import find, skipped_tests
from kong_pdk.plugin.loading import load
from kong_pdk.plugin.problem import NotAPlugin, PluginError, Problem

# Gets a plugin's name and a piece of its output; an empty piece is the end of the output.
OutputHandler = Callable[[str, bytes], None]

_CHUNK_BYTES = 65536


class OutputCapture:
    """A pipe that takes the place of stdout and stderr in the process that loads a plugin."""

    def __init__(self, name: str, handler: OutputHandler) -> None:
        """Open the pipe. Raises OSError if the process has no free file descriptor."""
        self._name = name
        self._handler = handler
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        self._writing_end_closed = False
        self.ended = False

    def fileno(self) -> int:
        return self._reading

    def read(self) -> bool:
        """Pass available output to the handler; return whether there was any."""
        try:
            chunk = os.read(self._reading, _CHUNK_BYTES)
        except BlockingIOError:
            return False
        self.ended = not chunk
        if chunk:
            self._handler(self._name, chunk)
        return bool(chunk)

    def close_writing_end(self) -> None:
        """Close the child's end in this process, which only reads."""
        os.close(self.writing)
        self._writing_end_closed = True

    def close(self) -> None:
        """Pass the rest to the handler and close. Later output of processes that still hold the other end is lost."""
        if not self._writing_end_closed:
            os.close(self.writing)
        for _ in range(_CHUNK_BYTES):
            if not self.read():
                break
        os.close(self._reading)
        self._handler(self._name, b"")


Load = Callable[[Source], Plugin]

_MAX_CHILDREN = 2

# A result is a few kilobytes. A huge one is a mistake, and must not fill the memory of process 1.
_MAX_RESULT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Inspection:
    """The plugins of a folder that can be served, its problems, and the files that are skipped as tests."""

    plugins: list[Description] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    skipped: list[Problem] = field(default_factory=list)

    def warnings(self, names: Collection[str] | None = None) -> list[str]:
        """A line for each file or attribute that is ignored, although its author may expect it to take effect.

        :param names: the plugins to look at; None for all.
        """
        skipped = [str(problem) for problem in self.skipped if names is None or problem.plugin in names]
        chosen = [plugin for plugin in self.plugins if names is None or plugin.name in names]
        return skipped + [text for plugin in chosen for text in plugin.warnings]


def inspect(folder: Path, timeout: float = 30.0, printed: OutputHandler | None = None, load: Load = load) -> Inspection:
    """Find every plugin of ``folder`` and load it in a forked child process.

    The calling process imports no plugin code and should have no threads. A plugin that ends its process, crashes
    or hangs is a problem with the plugin's name. On return, the children and the processes that they started in their
    process group are gone.

    :param timeout: seconds that one plugin may take to load.
    :param printed: gets the output of the plugins; without it, their output goes to stderr.
    :param load: loads a plugin in the child.
    """
    sources, problems = find(folder)
    plugins: list[Description] = []
    for result in _load_in_children(sources, timeout, printed, load):
        if isinstance(result, Description):
            plugins.append(result)
        else:
            problems.extend(result)
    order = [source.name for source in sources]
    plugins.sort(key=lambda plugin: order.index(plugin.name))
    problems.sort(key=lambda problem: (str(problem.file), problem.line or 0))
    return Inspection(plugins, problems, skipped_tests(folder))


def _load_in_children(
    sources: list[Source], timeout: float, handler: OutputHandler | None, load: Load
) -> Iterator[Description | list[Problem]]:
    waiting = list(reversed(sources))
    running: list[_LoadingChild] = []
    try:
        while waiting or running:
            while waiting and len(running) < _MAX_CHILDREN:
                source = waiting.pop()
                try:
                    running.append(_LoadingChild(source, timeout, handler, load))
                except OSError as error:
                    yield [_fork_problem(source, error)]
            _wait_for_children(running)
            for child in [child for child in running if child.is_over()]:
                running.remove(child)
                yield child.result()
    finally:
        for child in running:
            child.end()


def _wait_for_children(running: list[_LoadingChild]) -> None:
    """Wait until a child has written something, has ended, or is past its deadline."""
    if not running:
        return
    remaining = min(child.deadline for child in running) - time.monotonic()
    with selectors.DefaultSelector() as selector:
        for child in running:
            selector.register(child.pipe, selectors.EVENT_READ, child.read)
            if child.output and not child.output.ended:
                selector.register(child.output, selectors.EVENT_READ, child.output.read)
        for key, _ in selector.select(max(remaining, 0)):
            key.data()


def _fork_problem(source: Source, error: OSError) -> Problem:
    message = f"plugin cannot be loaded in a process of its own ({error.strerror})"
    return Problem(source.file, None, message, "allow more processes and open files", source.name)


class _LoadingChild:
    """A child process that loads one plugin and writes the result into a pipe."""

    def __init__(self, source: Source, timeout: float, handler: OutputHandler | None, load: Load) -> None:
        self._source = source
        self._timeout = timeout
        self._received = bytearray()
        self._ended = False
        with contextlib.ExitStack() as cleanup:
            self.output = OutputCapture(source.name, handler) if handler else None
            if self.output:
                cleanup.callback(self.output.close)
            self.pipe, writing = os.pipe()
            cleanup.callback(os.close, self.pipe)
            cleanup.callback(os.close, writing)
            self._pid = _fork()
            cleanup.pop_all()
        if self._pid == 0:
            _run_child(source, load, writing, timeout, self.output.writing if self.output else 2)
        os.close(writing)
        if self.output:
            self.output.close_writing_end()
        self.deadline = time.monotonic() + timeout

    def read(self) -> None:
        """Read a piece of the child's result."""
        chunk = os.read(self.pipe, _CHUNK_BYTES)
        self._received += chunk
        self._ended = not chunk

    def is_over(self) -> bool:
        """Whether the result is complete, or no more of it will come."""
        is_complete = self._received.endswith(b"\n") or len(self._received) > _MAX_RESULT_BYTES
        return is_complete or self._ended or time.monotonic() >= self.deadline

    def result(self) -> Description | list[Problem]:
        """The plugin's description, or its problems."""
        is_complete = self._received.endswith(b"\n")
        status = self.end(wait=self._ended and not is_complete)
        if not is_complete:
            return [self._missing_result_problem(status)]
        try:
            data = json.loads(self._received)
            if "plugin" in data:
                return Description.from_dict(data["plugin"])
            return [Problem.from_dict(problem) for problem in data["problems"]]
        except (ValueError, TypeError, KeyError):
            return [self._problem("import wrote into the pipe of the server", "close no file that it did not open")]

    def end(self, wait: bool = False) -> int | None:
        """Kill the rest of the child's process group and reap the child.

        :param wait: wait for the child, which is about to exit by itself.
        :return: the child's wait status if it exited by itself.
        """
        os.close(self.pipe)
        status = self._wait_for_exit() if wait else None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            if status is None:
                os.kill(self._pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            if status is None:
                os.waitpid(self._pid, 0)
        if self.output:
            self.output.close()
        return status

    def _wait_for_exit(self) -> int | None:
        while time.monotonic() < self.deadline:
            try:
                pid, status = os.waitpid(self._pid, os.WNOHANG)
            except ChildProcessError:
                return None
            if pid:
                return status
            time.sleep(0.002)
        return None

    def _missing_result_problem(self, status: int | None) -> Problem:
        if len(self._received) > _MAX_RESULT_BYTES:
            return self._problem("the schema is too large", "make it smaller")
        if status is None and time.monotonic() < self.deadline:
            # The caller ignores SIGCHLD, or reaped the child itself.
            return self._problem("import ends the process", "remove the call of os._exit")
        if status is None:
            hint = "do not wait during the import; wait in Plugin.__init__"
            return self._problem(f"import did not end within {self._timeout:g} s", hint)
        if os.WIFSIGNALED(status):
            name = signal.Signals(os.WTERMSIG(status)).name
            return self._problem(
                f"import crashes the process ({name})", "find the library that crashes, and replace it"
            )
        code = os.waitstatus_to_exitcode(status)
        return self._problem(f"import ends the process (exit code {code})", "remove the call of os._exit")

    def _problem(self, message: str, hint: str) -> Problem:
        return Problem(self._source.file, None, message, hint, self._source.name)


def _fork() -> int:
    # Otherwise the child would write this process's buffered output a second time.
    _flush()
    with warnings.catch_warnings():
        # Since Python 3.12 os.fork warns if the process has threads; the caller is responsible for this.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # A plugin may have closed or removed them.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _run_child(source: Source, load: Load, writing: int, timeout: float, output: int) -> NoReturn:
    """Load the plugin, write the result, and exit without running the parent's exit handlers."""
    try:
        _detach_from_parent(timeout, output)
        data = json.dumps(_load_result(source, load)).encode("ascii") + b"\n"
        _flush()
        while data:
            data = data[os.write(writing, data) :]
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        _flush()
        raise
    finally:
        os._exit(70)


def _load_result(source: Source, load: Load) -> dict[str, Any]:
    try:
        return {"plugin": load(source).to_dict()}
    except NotAPlugin:
        return {"problems": []}
    except PluginError as error:
        return {"problems": [problem.to_dict() for problem in error.problems]}


def _detach_from_parent(timeout: float, output: int) -> None:
    """Leave the parent's process group, signal handlers, input and output behind."""
    os.setpgid(0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    # Ends this process even if the parent is gone.
    signal.alarm(int(timeout) + 5)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    sys.stdin = os.fdopen(0, closefd=False)
    os.dup2(output, 1)
    os.dup2(output, 2)
    # No __pycache__ in the plugin folder, which may be read-only or watched for changes.
    sys.dont_write_bytecode = True
