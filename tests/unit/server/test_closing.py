"""The plugin's own ``close()``: once for each instance that ends, after its handlers, and harmless whatever it does."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import pytest
from kong_pdk.plugin import Plugin
from kong_pdk.server import instances as module
from kong_pdk.server.instances import Instances, instance_store
from waiting import DEADLINE


def make(cls):
    return Instances([Plugin("probe", Path(__file__), "1.0.0", 1, ("access",), (), cls=cls)])


class Closes:
    """Counts; a test waits for ``closed``."""

    def __init__(self, config):
        self.config = config
        self.count = 0
        self.closed = threading.Event()

    def close(self):
        self.count += 1
        self.closed.set()


def test_it_is_called_once_when_kong_has_dropped_the_instance(monkeypatch):
    monkeypatch.setattr(instance_store, "CLOSED_SECONDS", 0.0)
    instances = make(Closes)
    handler = instances.start("probe", b"{}").handler
    instances.close(instances.all()[0].id)
    instances.look_after()
    assert handler.closed.wait(DEADLINE)
    assert instances.end(DEADLINE)
    assert handler.count == 1


def test_it_is_called_when_the_instance_is_idle(monkeypatch):
    instances = make(Closes)
    instance = instances.start("probe", b"{}")
    instance.used_at -= module.IDLE_SECONDS + 1
    other = instances.start("probe", b'{"a": 1}').handler
    assert instance.handler.closed.wait(DEADLINE)
    assert other.count == 0


def test_it_is_called_at_the_end_for_all():
    instances = make(Closes)
    handlers = [instances.start("probe", b'{"a": %d}' % number).handler for number in range(100)]
    assert instances.end(DEADLINE)
    assert [handler.count for handler in handlers] == [1] * 100


def test_it_waits_for_the_last_handler_and_delays_no_other_instance(monkeypatch):
    monkeypatch.setattr(instance_store, "CLOSED_SECONDS", 0.0)
    instances = make(Closes)
    instance = instances.start("probe", b"{}")
    assert instance.life.begin()
    assert instance.life.begin()
    instances.close(instance.id)
    instances.look_after()
    assert instances.start("probe", b"{}") is not instance
    instance.life.done()
    assert instances.closing.wait(0.0) == 1
    assert instance.handler.count == 0
    instance.life.done()
    assert instance.handler.closed.wait(DEADLINE)


def test_an_event_that_comes_just_as_the_instance_ends_has_an_object_of_its_own(monkeypatch):
    monkeypatch.setattr(instance_store, "CLOSED_SECONDS", 0.0)
    instances = make(Closes)
    instance = instances.start("probe", b'{"a": 1}')
    instances.close(instance.id)
    instances.look_after()
    assert instance.handler.closed.wait(DEADLINE)
    assert not instance.life.begin()
    used = instance.begin_again()
    its = used.handler
    assert its is not instance.handler
    assert its.config == {"a": 1}
    assert its.count == 0
    used.life.done()
    assert its.closed.wait(DEADLINE)


def test_one_that_does_not_return_holds_neither_others_nor_the_end():
    go_on = threading.Event()

    class Hangs(Closes):
        def close(self):
            if self.config.get("hangs"):
                assert go_on.wait(DEADLINE)
            super().close()

    instances = make(Hangs)
    hanging = instances.start("probe", b'{"hangs": true}').handler
    other = instances.start("probe", b"{}").handler
    assert not instances.end(0.1)
    assert other.closed.wait(DEADLINE)
    assert hanging.count == 0
    go_on.set()
    assert instances.end(DEADLINE)


@pytest.mark.parametrize("raised", [ValueError("broken"), SystemExit(3), KeyboardInterrupt()])
def test_what_it_raises_is_logged_with_its_line(raised, caplog):
    class Raises:
        def __init__(self, config):
            pass

        def close(self):
            raise raised

    instances = make(Raises)
    instances.start("probe", b"{}")
    assert instances.end(DEADLINE)
    [record] = caplog.records
    line = Raises.close.__code__.co_firstlineno + 1
    assert f"probe: close raised {type(raised).__name__}" in record.getMessage()
    assert f"({__file__}:{line})" in record.getMessage().splitlines()[0]


def test_a_log_that_raises_harms_nothing():
    class Raises(Closes):
        def close(self):
            super().close()
            raise ValueError

    class Broken(logging.Handler):
        def handle(self, record):
            raise RuntimeError

    broken = Broken()
    logging.getLogger().addHandler(broken)
    try:
        instances = make(Raises)
        handlers = [instances.start("probe", b'{"a": %d}' % number).handler for number in range(3)]
        assert instances.end(DEADLINE)
        assert [handler.count for handler in handlers] == [1, 1, 1]
    finally:
        logging.getLogger().removeHandler(broken)


class WithoutClose:
    def __init__(self, config):
        pass


class Attribute(WithoutClose):
    close = "of the shop"


class AnsweringAnything(WithoutClose):
    def __getattr__(self, name):
        raise KeyError(name)


class Property(WithoutClose):
    @property
    def close(self):
        raise RuntimeError


@pytest.mark.parametrize("cls", [WithoutClose, Attribute, AnsweringAnything, Property])
def test_a_class_without_it_is_left_alone(cls, caplog):
    instances = make(cls)
    instances.start("probe", b"{}")
    assert instances.end(DEADLINE)
    assert not caplog.records


def test_one_that_needs_arguments_is_not_called_and_named_once(caplog):
    class Takes:
        def __init__(self, config):
            pass

        def close(self, connection):
            raise AssertionError

    instances = make(Takes)
    for number in range(3):
        instances.start("probe", b'{"a": %d}' % number)
    assert instances.end(DEADLINE)
    [record] = caplog.records
    assert "probe: close() takes arguments" in record.getMessage()
    assert f"{__file__}:{Takes.close.__code__.co_firstlineno}" in record.getMessage()


def test_one_that_needs_none_of_its_arguments_is_called():
    class May(Closes):
        def close(self, wait=True, *rest, **more):
            assert wait
            super().close()

    instances = make(May)
    handler = instances.start("probe", b"{}").handler
    assert instances.end(DEADLINE)
    assert handler.count == 1


def test_one_of_the_instance_is_called():
    closed = threading.Event()

    class Sets:
        def __init__(self, config):
            self.close = closed.set

    instances = make(Sets)
    instances.start("probe", b"{}")
    assert instances.end(DEADLINE)
    assert closed.is_set()


def test_one_that_is_async_is_named(caplog):
    class Async:
        def __init__(self, config):
            pass

        async def close(self):
            raise AssertionError

    instances = make(Async)
    instances.start("probe", b"{}")
    assert instances.end(DEADLINE)
    assert "probe: close() is async" in caplog.text


def test_it_runs_under_no_lock_of_the_server():
    """It can start instances, look them up, and end."""
    done = []

    class Asks:
        def __init__(self, config):
            self.config = config

        def close(self):
            instances.all()
            done.append(instances.start("probe", b'{"of": "close"}').config)

    instances = make(Asks)
    instances.start("probe", b"{}")
    assert instances.end(DEADLINE)
    assert done == [{"of": "close"}]
