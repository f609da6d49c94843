"""Instances: ids from content, Kong's keys kept apart."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pytest
from kong_pdk.plugin import Plugin
from kong_pdk.server import instances as module
from kong_pdk.server.instances import InstanceError, Instances


class Keeps:
    def __init__(self, config):
        self.config = config


def make(schema=()):
    return Instances([Plugin("probe", Path("probe.py"), Keeps, "1.0.0", 1, ("access",), schema)])


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


def test_a_closed_instance_is_gone_and_closing_again_is_no_error():
    instances = make()
    id = instances.start("probe", b"{}").id
    assert instances.close(id) is not None
    assert instances.close(id) is None
    assert instances.get(id) is None


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

    instances = Instances([Plugin("probe", Path("probe.py"), Slow, "1.0.0", 1, ("access",), ())])
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

    instances = Instances([Plugin("probe", Path("probe.py"), Fails, "1.0.0", 1, ("access",), ())])
    for _ in range(2):
        with pytest.raises(TimeoutError, match="database"):
            instances.start("probe", b"{}")
    assert instances.all() == []


def test_an_init_that_does_not_return_holds_nobody_for_ever(monkeypatch):
    monkeypatch.setattr(module, "MAKING_SECONDS", 0.05)
    begun, go_on = threading.Event(), threading.Event()

    class Hangs:
        def __init__(self, config):
            begun.set()
            assert go_on.wait(20)

    instances = Instances([Plugin("probe", Path("probe.py"), Hangs, "1.0.0", 1, ("access",), ())])
    with ThreadPoolExecutor(1) as workers:
        workers.submit(instances.start, "probe", b"{}")
        assert begun.wait(20)
        with pytest.raises(InstanceError, match="has not returned"):
            instances.start("probe", b"{}")
        go_on.set()
