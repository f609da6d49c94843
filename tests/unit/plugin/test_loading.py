from __future__ import annotations

import builtins
import importlib
import json
import math
import sys
import threading
from pathlib import Path

import pytest
from kong_pdk.plugin import Description, NotAPlugin, Plugin, PluginError, Source, load
from kong_pdk.plugin.importing import PACKAGE
from kong_pdk.settings import count_cores

CLASS = """
class Plugin:
    def __init__(self, config):
        self.config = config
"""
ACCESS = f"{CLASS}\n    def access(self, kong):\n        pass\n"


@pytest.fixture(autouse=True)
def path_as_before(monkeypatch):
    """Undo a test's changes to ``sys.path``, ``sys.modules`` and ``import``."""
    modules = set(sys.modules)
    monkeypatch.setattr(builtins, "__import__", builtins.__import__)
    monkeypatch.setattr(importlib, "import_module", importlib.import_module)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def loaded(file: Path, name: str | None = None) -> Plugin:
    return load(Source(name or (file.parent.name if file.stem in ("plugin", "__init__") else file.stem), file))


def problems(file: Path) -> list[str]:
    with pytest.raises(PluginError) as error:
        loaded(file)
    assert not isinstance(error.value, NotAPlugin)
    assert all(problem.plugin for problem in error.value.problems)
    return [str(problem).removeprefix(f"{file.parent}/") for problem in error.value.problems]


def test_missing_attributes_have_defaults(write):
    plugin = loaded(write("hello.py", ACCESS))
    assert (plugin.name, plugin.version, plugin.priority) == ("hello", "0.1.0", 0)
    assert (plugin.phases, plugin.schema, plugin.lua_style) == (("access",), (), True)


def test_attributes_of_a_plugin(write):
    text = (
        "Schema = ({'message': {'type': 'string', 'one_of': ('a', 'b')}},)\n"
        "version = '1.20.3'\npriority = -5\nlua_style = False\n" + ACCESS
    )
    plugin = loaded(write("hello.py", text))
    assert (plugin.version, plugin.priority, plugin.lua_style) == ("1.20.3", -5, False)
    assert plugin.schema == ({"message": {"type": "string", "one_of": ["a", "b"]}},)
    assert plugin.cls({"message": "a"}).config == {"message": "a"}


def test_phases_in_the_order_of_kong(write):
    methods = "".join(
        f"    def {name}(self, kong): pass\n"
        for name in ("log", "access", "preread", "certificate", "response", "rewrite", "helper")
    )
    plugin = loaded(write("hello.py", CLASS + methods))
    assert plugin.phases == ("certificate", "rewrite", "access", "response", "preread", "log")


def test_main_block_does_not_run(write):
    loaded(write("hello.py", ACCESS + "\nif __name__ == '__main__':\n    raise RuntimeError\n"))


def test_prints_go_to_stderr(write, capsys):
    loaded(write("hello.py", "print('a word')\n" + ACCESS))
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "a word\n")


def test_module_is_in_sys_modules_under_its_own_name(write):
    text = "import dataclasses\n@dataclasses.dataclass\nclass Data:\n    x: 'int'\n" + ACCESS
    first = loaded(write("json.py", text))
    second = loaded(write("json.py", text))
    assert sys.modules[first.cls.__module__].Plugin is first.cls
    assert first.cls.__module__ != second.cls.__module__
    assert sys.modules["json"].__name__ == "json"


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("one/plugin.py", "import helpers"),
        ("one/one.py", "from . import helpers"),
        ("one/__init__.py", "from . import helpers"),
        ("one/__init__.py", "import helpers"),
        ("my-one/my-one.py", "from .helpers import word\nimport helpers"),
    ],
)
def test_siblings(write, file, statement):
    folder = file.split("/")[0]
    write(f"{folder}/helpers.py", "word = 'sibling'\n")
    plugin = loaded(write(file, f"{statement}\n{ACCESS}\n    word = helpers.word\n"), folder)
    assert plugin.cls.word == "sibling"


def test_import_of_a_sibling_inside_a_handler(write):
    write("one/helpers.py", "word = 'late'\n")
    text = CLASS + "    def access(self, kong):\n        from helpers import word\n        return word\n"
    assert loaded(write("one/plugin.py", text)).cls({}).access(None) == "late"


