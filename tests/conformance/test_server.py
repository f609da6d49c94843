"""The plugin server makes the recorded PDK calls, and its handler gets the recorded values.

Kong's own bytes are replayed to it, connection by connection. Where Kong refused a call for its phase, our server
does not send the call: the handler gets a PhaseError.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from conformance.known_differences import SERVER, judge
from conformance.recordings import Case, cases
from conformance.replay import ASYNC, Servers, servers_of
from server_process import MODES


@pytest.fixture(scope="module", params=[*MODES, *ASYNC])
def servers(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """The servers of one mode."""
    yield from servers_of(request.param, tmp_path_factory.mktemp("server"))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_case(case: Case, servers: Servers, request: pytest.FixtureRequest) -> None:
    """Each event of a case makes the same calls, and each call gets the same value."""
    judge(case, SERVER, servers.mode, lambda: servers.replay(case).play(case), request)
