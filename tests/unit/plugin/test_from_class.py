"""Plugins that are made from a class, in a file that serves itself."""

from __future__ import annotations

import sys

import pytest
from kong_pdk.plugin import PluginError, from_class

Schema = ({"message": {"type": "string"}},)
version = "3.2.1"


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass


class Misspelt:
    def acces(self, kong):
        pass


def test_missing_arguments_come_from_the_module():
    plugin = from_class("my-plugin", Plugin, None, 5, None)
    assert (plugin.version, plugin.priority, plugin.schema) == ("3.2.1", 5, Schema)
    assert plugin.phases == ("access",)
    assert plugin.file.name == "test_from_class.py"


def test_arguments_override_the_module():
    plugin = from_class("my-plugin", Plugin, "1.0.0", 5, [{"limit": {"type": "number"}}])
    assert (plugin.version, plugin.schema) == ("1.0.0", ({"limit": {"type": "number"}},))


def test_a_name_may_have_capitals():
    assert from_class("AI-Powered", Plugin, None, 5, None).name == "AI-Powered"


def test_the_module_s_names_may_be_in_capitals(monkeypatch):
    home = sys.modules[__name__]
    monkeypatch.delattr(home, "version")
    monkeypatch.delattr(home, "Schema")
    for name, value in {"VERSION": "4.0.0", "PRIORITY": 12, "SCHEMA": [{"a": {"type": "string"}}]}.items():
        monkeypatch.setattr(home, name, value, raising=False)
    plugin = from_class("my-plugin", Plugin, None, None, None)
    assert (plugin.version, plugin.priority, plugin.schema) == ("4.0.0", 12, ({"a": {"type": "string"}},))
    assert from_class("my-plugin", Plugin, "5.0.0", 0, []).priority == 0
    assert from_class("my-plugin", Plugin, "5.0.0", 0, []).warnings == ()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("My Plugin", Plugin, None, 5, None), "My-Plugin"),
        (("key-auth", Plugin, None, 5, None), "bundled"),
        (("my-plugin", Misspelt, None, 5, None), 'did you mean "access"'),
        (("my-plugin", Plugin, "1", 5, None), "x.y.z"),
        (("my-plugin", Plugin, None, "5", None), "integer"),
        (("my-plugin", Plugin, None, 5, [5]), "Schema"),
    ],
)
def test_mistakes_have_the_messages_of_a_folder(arguments, words):
    with pytest.raises(PluginError, match=words) as raised:
        from_class(*arguments)
    assert "test_from_class.py" in str(raised.value)
