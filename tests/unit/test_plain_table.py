"""Tables in plain text."""

from __future__ import annotations

from kong_pdk.plain_table import render


def test_columns_are_aligned_whatever_their_width() -> None:
    assert render(("plugin", "from"), [("a", "x.py"), ("日本", None)]).splitlines() == [
        "plugin        from",
        "a             x.py",
        "日本          None",
    ]


def test_a_long_cell_goes_on_in_the_next_line() -> None:
    rows = [("a", "one two three"), ("b", "four\nfive")]
    assert render(("name", "text"), rows, {"text": 8}).splitlines() == [
        "name        text",
        "a           one two",
        "            three",
        "b           four",
        "            five",
    ]