def test_two_plugins_with_siblings_of_one_name(write):
    for name in ("one", "two"):
        write(f"{name}/helpers.py", f"word = '{name}'\n")
        write(f"{name}/plugin.py", f"import helpers\n{ACCESS}\n    def word(self): return helpers.word\n")
    folder = write("x").parent
    one, two = (loaded(folder / name / "plugin.py") for name in ("one", "two"))
    assert (one.cls({}).word(), two.cls({}).word()) == ("one", "two")


def test_of_two_plugins_each_gets_its_own_sibling_later_too(write):
    text = CLASS + "    def access(self, kong):\n        import helpers\n        return helpers.word\n"
    for name in ("one", "two"):
        write(f"{name}/helpers.py", f"word = '{name}'\n")
        write(f"{name}/plugin.py", text)
    folder = write("x").parent
    one, two = (loaded(folder / name / "plugin.py").cls({}) for name in ("one", "two"))
    assert [each.access(None) for each in (two, one, two)] == ["two", "one", "two"]


def test_files_in_the_top_folder_share_a_module(write):
    write("_shared.py", "calls = []\n")
    text = f"import _shared\n{ACCESS}\n    shared = _shared\n"
    one, two = loaded(write("one.py", text)), loaded(write("two.py", text))
    assert one.cls.shared is two.cls.shared


def test_plugin_named_as_a_library_can_import_the_library(write):
    plugin = loaded(write("msgpack.py", f"import msgpack\n{ACCESS}\n    packed = msgpack.packb(1)\n"))
    assert plugin.cls.packed == b"\x01"


def test_init_of_a_folder_runs_before_its_plugin(write):
    write("one/__init__.py", "word = 'from init'\n")
    plugin = loaded(write("one/plugin.py", f"from . import word\n{ACCESS}\n    word = word\n"))
    assert plugin.cls.word == "from init"


def test_init_of_a_folder_may_import_its_plugin(write):
    write("one/__init__.py", "from .plugin import Plugin\n")
    plugin = loaded(
        write("one/plugin.py", f"import builtins\nbuiltins.runs = getattr(builtins, 'runs', 0) + 1\n{ACCESS}")
    )
    import builtins

    assert vars(builtins).pop("runs") == 1
    assert plugin.phases == ("access",)


def test_an_import_that_starts_threads(write):
    text = "import threading\nthread = threading.Thread(target=print, args=('x',))\nthread.start()\nthread.join()\n"
    assert loaded(write("hello.py", text + ACCESS)).phases == ("access",)


def test_loads_at_once_from_several_threads(write):
    for name in ("one", "two", "three", "four"):
        write(f"{name}/helpers.py", f"word = '{name}'\n")
    files = [write(f"{name}/plugin.py", f"import helpers\n{ACCESS}\n    word = helpers.word\n")
             for name in ("one", "two", "three", "four")]  # fmt: skip
    words: list[str] = []
    threads = [threading.Thread(target=lambda file=file: words.append(loaded(file).cls.word)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(words) == ["four", "one", "three", "two"]


def test_a_failed_import_leaves_no_module(write):
    before = {*sys.modules, PACKAGE}
    problems(write("hello.py", "class Plugin: pass\n1 / 0\n"))
    assert set(sys.modules) == before


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import no_such_module\n", '1: module "no_such_module" is not installed; add no_such_module to '),
        ("\nimport no_such_module.inner\n", '2: module "no_such_module" is not installed'),
        ("import jsn\n", 'or did you mean "json"?'),
        ("import os.nothing\n", '1: there is no module "os.nothing"; fix the name'),
        ("from . import helpers\n", "hello.py:1: import raises ImportError: attempted relative import"),
        ("x = 1\n1 / 0\n", "2: import raises ZeroDivisionError: division by zero; fix this line"),
        ("import json\njson.loads('{')\n", "2: import raises JSONDecodeError"),
        ("import sys\nsys.exit(3)\n", "2: import ends the process: sys.exit(3)"),
        ("raise SystemExit\n", "1: import ends the process: sys.exit()"),
        ("class Mine(BaseException): pass\nraise Mine('a\\nb')\n", "2: import raises Mine: a b"),
        ("def f(): f()\nf()\n", "import raises RecursionError"),
        ("return 1\n", "1: syntax error: 'return' outside function"),
    ],
)
def test_import_errors(write, text, expected):
    [problem] = problems(write("hello.py", text + ACCESS))
    assert expected in problem
    assert problem.startswith("hello.py:")


