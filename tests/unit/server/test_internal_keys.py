"""Keys that Kong adds to a configuration are removed at any depth, and the user's keys stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kong_pdk.plugin import Plugin
from kong_pdk.server.instances import InstanceError, Instances

SECRET = "{vault://env/lab-secret}"
TEXT = {"type": "string", "referenceable": True}
RECORD = {"type": "record", "fields": [{"password": TEXT}]}


class Keeps:
    def __init__(self, config):
        self.config = config


def start(schema, config):
    plugin = Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), tuple(schema), cls=Keeps)
    return Instances([plugin]).start("probe", json.dumps(config).encode())


def test_references_of_the_configuration():
    instance = start([{"api_key": TEXT}], {"api_key": "s3cr3t", "$refs": {"api_key": SECRET}, "__key__": "k"})
    assert instance.handler.config == {"api_key": "s3cr3t"}
    assert instance.internal == {"$refs": {"api_key": SECRET}, "__key__": "k"}


@pytest.mark.parametrize(
    ("field", "value", "clean", "refs"),
    [
        (RECORD, {"password": "p", "$refs": {"password": SECRET}}, {"password": "p"}, {"password": SECRET}),
        (
            {"type": "record", "fields": [{"inner": RECORD}]},
            {"inner": {"password": "p", "$refs": {"password": SECRET}}, "$refs": {}},
            {"inner": {"password": "p"}},
            {"inner": {"password": SECRET}},
        ),
        (
            {"type": "array", "elements": RECORD},
            [{"password": "p"}, {"password": "q", "$refs": {"password": SECRET}}],
            [{"password": "p"}, {"password": "q"}],
            {"1": {"password": SECRET}},
        ),
        (
            {"type": "set", "elements": RECORD},
            [{"password": "q", "$refs": {"password": SECRET}}],
            [{"password": "q"}],
            {"0": {"password": SECRET}},
        ),
        (
            {"type": "map", "keys": {"type": "string"}, "values": RECORD},
            {"a": {"password": "p", "$refs": {"password": SECRET}}},
            {"a": {"password": "p"}},
            {"a": {"password": SECRET}},
        ),
        (
            {"type": "map", "keys": {"type": "string"}, "values": {"type": "array", "elements": RECORD}},
            {"a": [{"password": "p", "$refs": {"password": SECRET}}]},
            {"a": [{"password": "p"}]},
            {"a": {"0": {"password": SECRET}}},
        ),
    ],
)
def test_references_of_records_inside(field, value, clean, refs):
    instance = start([{"field": field}], {"field": value, "$refs": {}})
    assert instance.handler.config == {"field": clean}
    assert instance.internal["$refs"] == {"field": refs}


@pytest.mark.parametrize("value", [{"$refs": "mine"}, {"$refs": SECRET, "b": "c"}])
def test_a_key_of_a_users_map_is_the_users(value):
    schema = [{"headers": {"type": "map", "keys": {"type": "string"}, "values": TEXT}}]
    assert start(schema, {"headers": value}).handler.config == {"headers": value}


def test_a_field_of_that_name_is_the_users():
    schema = [{"$refs": TEXT}, {"auth": {"type": "record", "fields": [{"$refs": TEXT}]}}]
    config = {"$refs": "mine", "auth": {"$refs": "mine, too"}}
    instance = start(schema, config)
    assert instance.handler.config == config
    assert instance.internal == {}


def test_without_a_schema_they_are_known_by_their_form():
    config = {
        "a": {"b": [{"password": "p", "$refs": {"password": SECRET}}]},
        "map": {"$refs": "mine"},
        "lists": {"$refs": {"names": [SECRET, SECRET]}},
        "$refs": {"c": SECRET},
    }
    instance = start([], config)
    assert instance.handler.config == {"a": {"b": [{"password": "p"}]}, "map": {"$refs": "mine"}, "lists": {}}
    assert instance.internal["$refs"]["c"] == SECRET
    assert instance.internal["$refs"]["a"] == {"b": {"0": {"password": SECRET}}}


def test_other_references_are_another_instance():
    sent = {"api_key": "s3cr3t", "$refs": {"api_key": SECRET}}
    assert start([{"api_key": TEXT}], sent).id != start([{"api_key": TEXT}], {"api_key": "s3cr3t"}).id


@pytest.mark.parametrize("value", [None, [], "x", 5])
def test_what_has_another_form_than_kongs_is_no_harm(value):
    instance = start([{"auth": RECORD}], {"auth": {"password": "p", "$refs": value}, "$refs": value})
    assert instance.handler.config == {"auth": {"password": "p"}}


def test_a_configuration_as_deep_as_json_reads_it_is_served_or_refused():
    config = b'{"a":' * 900 + b"1" + b"}" * 900
    plugin = Plugin("probe", Path("probe.py"), "1.0.0", 1, ("access",), (), cls=Keeps)
    with pytest.raises(InstanceError, match="nested too deeply"):
        Instances([plugin]).start("probe", config)
