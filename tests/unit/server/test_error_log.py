"""Errors of events in the log: in full once, then as numbers."""

from __future__ import annotations

import logging

import pytest
from kong_pdk.server import error_log
from kong_pdk.server.error_log import ErrorLog
from waiting import wait_for


@pytest.fixture
def now(monkeypatch):
    """The time, which a test moves."""

    class Clock:
        moment = 1000.0

        def monotonic(self) -> float:
            return self.moment

    clock = Clock()
    monkeypatch.setattr(error_log, "time", clock)
    return clock


def messages(caplog):
    return [record.getMessage() for record in caplog.records]


def test_an_error_is_logged_in_full_once_and_counted_then(now, caplog):
    errors = ErrorLog()
    for number in range(5):
        errors.report("it failed", lambda number=number: f"it failed: number {number}\ntraceback")
    assert messages(caplog) == ["it failed: number 0\ntraceback"]
    now.moment += error_log.COUNTED_SECONDS - 1
    errors.count()
    assert len(caplog.records) == 1
    now.moment = errors.due
    errors.count()
    assert messages(caplog)[1:] == ["it failed: 4 times more in 60 s"]
    assert errors.due == float("inf")
    errors.report("it failed")
    now.moment = errors.due
    errors.count()
    assert messages(caplog)[2:] == ["it failed: once more in 60 s"]


def test_an_error_that_has_been_away_is_logged_in_full_again(now, caplog):
    errors = ErrorLog()
    errors.report("it failed")
    now.moment += error_log.FORGOTTEN_SECONDS + 1
    errors.report("it failed")
    assert messages(caplog) == ["it failed"] * 2


def test_the_oldest_errors_are_forgotten(now, caplog, monkeypatch):
    monkeypatch.setattr(error_log, "MOST_ERRORS", 2)
    errors = ErrorLog()
    for line in ("a", "b", "c", "b", "a"):
        errors.report(line)
    assert messages(caplog) == ["a", "b", "c", "a"]


def test_what_is_not_logged_yet_is_logged_at_the_end(now, caplog):
    errors = ErrorLog()
    for _ in range(3):
        errors.report("it failed")
    errors.count(is_last=True)
    assert messages(caplog) == ["it failed", "it failed: 2 times more in 1 s"]


def test_a_handler_that_raises_with_each_request_fills_no_disk(serve, connect, caplog, monkeypatch):
    monkeypatch.setattr(error_log, "COUNTED_SECONDS", 0.5)

    class Plugin:
        def __init__(self, config):
            pass

        def access(self, kong):
            raise ValueError(f"for {kong.request.get_path()}")

    path = serve(Plugin)
    kong = connect(path)
    instance = kong.start("probe")
    for number in range(20):
        kong = connect(path)
        assert not kong.event(instance, "access", {"kong.request.get_path": f"/{number}"})
    wait_for(lambda: "times more in" in caplog.text)
    texts = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert sum("Traceback" in text for text in texts) == 1
    assert texts[0].startswith("probe: the access handler raised ValueError: for ('/0', None) (")
    assert 'in access\n    raise ValueError(f"for' in texts[0]
    assert "kong_pdk/server" not in texts[0]


def test_the_id_of_the_request_is_named_where_the_handler_has_asked_for_it(serve, connect, caplog):
    class Plugin:
        lua_style = False

        def __init__(self, config):
            pass

        def access(self, kong):
            kong.nginx.get_var("kong_request_id")
            raise ValueError

    path = serve(Plugin)
    kong = connect(path)
    assert not kong.event(kong.start("probe"), "access", {"kong.nginx.get_var": "0123456789abcdef"})
    assert "probe: the access handler (request 0123456789abcdef) raised ValueError" in caplog.text