def test_missing_module_names_the_package_and_where_to_ask_for_it(write):
    file = write("hello.py", "import jose\n" + ACCESS)
    [problem] = problems(file)
    assert f"add python-jose to {file.parent}/requirements.txt" in problem


def test_error_in_a_sibling_names_the_sibling(write):
    write("one/helpers.py", "x = 1\nraise ValueError('no')\n")
    file = write("one/plugin.py", "import helpers\n" + ACCESS)
    assert problems(file) == [
        "helpers.py:2: import raises ValueError: no; fix this line; the plugin must be importable"
    ]


def test_syntax_error_in_a_sibling_names_the_sibling(write):
    write("one/helpers.py", "x = 1\ny = = 2\n")
    [problem] = problems(write("one/plugin.py", "from . import helpers\n" + ACCESS))
    assert problem.startswith("helpers.py:2: syntax error")


def test_missing_sibling(write):
    file = write("one/plugin.py", "from .helpers import x\n" + ACCESS)
    assert problems(file) == [
        f'plugin.py:1: there is no module "helpers" in {file.parent}; fix the name, or add the file'
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("priority = True\n", "1: priority is True, not an integer; write priority = 10"),
        ("\npriority = 1.0\n", "2: priority is 1.0, not an integer"),
        ("priority = '5'\n", "1: priority is '5', not an integer"),
        ("priority = None\n", "1: priority is None, not an integer"),
        ("priority = 10**20\n", "too large for Kong"),
        ("version = 1.0\n", '1: version is 1.0, not a string x.y.z; write version = "1.0.0"'),
        ("version = '1.0'\n", "1: version is '1.0', not a string x.y.z"),
        ("version = '1.0.0.0'\n", "not a string x.y.z"),
        ("version = 'v1.0.0'\n", "not a string x.y.z"),
        ("version = '1.0.0\\n'\n", "not a string x.y.z"),
        ("version = None\n", "not a string x.y.z"),
        ("version = (1, 0, 0)\n", "not a string x.y.z"),
        ("lua_style = 'no'\n", "1: lua_style is 'no', not True or False"),
        (
            "engine = 'asyncio'\n",
            "1: engine is 'asyncio', not auto, loop, threads or gevent; write engine = \"gevent\"",
        ),
        ("workers = 0\n", "1: workers is 0, not a number from 1 to 64, or auto; write workers = 4"),
        ("\nworkers = 65\n", "2: workers is 65, not a number from 1 to 64, or auto"),
        ("workers = 'many'\n", "1: workers is 'many', not a number from 1 to 64, or auto"),
        (
            "timeout = -1\n",
            "1: timeout is -1, not a number of seconds, like 10 or 0.5, at most 86400, or 0 for no limit",
        ),
        ("timeout = float('inf')\n", "1: timeout is inf, not a number of seconds"),
        ("on_error = 'pass'\n", "1: on_error is 'pass', not open or closed; write on_error = \"open\""),
        ("Schema = {'message': {'type': 'string'}}\n", "1: Schema is a dict, not a list or a tuple"),
    ],
)
def test_attributes_of_the_module(write, text, expected):
    [problem] = problems(write("hello.py", text + ACCESS))
    assert expected in problem


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (None, None)),
        ("engine = 'gevent'\nworkers = 4\n", ("gevent", 4)),
        ("engine = 'threads'\nworkers = 'auto'\n", ("threads", count_cores())),
        # Plugins have used such names for their own objects: a database's engine, a pool.
        ("engine = object()\nworkers = []\n", (None, None)),
        ("workers = True\n", (None, None)),
    ],
)
def test_the_mode_of_a_module(write, text, expected):
    plugin = loaded(write("hello.py", text + ACCESS))
    assert (plugin.engine, plugin.workers) == expected
    described = Description.from_dict(plugin.to_dict())
    assert (described.engine, described.workers) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("timeout = 5\non_error = 'open'\n", (5.0, "open")),
        ("timeout = 0.25\non_error = 'closed'\n", (0.25, "closed")),
        ("timeout = 0\n", (math.inf, None)),
        ("TIMEOUT = 5\n", (None, None)),  # of an HTTP client, most likely
        ("timeout = object()\ndef on_error(): pass\n", (None, None)),
        ("timeout = True\n", (None, None)),
    ],
)
def test_timeout_and_on_error(write, text, expected):
    plugin = loaded(write("hello.py", text + ACCESS))
    assert (plugin.timeout, plugin.on_error) == expected
    described = Description.from_dict(json.loads(json.dumps(plugin.to_dict())))
    assert (described.timeout, described.on_error) == expected


