from __future__ import annotations

import json
from pathlib import Path

import pytest
from kong_pdk.plugin import Description, Plugin, PluginError, Problem, dump
from kong_pdk.plugin.names import bundled

HELLO = Description(
    "hello", Path("/plugins/hello.py"), "1.0.0", 10, ("access", "log"), ({"message": {"type": "string"}},), False
)
KONGS = {
    "Name": "hello",
    "Version": "1.0.0",
    "Priority": 10,
    "Phases": ["access", "log"],
    "Schema": {
        "name": "hello",
        "fields": [{"config": {"type": "record", "fields": [{"message": {"type": "string"}}]}}],
    },
}


def test_dump():
    assert json.loads(dump([HELLO], "MsgPack:1")) == [KONGS]
    assert json.loads(dump([HELLO, HELLO], "ProtoBuf:1")) == {"Protocol": "ProtoBuf:1", "Plugins": [KONGS, KONGS]}
    assert "\n" not in dump([HELLO], "ProtoBuf:1")


def test_dump_of_another_protocol():
    with pytest.raises(ValueError, match=r"MsgPack:1 or ProtoBuf:1, not msgpack"):
        dump([HELLO], "msgpack")


def test_description_survives_json():
    assert Description.from_dict(json.loads(json.dumps(HELLO.to_dict()))) == HELLO


def test_plugin_describes_itself():
    plugin = Plugin(HELLO.name, HELLO.file, HELLO.version, 10, HELLO.phases, HELLO.schema, False, cls=object)
    assert Description.from_dict(plugin.to_dict()) == HELLO


@pytest.mark.parametrize(
    ("problem", "text"),
    [
        (Problem(Path("a.py"), 5, "wrong", "fix it", "a"), "a.py:5: wrong; fix it"),
        (Problem(Path("a.py"), None, "wrong", None), "a.py: wrong"),
        (Problem(Path("a\nb.py"), 1, "one\ntwo", "three\r\nfour"), "a b.py:1: one two; three four"),
    ],
)
def test_problem_is_one_line(problem, text):
    assert str(problem).replace("  ", " ") == text
    assert Problem.from_dict(json.loads(json.dumps(problem.to_dict()))) == problem


def test_plugin_error_names_all_problems():
    error = PluginError([Problem(Path("a.py"), 1, "x"), Problem(Path("a.py"), 2, "y")])
    assert str(error) == "a.py:1: x\na.py:2: y"


def test_bundled_plugins():
    assert len(bundled()) == 45
    assert {"key-auth", "ai-proxy", "redirect", "standard-webhooks"} <= bundled()
