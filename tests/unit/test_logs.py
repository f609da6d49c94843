"""The form of log lines."""

from __future__ import annotations

import io
import json
import logging
import re

import pytest
from kong_pdk.logs import NOTICE, JsonFormatter, LineFormatter, configure
from kong_pdk.masking import remember

LINE = re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[(\w+)\] prog: (.*)")


@pytest.fixture
def stream():
    """Configure logging to a stream."""
    target = io.StringIO()
    configure("prog", stream=target)
    return target


@pytest.mark.parametrize(
    ("level", "name"),
    [(logging.INFO, "info"), (NOTICE, "notice"), (logging.WARNING, "warn"), (logging.ERROR, "error"), (50, "crit")],
)
def test_levels_have_nginx_s_names(stream, level, name):
    logging.getLogger("x").log(level, "text %d", 5)
    assert LINE.fullmatch(stream.getvalue().rstrip("\n")).groups() == (name, "text 5")


def test_each_line_of_a_traceback_has_the_form(stream):
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("x").exception("failed")
    lines = stream.getvalue().splitlines()
    assert len(lines) > 3
    assert {LINE.fullmatch(line).group(1) for line in lines} == {"error"}


def test_a_program_is_named_once(stream):
    """A server's messages name their plugin, which alone in its server is the program."""
    logging.getLogger("x").error("prog: the access handler raised")
    logging.getLogger("x").error("other: the access handler raised")
    texts = [LINE.fullmatch(line).group(2) for line in stream.getvalue().splitlines()]
    assert texts == ["the access handler raised", "other: the access handler raised"]


def test_a_line_whose_arguments_do_not_fit_is_not_lost():
    record = logging.LogRecord("x", logging.WARNING, "/plugins/mine.py", 5, "%d items", ("three",), None)
    level, text = LINE.fullmatch(LineFormatter("prog").format(record)).groups()
    assert level == "warn"
    assert '"%d items" cannot be logged: TypeError' in text
    assert "/plugins/mine.py:5" in text


def test_what_a_client_sends_does_not_reach_the_terminal_as_it_is(stream):
    logging.getLogger("x").error("the header is \x1b[2J\x07\x9b and\ttab")
    assert stream.getvalue().rstrip("\n").endswith(r"the header is \x1b[2J\x07\x9b and" + "\ttab")


def test_a_stack_that_is_asked_for_is_written(stream):
    logging.getLogger("x").warning("here", stack_info=True)
    assert "test_a_stack_that_is_asked_for_is_written" in stream.getvalue()


def test_configured_twice_it_logs_once(stream):
    configure("prog", stream=stream)
    logging.getLogger("x").warning("once")
    assert stream.getvalue().count("once") == 1


def test_debug_lines_only_when_verbose(stream):
    logging.getLogger("x").debug("quiet")
    configure("prog", verbose=True, stream=stream)
    logging.getLogger("x").debug("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def test_text_that_is_not_utf8_does_not_break_a_line(tmp_path):
    with (tmp_path / "log").open("w", encoding="utf-8") as target:
        configure("prog", stream=target)
        logging.getLogger("x").warning("header %s", b"Zo\xeb".decode("utf-8", "surrogateescape"))
    assert r"Zo\udceb" in (tmp_path / "log").read_text()


def test_json_is_one_object_for_a_record_and_its_traceback(stream):
    configure("prog", stream=stream, form="json")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("x").exception("prog: failed \x1b")
    (line,) = stream.getvalue().splitlines()
    found = json.loads(line)
    assert (found["level"], found["program"]) == ("error", "prog")
    assert found["message"].startswith("failed \x1b\nTraceback (most recent call last):\n")
    assert found["message"].endswith("\nValueError: first\nsecond")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", found["time"])


def test_json_of_a_line_whose_arguments_do_not_fit_is_not_lost():
    record = logging.LogRecord("x", logging.WARNING, "/plugins/mine.py", 5, "%d items", ("three",), None)
    assert '"%d items" cannot be logged' in json.loads(JsonFormatter("prog").format(record))["message"]


def test_a_stream_that_is_gone_does_not_raise(stream):
    stream.close()
    logging.getLogger("x").error("nobody reads this")


def test_secrets_are_masked_in_every_line(stream):
    """Those of the server's own lines, of a plugin's, and of tracebacks, whatever form the plugin gives its lines."""
    remember(["s3cret-of-mine"])
    logging.getLogger("kong_pdk.server").error("own s3cret-of-mine")
    logging.getLogger("x").error("plain %s", "s3cret-of-mine")
    try:
        raise ValueError("s3cret-of-mine")
    except ValueError:
        logging.getLogger("x").exception("traceback")
    logging.basicConfig(format="mine: %(message)s", force=True)
    try:
        logging.getLogger("x").error("form s3cret-of-mine")
    finally:
        logging.getLogger().handlers.clear()
    lines = stream.getvalue()
    assert "own ****" in lines
    assert "plain ****" in lines
    assert "ValueError: ****" in lines
    assert "mine: form ****" in lines
    assert "s3cret" not in lines