def test_lines_of_a_schema(write):
    text = (
        "COLOUR = {'type': 'string',\n"  # 1
        "          'one_off': ['a']}\n"
        "REDIS = [\n"  # 3
        "    {'host': {'type': 'sting'}},\n"
        "]\n"
        "Schema = (\n"  # 6
        "    {'colour': COLOUR},\n"
        "    {'redis': dict(\n"  # 8
        "        type='record',\n"
        "        fields=REDIS)},\n"  # 10
        "    {'list': {'type': 'array', 'elements': {\n"
        "        'type': 'integer',\n"  # 12
        "        'between': [1]}}},\n"
        "    {'made': make()},\n"  # 14
        ")\n"
    )
    text = "def make(): return {'type': 'x'}\n" + text
    lines = [problem.split(":")[1] for problem in problems(write("hello.py", text + ACCESS))]
    assert lines == ["3", "5", "14", "15"]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("Plugin = 5\n", "1: Plugin is an int, not a class"),
        ("def Plugin(config): pass\n", "1: Plugin is a function, not a class"),
        (CLASS, "2: Plugin has no phase; define a method for at least one of certificate, rewrite"),
        (f"{CLASS}    def helper(self): pass\n", "2: Plugin has no phase"),
        (f"{CLASS}    access = 5\n", '2: Plugin has the phase "access", which is an int, not a method'),
        (f"{CLASS}    def access(self): pass\n", '5: phase "access" takes (self), but is called with only kong'),
        (f"{CLASS}    def access(self, kong, more): pass\n", 'phase "access" takes (self, kong, more)'),
        (f"{CLASS}    def access(self, kong, *, more): pass\n", 'phase "access" takes (self, kong, *, more)'),
        (f"{CLASS}    def access(): pass\n", 'phase "access" takes ()'),
        (f"{CLASS}    @staticmethod\n    def access(a, b): pass\n", 'phase "access" takes (a, b)'),
        (f"{CLASS}    async def log(self, kong): yield\n", '5: phase "log" has a yield'),
        (f"{CLASS}    def log(self, kong): yield\n", '5: phase "log" has a yield'),
        (f"{CLASS}    def acces(self, kong): pass\n", '5: method "acces" is not a phase; did you mean "access"?'),
        (f"{CLASS}    def acces(self): pass\n", 'did you mean "access"?'),
        (f"{CLASS}    def Access(self, kong): pass\n", 'did you mean "access"?'),
        (f"{ACCESS}    def repsonse(self, kong): pass\n", 'method "repsonse" is not a phase; did you mean "response"?'),
        (f"{ACCESS}    def logs(self, kong): pass\n", 'did you mean "log"?'),
        (f"{ACCESS}    def header_filter(self, kong): pass\n", 'do not have; use the phase "response"'),
        (
            "class Plugin:\n    def access(self, kong): pass\n",
            "1: Plugin cannot be called with the configuration as its only argument",
        ),
        (
            "class Plugin:\n    def __init__(self): pass\n    def access(self, kong): pass\n",
            "2: Plugin cannot be called with the configuration as its only argument; write def __init__(self, config)",
        ),
        (
            "import abc\n"
            f"{ACCESS.replace('class Plugin:', 'class Plugin(abc.ABC):')}\n"
            "    @abc.abstractmethod\n    def more(self): pass\n",
            "Plugin is abstract (more)",
        ),
    ],
)
def test_mistakes_in_the_class(write, body, expected):
    [problem] = problems(write("hello.py", body))
    assert expected in problem


