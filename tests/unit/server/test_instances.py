"""Instances: ids from content, Kong's keys kept apart."""

from __future__ import annotations

import itertools
import json
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from kong_pdk.plugin import Plugin
from kong_pdk.server import instances as module
from kong_pdk.server.instances import InstanceError, Instances, instance_store


class Keeps:
    def __init__(self, config):
        self.config = config


def make(schema=()):
    return Instances([Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), schema, cls=Keeps)])


def test_the_id_comes_from_the_content_whatever_the_order_of_keys():
    first = make().start("probe", b'{"a": 1, "__seq__": 3}')
    second = make().start("probe", b'{"__seq__": 3, "a": 1}')
    assert first.id == second.id
    assert 0 < first.id < 2**31


def test_another_sequence_is_another_instance():
    instances = make()
    assert instances.start("probe", b'{"__seq__": 3}').id != instances.start("probe", b'{"__seq__": 4}').id


def test_the_same_content_is_the_same_instance():
    instances = make()
    assert instances.start("probe", b"{}") is instances.start("probe", b"[]")
    assert len(instances.all()) == 1


def test_two_contents_of_one_id_are_kept_apart(monkeypatch):
    monkeypatch.setattr(module, "_digest", lambda name, config: b"\0\0\0\1" + repr(config).encode())
    instances = make()
    first, second = instances.start("probe", b'{"a": 1}'), instances.start("probe", b'{"a": 2}')
    assert first.id != second.id
    assert instances.start("probe", b'{"a": 1}') is first
    assert instances.start("probe", b'{"a": 2}') is second


def test_the_plugin_gets_the_users_keys():
    config = b'{"message": "m", "__plugin_id": "i", "__seq__": 1, "__key__": "k", "__ws_id": "w", "route_id": "r"}'
    instance = make().start("probe", config)
    assert instance.handler.config == {"message": "m"}
    assert instance.internal["route_id"] == "r"
    assert instance.internal["__plugin_id"] == "i"


def test_a_field_that_the_schema_declares_is_the_users():
    instance = make(({"route_id": {"type": "string"}},)).start("probe", b'{"route_id": "r"}')
    assert instance.handler.config == {"route_id": "r"}


@pytest.mark.parametrize("config", [b"{", b"5", b'"x"', b"\xff", b"[" * 100_000])
def test_a_configuration_that_is_no_object_is_refused(config):
    with pytest.raises(InstanceError, match="probe"):
        make().start("probe", config)


class Clock:
    """What ``time.monotonic`` says in the modules of instances."""

    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now

    def time(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Clock()
    for each in (module, instance_store):
        monkeypatch.setattr(each, "time", made)
    return made


def test_a_closed_instance_is_found_by_events_under_way_and_then_gone(clock):
    instances = make()
    id = instances.start("probe", b"{}").id
    assert instances.close(id) is not None
    assert instances.close(id) is not None  # as Kong may, being late
    assert instances.get(id) is not None
    assert instances.look_after() == instance_store.CLOSED_SECONDS
    clock.now += instance_store.CLOSED_SECONDS
    instances.look_after()
    assert instances.all() == []
    assert instances.get(id) is None
    assert instances.close(id) is None


def test_an_instance_lives_until_each_worker_of_kong_that_started_it_has_closed_it(clock):
    instances = make()
    id = instances.start("probe", b"{}").id
    assert instances.start("probe", b"{}").id == id
    instances.close(id)
    clock.now += instance_store.CLOSED_SECONDS + 1
    instances.look_after()
    assert instances.get(id) is not None
    instances.close(id)
    clock.now += instance_store.CLOSED_SECONDS + 1
    instances.look_after()
    assert instances.get(id) is None


def test_a_start_that_kong_repeats_and_never_closes_keeps_nothing_for_ever(clock):
    instances = make()
    for _ in range(100):
        id = instances.start("probe", b"{}").id
    instances.close(id)
    clock.now += module.CLOSED_IDLE_SECONDS + 1
    instances.look_after()
    assert instances.all() == []
    assert instances.get(id) is not None  # for the worker of Kong that has not closed it
    clock.now += module.IDLE_SECONDS + 1
    instances.look_after()
    clock.now += instance_store.IDLE_SECONDS + 1
    instances.look_after()
    assert instances.get(id) is None


def test_an_instance_that_is_started_again_while_it_is_closed_goes_on(clock):
    instances = make()
    instance = instances.start("probe", b"{}")
    instances.close(instance.id)
    assert instances.start("probe", b"{}") is instance
    clock.now += module.CLOSED_IDLE_SECONDS + 1
    instances.look_after()
    assert instances.get(instance.id) is instance


def test_a_start_that_fails_counts_for_nothing(clock):
    class Fails:
        def __init__(self, config):
            raise ValueError

    instances = Instances([Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Fails)])
    with pytest.raises(ValueError):
        instances.start("probe", b"{}")
    clock.now += instance_store.CLOSED_SECONDS
    instances.look_after()
    assert instances._store.next_due() is None  # it is forgotten already


def test_idle_instances_go_without_another_start(clock):
    instances = make()
    old, busy = instances.start("probe", b'{"a": 1}'), instances.start("probe", b'{"a": 2}')
    clock.now += module.IDLE_SECONDS / 2
    assert instances.get(busy.id) is busy
    assert 0 < instances.look_after() <= module.IDLE_SECONDS / 2 + 1
    clock.now += module.IDLE_SECONDS / 2 + 1
    pause = instances.look_after()
    assert instances.all() == [busy]
    assert module.CLOSED_IDLE_SECONDS <= pause <= module.IDLE_SECONDS
    assert old.handler.config == {"a": 1}


