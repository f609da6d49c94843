"""A plugin's metadata: accepted spellings, and messages about other spellings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from kong_pdk.plugin import Plugin, PluginError, Source, inspect, load

CLASS = """
class Plugin:
    def __init__(self, config): pass
    def access(self, kong): pass
"""
FIELDS = ({"a": {"type": "string"}},)


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch):
    modules = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def loaded(file: Path) -> Plugin:
    return load(Source(file.stem, file))


def warnings_of(file: Path) -> list[str]:
    return [text.removeprefix(f"{file}:") for text in loaded(file).warnings]


@pytest.mark.parametrize(
    "text",
    [
        'version = "1.2.3"\npriority = 1000\nSchema = [{"a": {"type": "string"}}]\n',
        'VERSION = "1.2.3"\nPRIORITY = 1000\nSCHEMA = [{"a": {"type": "string"}}]\n',
        'Version = "1.2.3"\nPriority = 1000\nSchema = [{"a": {"type": "string"}}]\n',
        'VERSION = "1.2.3"\nPRIORITY = 1000\nschema = [{"a": {"type": "string"}}]\n',
        'VERSION = "1.2.3"\nPRIORITY = 1000\nSchema = None\nSCHEMA = [{"a": {"type": "string"}}]\n',
        'VERSION, PRIORITY = "1.2.3", 1000\nSCHEMA = ({"a": {"type": "string"}},)\n',
        'VERSION = version = "1.2.3"\npriority = PRIORITY = 1000\nSchema = SCHEMA = [{"a": {"type": "string"}}]\n',
    ],
)
def test_spellings_that_count(write, text):
    plugin = loaded(write("hello.py", text + CLASS))
    assert (plugin.version, plugin.priority, plugin.schema) == ("1.2.3", 1000, FIELDS)
    assert plugin.warnings == ()


def test_capitals_from_another_module(write):
    write("own/meta.py", 'VERSION = "1.2.3"\nPRIORITY = 1000\nSCHEMA = [{"a": {"type": "string"}}]\n')
    file = write("own/own.py", "from .meta import PRIORITY, SCHEMA, VERSION\n" + CLASS)
    plugin = loaded(file)
    assert (plugin.version, plugin.priority, plugin.schema) == ("1.2.3", 1000, FIELDS)


@pytest.mark.parametrize("names", [("VERSION", "PRIORITY", "SCHEMA"), ("version", "priority", "Schema")])
def test_attributes_of_the_class(write, names):
    """Like the table of a Lua handler."""
    version, priority, schema = names
    text = f'{CLASS}    {version} = "1.2.3"\n    {priority} = 1000\n    {schema} = [{{"a": {{"type": "string"}}}}]\n'
    plugin = loaded(write("hello.py", text))
    assert (plugin.version, plugin.priority, plugin.schema) == ("1.2.3", 1000, FIELDS)


@pytest.mark.parametrize(
    "text",
    [
        "VERSION = 2\nPRIORITY = {'high': 1}\nSCHEMA = {'type': 'object', 'properties': {}}\n",
        "import enum\nclass Priority(enum.Enum):\n    HIGH = 1\nschema = {'$schema': 'x'}\nSCHEMA = 'public'\n",
        "SCHEMA = ['a', 'b']\nWORKERS = 8\nENGINE = object()\nLUA_STYLE = 'pretty'\n",
    ],
)
def test_the_module_s_own_capitals_are_ignored(write, text):
    plugin = loaded(write("hello.py", text + CLASS))
    assert (plugin.version, plugin.priority, plugin.schema, plugin.workers) == ("0.1.0", 0, (), None)
    assert (plugin.engine, plugin.lua_style, plugin.warnings) == (None, True, ())


@pytest.mark.parametrize(
    "text",
    [
        "    version = 2\n    priority = 'high'\n    Schema = {}\n",
        "    version = property(lambda self: '1.0.0')\n    priority = True\n    def schema(self): pass\n",
    ],
)
def test_the_plugin_s_own_attributes_of_the_class_are_ignored(write, text):
    plugin = loaded(write("hello.py", CLASS + text))
    assert (plugin.version, plugin.priority, plugin.schema, plugin.warnings) == ("0.1.0", 0, (), ())


def test_the_mode_in_capitals(write):
    plugin = loaded(write("hello.py", "LUA_STYLE = False\nENGINE = 'gevent'\n" + CLASS))
    assert (plugin.lua_style, plugin.engine) == (False, "gevent")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\nPRIORITY = '1000'\n", "2: PRIORITY is '1000', not an integer; write PRIORITY = 1000"),
        ("PRIORITY = 900.0\n", "1: PRIORITY is 900.0, not an integer; write PRIORITY = 900"),
        ("priority = 'high'\n", "1: priority is 'high', not an integer; write priority = 10"),
        ("priority = float('inf')\n", "1: priority is inf, not an integer; write priority = 10"),
        ("version = 'v1.2'\n", "1: version is 'v1.2', not a string x.y.z; write version = \"1.2.0\""),
        ("version = (1, 2, 3, 4)\n", '1: version is (1, 2, 3, 4), not a string x.y.z; write version = "1.2.3"'),
        ("PRIORITY = True\n", "1: PRIORITY is True, not an integer; write PRIORITY = 10"),
        ("SCHEMA = [\n    {'a': {'type': 'sting'}},\n]\n", '2: Schema field "a" has the unknown type'),
        ("SCHEMA = [{'a': {'type': 'string'}, 'b': {'type': 'string'}}]\n", "1: "),
    ],
)
def test_mistakes_in_capitals_are_those_of_small_letters(write, text, expected):
    file = write("hello.py", text + CLASS)
    with pytest.raises(PluginError) as raised:
        loaded(file)
    assert str(raised.value).removeprefix(f"{file}:").startswith(expected)


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        ("version = '1.0'", "version is '1.0', not a string x.y.z; write version = \"1.0.0\""),
        (
            "VERSION = '1.0'",
            "VERSION is '1.0', not x.y.z, and is not read: the version is 0.1.0; write version = \"1.0.0\"",
        ),
        (
            "Version = (2, 1)",
            'Version is (2, 1), not x.y.z, and is not read: the version is 0.1.0; write version = "2.1.0"',
        ),
    ],
)
def test_a_wrong_version_and_a_wrong_priority_are_both_named(write, version, problem):
    file = write("hello.py", f"{version}\nPRIORITY = '900'\n{CLASS}")
    with pytest.raises(PluginError) as raised:
        loaded(file)
    assert sorted(str(raised.value).replace(f"{file}:", "").splitlines()) == [
        f"1: {problem}",
        "2: PRIORITY is '900', not an integer; write PRIORITY = 900",
    ]


def test_a_schema_of_none_is_a_missing_schema(write):
    plugin = loaded(write("hello.py", "Schema = None\n" + CLASS))
    assert (plugin.version, plugin.priority, plugin.schema, plugin.warnings) == ("0.1.0", 0, (), ())


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("PLUGIN_VERSION = '1.1.1'", 'PLUGIN_VERSION is not read; did you mean version = "1.1.1"?'),
        ("plugin_priority = 1000", "plugin_priority is not read; did you mean priority = 1000?"),
        ("PLUGIN_SCHEMA = [{'a': {'type': 'string'}}]", "PLUGIN_SCHEMA is not read; did you mean Schema?"),
        ("__version__ = '1.1.1'", '__version__ is not read; did you mean version = "1.1.1"?'),
        ("PIORITY = 1000", "PIORITY is not read; did you mean priority = 1000?"),
        ("prioirty: int = 1000", "prioirty is not read; did you mean priority = 1000?"),
        ("VERISON = '1.1.1'", 'VERISON is not read; did you mean version = "1.1.1"?'),
        ("Shcema = ({'a': {'type': 'string'}},)", "Shcema is not read; did you mean Schema?"),
    ],
)
def test_a_name_close_to_one_that_is_read(write, line, hint):
    assert warnings_of(write("hello.py", f"\n{line}\n{CLASS}")) == [f"2: {hint}"]


@pytest.mark.parametrize(
    "text",
    [
        "api_version = '1.0.0'\nPOOL_PRIORITY_LEVELS = 5\nauthority = 7\nport = 80\nschemas = [{'a': 1, 'b': 2}]\n",
        "_version = '1.0.0'\n_PRIORITY = 5\nPIORITY = 'high'\nVERISON = 3\n__version__ = 'unknown'\n",
        "from platform import python_version as verison\nfrom attrs import __version__\n",
        "version = '1.0.0'\n__version__ = '2.0.0'\npriority = 5\nPLUGIN_PRIORITY = 6\n",
        "def main():\n    PIORITY = 1000\n",
    ],
)
def test_other_names_are_ignored(write, text):
    assert warnings_of(write("hello.py", text + CLASS)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "version = '1.0.0'\nVERSION = '2.0.0'\n",
            "2: VERSION is '2.0.0' and version '1.0.0', and version counts; keep only version",
        ),
        (
            "PRIORITY = 1000\npriority = 10\n",
            "1: PRIORITY is 1000 and priority 10, and priority counts; keep only priority",
        ),
        (
            "Schema = []\nSCHEMA = [{'a': {'type': 'string'}}]\n",
            "2: SCHEMA and Schema differ, and Schema counts; keep only Schema",
        ),
        (
            "\nVERSION = '1.0'\n",
            "2: VERSION is '1.0', not x.y.z, and is not read: the version is 0.1.0; write version = \"1.0.0\"",
        ),
    ],
)
def test_small_letters_win_and_the_difference_is_named(write, text, expected):
    file = write("hello.py", text + CLASS)
    assert warnings_of(file) == [expected]
    plugin = loaded(file)
    assert (plugin.version, plugin.priority, plugin.schema) in [("1.0.0", 0, ()), ("0.1.0", 10, ()), ("0.1.0", 0, ())]


def test_the_module_wins_over_the_class(write):
    file = write("hello.py", f"priority = 10\n{CLASS}    PRIORITY = 1000\n")
    assert loaded(file).priority == 10
    assert warnings_of(file) == ["6: PRIORITY is 1000 and priority 10, and priority counts; keep only priority"]


MAIN = 'if __name__ == "__main__":\n'
CALL = "start_dedicated_server('hello', Plugin, {})\n"
WHERE = 'only below if __name__ == "__main__", which does not run here'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            f"{MAIN}    import meta\n    {CALL.format('meta.VERSION, meta.PRIORITY, meta.SCHEMA')}",
            f"7: version, priority and Schema are set {WHERE}, so that every field of a configuration is an unknown "
            "field; write at the top level of the module: version = meta.VERSION; priority = meta.PRIORITY; "
            "Schema = meta.SCHEMA",
        ),
        (
            f"{MAIN}    version = '2.0.0'\n    priority = 1000\n    {CALL.format('version, priority')}",
            f"6: version and priority are set {WHERE}; write at the top level of the module: version = '2.0.0'; "
            "priority = 1000",
        ),
        (
            "if '__main__' == __name__:\n    PRIORITY = 1000\n",
            f"6: priority is set {WHERE}; write at the top level of the module: priority = 1000",
        ),
        (
            f"{MAIN}    {CALL.format('priority=1000, version=None')}",
            f"6: priority is set {WHERE}; write at the top level of the module: priority = 1000",
        ),
        (
            f"def main():\n    where = 5\n    {CALL.format('None, 7')}{MAIN}    main()\n",
            "7: priority is set only in the call of start_dedicated_server, which does not run here; "
            "write at the top level of the module: priority = 7",
        ),
        (
            f"priority = 5\n{MAIN}    {CALL.format('None, 1000')}",
            "7: start_dedicated_server is given another priority, which is ignored here: priority = 5 of the "
            "module counts; pass priority of the module",
        ),
        (
            f"{MAIN}    from kong_pdk.cli import start_dedicated_server as go\n"
            "    S = [{'a': {'type': 'string'}}]\n    go(name='hello', plugin=Plugin, priority=1000, schema=S)\n",
            f"7: priority and Schema are set {WHERE}, so that every field of a configuration is an unknown field; "
            "write at the top level of the module: priority = 1000; Schema = [{'a': {'type': 'string'}}]",
        ),
        (
            f"{MAIN}    import kong_pdk.cli as cli\n    cli.{CALL.format('None, 7')}",
            f"7: priority is set {WHERE}; write at the top level of the module: priority = 7",
        ),
        (
            f"{MAIN}    from kong_pdk import cli\n    serve = cli.start_dedicated_server\n"
            "    serve('hello', Plugin, priority=7)\n",
            f"8: priority is set {WHERE}; write at the top level of the module: priority = 7",
        ),
        (
            "import sys\nif len(sys.argv) > 1 and __name__ == '__main__':\n    priority = 7\n",
            f"7: priority is set {WHERE}; write at the top level of the module: priority = 7",
        ),
        (
            f"{MAIN}    start_dedicated_server('hello', Plugin, *META)\n",
            "6: the arguments of start_dedicated_server do not count here, and *META cannot be read; write version, "
            "priority and Schema at the top level of the module",
        ),
        (
            f"version = '1.0.0'\n{MAIN}    start_dedicated_server('hello', Plugin, **read())\n",
            "7: the arguments of start_dedicated_server do not count here, and **read() cannot be read; write priority "
            "and Schema at the top level of the module",
        ),
    ],
)
def test_an_attribute_only_in_the_main_block_is_named(write, text, expected):
    assert warnings_of(write("hello.py", CLASS + text)) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        f"version, priority, Schema = '1.0.0', 7, ()\n{MAIN}    {CALL.format('version, priority, Schema')}",
        f"VERSION, PRIORITY = '1.0.0', 7\n{MAIN}    {CALL.format('VERSION, PRIORITY')}",
        f"{MAIN}    {CALL.format('None, 0, []')}",
        f"{MAIN}    start_dedicated_server('hello', Plugin)\n",
        f"version, priority, Schema = '1.0.0', 7, ()\n{MAIN}    start_dedicated_server('hello', Plugin, *rest)\n",
        f"{MAIN}    from other import start_server as go\n    go('hello', Plugin, '3.0.0', 5)\n",
        f"{MAIN}    print('nothing')\n",
        f"version = '1.0.0'\n{MAIN}    {CALL.format('read_version()')}",
    ],
)
def test_a_main_block_with_the_same_values(write, text):
    assert warnings_of(write("hello.py", CLASS + text)) == []


def test_an_inspection_gives_the_warnings(tmp_path, write):
    write("hello.py", f"PRIORITY = 1\npriority = 2\n{CLASS}")
    write("ab_test.py", CLASS)
    write("quiet.py", CLASS)
    inspection = inspect(tmp_path)
    assert inspection.problems == []
    assert [text.partition(": ")[0] for text in inspection.warnings()] == [
        f"{tmp_path}/ab_test.py:2",
        f"{tmp_path}/hello.py:1",
    ]
    assert inspection.warnings(["quiet"]) == []