@pytest.mark.parametrize(
    "method",
    [
        "def access(self, kong=None): pass",
        "def access(self, *args): pass",
        "def access(self, kong, more=1, **others): pass",
        "@staticmethod\n    def access(kong): pass",
        "@classmethod\n    def access(cls, kong): pass",
        "access = lambda self, kong: None",
    ],
)
def test_handlers_that_can_be_called(write, method):
    assert loaded(write("hello.py", f"{CLASS}    {method}\n")).phases == ("access",)


@pytest.mark.parametrize(
    "method",
    [
        "def _acces(self, kong): pass",
        "def success(self, kong): pass",
        "def access_log(self, kong): pass",
        "def process(self, kong): pass",
        "def logger(self, kong): pass",
        "def certificates(self): pass",
        "def respond(self, kong): pass",
        "def accessed(self, kong): pass",
    ],
)
def test_helpers_are_not_misspelt_phases(write, method):
    assert loaded(write("hello.py", f"{ACCESS}    {method}\n")).phases == ("access",)


def test_everything_wrong_is_listed(write):
    text = "version = 1\npriority = 'x'\nSchema = ['x']\nclass Plugin:\n    def acces(self, kong): pass\n"
    found = problems(write("hello.py", text))
    assert [problem.split(":")[1] for problem in found] == ["4", "5", "1", "2", "3"]


def test_star_import_without_plugin_is_not_a_plugin(write):
    write("one/names.py", "x = 1\n")
    with pytest.raises(NotAPlugin):
        loaded(write("one/plugin.py", "from names import *\n"))


def test_plugin_only_for_type_checkers_is_not_a_plugin(write):
    text = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from x import Plugin\n"
    with pytest.raises(NotAPlugin):
        loaded(write("hello.py", text))


def test_plugin_that_is_deleted(write):
    [problem] = problems(write("hello.py", ACCESS + "\ndel Plugin\n"))
    assert "there is no Plugin after the import" in problem


def test_inherited_phases(write):
    write("one/base.py", f"class Base:{ACCESS.replace('class Plugin:', '')}")
    plugin = loaded(write("one/plugin.py", "from base import Base\nclass Plugin(Base): pass\n"))
    assert plugin.phases == ("access",)


def test_an_object_that_can_be_called_is_a_handler(write):
    text = f"class Check:\n    def __call__(self, kong): pass\n{CLASS}    access = Check()\n"
    assert loaded(write("one.py", text)).phases == ("access",)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("class Odd:\n    def __repr__(self): raise RuntimeError('odd')\nversion = Odd()\n" + ACCESS, 2),
        ("class Odd:\n    def __get__(self, *a): raise RuntimeError('odd')\nclass Plugin:\n    access = Odd()\n", 2),
        ("class Odd(list):\n    def __iter__(self): raise RuntimeError('odd')\nSchema = Odd()\n" + ACCESS, 2),
        ("def __getattr__(name): raise RuntimeError('odd')\nif not __name__:\n    Plugin = 1\n", 1),
    ],
)
def test_attributes_that_raise_are_one_message(write, text, line):
    [problem] = problems(write("one.py", text))
    assert problem.startswith(f"one.py:{line}: the plugin's attributes cannot be read: RuntimeError: odd; let ")


def test_an_import_that_raises_an_exception_without_text(write):
    [problem] = problems(write("one.py", f"class Odd(Exception):\n    def __str__(self): 1 / 0\nraise Odd\n{ACCESS}"))
    assert problem.startswith("one.py:3: import raises Odd: (its __str__ raises ZeroDivisionError)")


def test_mistake_in_an_inherited_handler_names_its_file(write):
    write("one/base.py", "class Base:\n    def __init__(self, config): pass\n    def access(self): pass\n")
    [problem] = problems(write("one/plugin.py", "from base import Base\nclass Plugin(Base): pass\n"))
    assert problem.startswith('base.py:3: phase "access" takes (self)')


def test_an_edit_is_seen_at_the_next_load(write):
    file = write("hello.py", "priority = 1\n" + ACCESS)
    assert loaded(file).priority == 1
    write("hello.py", "priority = 2\n" + ACCESS)
    assert loaded(file).priority == 2
