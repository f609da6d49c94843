"""A handler that raises gives a 500 in Kong's form, at once, and affects no other request."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from container.log_lines import raised_by
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative


@pytest.fixture(scope="module", params=["protobuf", "msgpack"])
def raising(shared: Launcher, request: pytest.FixtureRequest) -> Iterator[Kong]:
    container = shared.start(
        plugins=shared.folder({"raises.py": TEST_PLUGINS / "raises.py", "py-hello.py": PY_HELLO}),
        config=declarative("raises", "py-hello"),
        env={"KONG_PYTHON_PROTOCOL": request.param},
        expected=[raised_by("raises")],
    )
    container.wait_until_serving()
    yield container


def test_the_client_gets_500_in_kongs_form(raising: Kong) -> None:
    """The client gets Kong's own error page, as for an error in a Lua plugin, without the traceback."""
    answer = raising.request(headers={"x-raise": "an error"})

    assert answer.status == 500
    assert answer.headers["content-type"].startswith("application/json")
    body = answer.json()
    assert body["message"] == "An unexpected error occurred"
    assert re.fullmatch("[0-9a-f]{32}", body["request_id"])


def test_the_request_ends_there(raising: Kong) -> None:
    """Neither plugins after the failed one nor the upstream receive the request."""
    answer = raising.request(headers={"x-raise": "an error"})

    assert answer.status == 500
    assert "x-hello-from-python" not in answer.headers
    assert set(answer.json()) == {"message", "request_id"}


def test_the_next_request_is_fine(raising: Kong) -> None:
    """A failure concerns one request only: ten other requests are answered."""
    for _ in range(10):
        assert raising.request(headers={"x-raise": "an error"}).status == 500
        answer = raising.request()
        assert (answer.status, answer.headers["x-did-not-raise"]) == (200, "yes")


def test_the_log_has_the_traceback(raising: Kong) -> None:
    """The log shows the plugin, the phase, the file and the line, at error level, each line with the plugin's name.

    It does so once: then it counts.
    """
    for _ in range(3):
        raising.request(headers={"x-raise": "an error"})
    raising.wait_for_log("raised ValueError: the request asked for an error")
    text = "\n".join(line.text for line in raising.lines("raises", "error"))

    assert "access" in text
    assert re.search(r'raises\.py", line \d+, in access', text), text
    assert text.count("Traceback") == 1
