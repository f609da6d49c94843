"""The example plugins behind the embedded gateway: ``kong-python dev`` as a process, a service and a client."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from local_servers import Answer, HttpServer, Request
from running_dev import Dev

ROOT = Path(__file__).parents[3]
PLUGINS = ROOT / "plugins"

UPSTREAM_URL = "http://upstream:9000"
"""Stands for the service in a configuration, as in ``docker/kong.yml`` and in the pages."""

_TROUBLE = re.compile(r"\[(warn|error|crit|alert|emerg)\]|Traceback")
_EXPECTED = "start_command undefined for pluginserver"


def from_the_service(request: Request) -> Answer:
    return Answer(200, (("Content-Type", "text/plain"),), b"from the service")


@dataclass
class Service:
    """An HTTP service behind the gateway: keeps the requests and answers with the result of ``answer``."""

    received: list[Request] = field(default_factory=list)
    answer: Callable[[Request], Answer] = from_the_service

    def __post_init__(self) -> None:
        self._server = HttpServer(self._answer)
        self.url = self._server.url
        self.close = self._server.close

    def begin(self) -> None:
        """Remove the requests and the answer of the last test."""
        self.received.clear()
        self.answer = from_the_service

    def _answer(self, request: Request) -> Answer:
        self.received.append(request)
        return self.answer(request)


def copy_plugins(names: Iterable[str], folder: Path) -> Path:
    """Copy example plugins into a folder, without their requirements, which the tests' environment has."""
    folder.mkdir()
    for name in names:
        source = PLUGINS / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("requirements.txt", "__pycache__"))
        else:
            shutil.copy(PLUGINS / f"{name}.py", folder)
    return folder


class Node(Dev):
    """A running ``kong-python dev`` with some of the example plugins and a service."""

    def __init__(self, names: Sequence[str], configuration: str, environment: Mapping[str, str]) -> None:
        """Run the plugins of these names with a ``kong.yml``, in which ``UPSTREAM_URL`` is the service."""
        self.service = Service()
        self._folder = Path(tempfile.mkdtemp(prefix="kong-python-examples-"))
        self._checked = 0
        file = self._folder / "kong.yml"
        file.write_text(configuration.replace(UPSTREAM_URL, self.service.url), encoding="utf-8")
        plugins = copy_plugins(names, self._folder / "plugins")
        super().__init__(str(plugins), "-c", str(file), environment=environment)

    def trouble(self) -> list[str]:
        """Give new lines of level warn and above, without those of every start."""
        new, self._checked = self.lines[self._checked :], len(self.lines)
        return [line for line in new if _TROUBLE.search(line) and _EXPECTED not in line]

    def close(self) -> None:
        super().close()
        self.service.close()
        shutil.rmtree(self._folder, ignore_errors=True)
