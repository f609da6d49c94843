"""The table of what instances are made of: one id for one content, and bounded."""

from __future__ import annotations

from kong_pdk.server import contents as module
from kong_pdk.server.contents import Content, ContentTable

FIRST, SECOND = Content("probe", b'{"a": 1}'), Content("probe", b'{"a": 2}')


def digest(start: int, rest: bytes = b"") -> bytes:
    return start.to_bytes(4, "big") + rest


def test_the_same_content_has_the_same_id():
    table = ContentTable()
    id = table.keep(digest(1), FIRST)
    assert table.keep(digest(1), FIRST) == id
    assert table.find(id) == FIRST


def test_two_contents_of_one_id_are_kept_apart():
    table = ContentTable()
    first, second = table.keep(digest(1), FIRST), table.keep(digest(1, b"x"), SECOND)
    assert first != second
    assert (table.find(first), table.find(second)) == (FIRST, SECOND)
    assert table.keep(digest(1, b"x"), SECOND) == second


def test_ids_fit_the_signed_field_of_the_protocol():
    table = ContentTable()
    ids = [table.keep(digest(2**32 - 1, bytes([n])), FIRST) for n in range(3)]
    ids += [table.keep(digest(2**31 - 2, bytes([n])), FIRST) for n in range(3)]
    assert len(set(ids)) == 6
    assert all(0 < id < 2**31 for id in ids)


def test_what_was_dropped_is_gone_and_dropping_again_is_no_error():
    table = ContentTable()
    id = table.keep(digest(1), FIRST)
    table.drop(id)
    table.drop(id)
    assert table.find(id) is None


def test_those_that_were_used_longest_ago_make_room(monkeypatch):
    monkeypatch.setattr(module, "MOST_CONTENTS", 3)
    table = ContentTable()
    ids = [table.keep(digest(n), FIRST) for n in range(3)]
    assert table.find(ids[0]) == FIRST
    table.keep(digest(3), SECOND)
    assert [table.find(id) is None for id in ids] == [False, True, False]


def test_what_nobody_asks_for_is_forgotten(monkeypatch):
    table = ContentTable()
    id = table.keep(digest(1), FIRST)
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    table.keep(digest(2), SECOND)
    assert table.find(id) is None
