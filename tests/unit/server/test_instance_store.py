"""The table of instances' configurations: one id for each, and a bounded size."""

from __future__ import annotations

from kong_pdk.server.instances import instance_store as module
from kong_pdk.server.instances.instance_store import Content, InstanceTable

FIRST, SECOND = Content("probe", b'{"a": 1}'), Content("probe", b'{"a": 2}')


def digest(start: int, rest: bytes = b"") -> bytes:
    return start.to_bytes(4, "big") + rest


def test_the_same_content_has_the_same_id():
    table = InstanceTable()
    id = table.keep(digest(1), FIRST)
    assert table.keep(digest(1), FIRST) == id
    assert table.find(id) == FIRST


def test_two_contents_of_one_id_are_kept_apart():
    table = InstanceTable()
    first, second = table.keep(digest(1), FIRST), table.keep(digest(1, b"x"), SECOND)
    assert first != second
    assert (table.find(first), table.find(second)) == (FIRST, SECOND)
    assert table.keep(digest(1, b"x"), SECOND) == second


def test_ids_fit_the_signed_field_of_the_protocol():
    table = InstanceTable()
    ids = [table.keep(digest(2**32 - 1, bytes([n])), FIRST) for n in range(3)]
    ids += [table.keep(digest(2**31 - 2, bytes([n])), FIRST) for n in range(3)]
    assert len(set(ids)) == 6
    assert all(0 < id < 2**31 for id in ids)


def test_what_was_dropped_is_gone_and_dropping_again_is_no_error():
    table = InstanceTable()
    id = table.keep(digest(1), FIRST)
    table.drop(id)
    table.drop(id)
    assert table.find(id) is None


def test_those_that_were_used_longest_ago_make_room(monkeypatch):
    monkeypatch.setattr(module, "MOST_CONTENTS", 3)
    table = InstanceTable()
    ids = [table.keep(digest(n), FIRST) for n in range(3)]
    assert table.find(ids[0]) == FIRST
    table.keep(digest(3), SECOND)
    assert [table.find(id) is None for id in ids] == [False, True, False]


def test_unused_contents_are_dropped(monkeypatch):
    table = InstanceTable()
    id = table.keep(digest(1), FIRST)
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    table.keep(digest(2), SECOND)
    assert table.find(id) is None


def test_large_contents_make_room_for_each_other(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    table = InstanceTable()
    ids = [table.keep(digest(n), Content("probe", b"x" * 4)) for n in range(2)]
    third = table.keep(digest(2), Content("probe", b"x" * 4))
    assert [table.find(id) is None for id in (*ids, third)] == [True, False, False]
    table.keep(digest(3), Content("probe", b"x" * 100))
    assert [table.find(id) is None for id in (*ids, third)] == [True, True, True]
    table.drop(table.keep(digest(3), Content("probe", b"x" * 100)))
    kept = [table.keep(digest(n), Content("probe", b"x" * 5)) for n in (4, 5)]
    assert None not in [table.find(id) for id in kept]


def test_what_a_worker_holds_is_not_forgotten(monkeypatch):
    monkeypatch.setattr(module, "MOST_CONTENTS", 2)
    monkeypatch.setattr(module, "IDLE_SECONDS", -1.0)
    table = InstanceTable()
    held = table.keep(digest(1), FIRST, "worker 1")
    table.find(held, "worker 2")
    for number in range(2, 20):
        table.keep(digest(number), SECOND)
    assert table.find(held) == FIRST
    table.release(held, "worker 1")
    table.release(held, "worker 1")  # once too often: it is not the other's
    table.expire()
    assert table.find(held) == FIRST
    table.release_all("worker 2")
    table.expire()
    assert table.find(held) is None


def test_an_id_is_held_as_often_as_it_was_given():
    table = InstanceTable()
    held = table.keep(digest(1), FIRST, "worker")
    table.find(held, "worker")
    table.release(held, "worker")
    assert table.drop(held) == {"worker"}
    assert table.keep(digest(1, b"x"), SECOND) != held
    table.release(held, "worker")
    assert table.keep(digest(1, b"y"), SECOND) == held


def test_an_id_stays_taken_until_each_worker_has_let_go(monkeypatch):
    monkeypatch.setattr(module, "CLOSED_SECONDS", 0.0)
    table = InstanceTable()
    held = table.keep(digest(1), FIRST, "worker 1")
    table.find(held, "worker 2")
    table.close(held)
    assert table.expire() == {held: {"worker 1", "worker 2"}}
    assert table.expire() == {}
    assert table.find(held) is None
    table.release(held, "worker 1")
    other = table.keep(digest(1, b"x"), SECOND)
    assert other != held
    assert table.keep(digest(1), FIRST, "worker 1") == held  # the same content may have it back
    assert table.find(held) == FIRST
    assert table.keep(digest(1, b"x"), SECOND) == other


def test_the_same_content_keeps_its_id_when_the_one_before_it_is_free_again():
    table = InstanceTable()
    first, second = table.keep(digest(1), FIRST), table.keep(digest(1, b"x"), SECOND)
    table.drop(first)
    assert table.keep(digest(1, b"x"), SECOND) == second


def test_each_start_is_closed_for_itself(monkeypatch):
    monkeypatch.setattr(module, "CLOSED_SECONDS", 0.0)
    table = InstanceTable()
    for _ in range(2):
        id = table.keep(digest(1), FIRST, "worker")
    table.close(id)
    assert table.next_due() is None
    assert table.expire() == {}
    table.close(id)
    table.close(id)
    assert table.next_due() is not None
    assert table.expire() == {id: {"worker"}}
    table.close(id)
    assert table.expire() == {}


def test_a_content_that_is_started_again_is_not_closed(monkeypatch):
    table = InstanceTable()
    id = table.keep(digest(1), FIRST)
    table.close(id)
    table.keep(digest(1), FIRST)
    monkeypatch.setattr(module, "CLOSED_SECONDS", -1.0)
    assert table.expire() == {}
    assert table.find(id) == FIRST
    table.close(id)
    assert table.expire() == {id: set()}
    assert table.find(id) is None


def test_nothing_that_was_forgotten_is_left(monkeypatch):
    monkeypatch.setattr(module, "CLOSED_SECONDS", 0.0)
    table = InstanceTable()
    for number in range(50):
        id = table.keep(digest(number), FIRST, "worker")
        table.close(id)
        table.expire()
        table.release(id, "worker")
    assert not table._entries and not table._ids and not table._free and not table._closing
    assert table._bytes == 0