def test_a_server_without_instances_sleeps_long(clock):
    assert make().look_after() >= module.IDLE_SECONDS


@pytest.mark.parametrize(("limit", "value"), [("MOST_INSTANCES", 2), ("MOST_BYTES", 20)])
def test_instances_used_longest_ago_make_room(clock, monkeypatch, limit, value):
    monkeypatch.setattr(module, limit, value)
    instances = make()
    first, second = instances.start("probe", b'{"a": 1}'), instances.start("probe", b'{"a": 2}')
    clock.now += 1
    instances.get(first.id)
    clock.now += 1
    third = instances.start("probe", b'{"a": 3}')
    assert instances.all() == [first, third]
    assert instances.get(second.id).config == {"a": 2}


def test_one_instance_may_be_as_large_as_it_is(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 20)
    instances = make()
    large = instances.start("probe", b'{"a": "' + b"x" * 100 + b'"}')
    assert instances.all() == [large]


def colliding():
    """Two configurations whose digests give one id."""
    seen = {}
    for number in itertools.count():
        config = {"n": number}
        start = int.from_bytes(module._digest("probe", config)[:4], "big") % (2**31 - 1)
        if start in seen:
            return seen[start], config
        seen[start] = config
    raise AssertionError


def test_an_id_that_is_in_use_is_not_given_to_another_content(clock):
    """It does not matter how long ago it was started: a busy instance is not started again."""
    one, other = (json.dumps(config).encode() for config in colliding())
    instances = make()
    busy = instances.start("probe", one)
    for _ in range(30):
        clock.now += module.IDLE_SECONDS - 1
        assert instances.get(busy.id) is busy
        instances.look_after()
    assert clock.now > instance_store.IDLE_SECONDS
    second = instances.start("probe", other)
    assert second.id != busy.id
    assert instances.get(busy.id) is busy
    assert instances.get(second.id) is second


def test_an_id_that_one_of_two_workers_uses_is_not_given_to_another_content(clock):
    one, other = (json.dumps(config).encode() for config in colliding())
    table = instance_store.InstanceTable()
    plugins = [Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Keeps)]
    first, second = (Instances(plugins, instance_store.LocalStore(table)) for _ in range(2))
    id = first.start("probe", one).id
    second.get(id)
    for _ in range(30):  # the first one has it from now on alone
        clock.now += module.IDLE_SECONDS - 1
        first.get(id)
        first.look_after()
    second.look_after()
    clock.now += 1
    second.look_after()
    assert second.all() == []
    theirs = second.start("probe", other)
    assert theirs.id != id
    assert first.get(id).config == json.loads(one)
    assert second.get(id).config == json.loads(one)
    assert first.get(theirs.id).config == json.loads(other)


def test_the_digest_decides_where_a_table_gives_one_id_to_two_contents():
    class Forgetful(instance_store.LocalStore):
        def keep(self, digest, content):
            self.kept = content
            return 7

        def find(self, id):
            return self.kept

    instances = Instances(make().plugins.values(), Forgetful(instance_store.InstanceTable()))
    instances.start("probe", b'{"a": 1}')
    second = instances.start("probe", b'{"a": 2}')
    assert second.config == {"a": 2}
    assert instances.all() == [second]


def test_idle_instances_are_let_go_and_made_again_for_the_next_event():
    instances = make()
    old = instances.start("probe", b'{"a": 1}')
    old.used_at -= module.IDLE_SECONDS + 1
    new = instances.start("probe", b'{"a": 2}')
    assert instances.all() == [new]
    again = instances.get(old.id)
    assert (again.id, again.config) == (old.id, {"a": 1})
    assert again is not old
    assert instances.get(new.id) is new


def test_bytes_that_are_not_utf8_reach_the_plugin():
    instance = make().start("probe", b'{"message": "caf\xe9"}')
    assert instance.handler.config["message"].encode("utf-8", "surrogateescape") == b"caf\xe9"


def test_what_a_plugin_puts_into_its_configuration_is_its_own():
    instances = make()
    instance = instances.start("probe", b'{"names": ["a"]}')
    instance.handler.config["names"].append(object())
    assert instance.config == {"names": ["a"]}


def test_workers_that_start_one_instance_at_once_share_it():
    begun, go_on, made = threading.Event(), threading.Event(), []

    class Slow:
        def __init__(self, config):
            made.append(self)
            begun.set()
            assert go_on.wait(20)

    instances = Instances([Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Slow)])
    with ThreadPoolExecutor(2) as workers:
        first = workers.submit(instances.start, "probe", b"{}")
        assert begun.wait(20)
        second = workers.submit(instances.start, "probe", b"{}")
        assert not wait([second], timeout=0.2).done
        go_on.set()
        assert first.result(20) is second.result(20)
    assert len(made) == 1


def test_an_init_that_raises_is_tried_anew(monkeypatch):
    class Fails:
        def __init__(self, config):
            raise TimeoutError("the database is not there")

    instances = Instances([Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Fails)])
    for _ in range(2):
        with pytest.raises(TimeoutError, match="database"):
            instances.start("probe", b"{}")
    assert instances.all() == []


def test_an_init_that_does_not_return_does_not_block_others_for_ever(monkeypatch):
    monkeypatch.setattr(module, "MAKING_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    class Hangs:
        def __init__(self, config):
            begun.set()
            assert go_on.wait(20)

    instances = Instances([Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Hangs)])
    with ThreadPoolExecutor(1) as workers:
        workers.submit(instances.start, "probe", b"{}")
        assert begun.wait(20)
        with pytest.raises(InstanceError, match="has not returned"):
            instances.start("probe", b"{}")
        go_on.set()
