"""Folders of plugins with any content: each file is a plugin, or a problem with a hint; never a traceback."""

from __future__ import annotations

import contextlib
import itertools
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kong_pdk.packages import requirements
from kong_pdk.plugin.inspection import Inspection, inspect
from kong_pdk.plugin.problem import PluginError
from unit.fuzz.strategies import damaged

INPUTS = "plugin files and schemas"

FEW = settings(max_examples=settings.default.max_examples * 2)

PLUGIN = '''"""A plugin."""
version = "1.2.3"
priority = 42
Schema = [{"name": {"type": "string", "required": True}}, {"n": {"type": "integer", "between": [1, 5]}}]

class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x", self.config["name"])

    async def log(self, kong):
        pass
'''
ATTRIBUTES = [
    "version",
    "priority",
    "Schema",
    "schema",
    "engine",
    "workers",
    "timeout",
    "on_error",
    "lua_style",
    "preload",
    "name",
    "Version",
    "PRIORITY",
    "__all__",
    "Plugin",
    "handler",
    "phases",
    "config",
]
VALUES = [
    "None",
    "True",
    "0",
    "-1",
    "2**70",
    "1.5",
    "float('nan')",
    "''",
    "'1.2.3'",
    "'open'",
    "'loop'",
    "b'x'",
    "()",
    "[]",
    "{}",
    "[1]",
    "[[]]",
    "{1: 2}",
    "{'a': {}}",
    "[{'a': {}}]",
    "[{'a': {'type': 'string'}}]",
    "object()",
    "int",
    "print",
    "lambda: 1",
    "(x for x in 'a')",
    "...",
    "'\\ud800'",
    "'a' * 100000",
    "[{'a': {'type': 'nope'}}]",
    "type('X', (), {})()",
    "[{'a': {'type': 'array'}}]",
    "[{'a': {'type': 'map', 'keys': 1, 'values': {}}}]",
    "__import__('sys')",
    "1j",
    "{*()}",
    "[{'a': {'type': 'string', 'default': 1}}]",
    "[{'a': {'type': 'integer', 'between': [5, 1]}}]",
    "10**400",
    "range(3)",
    "[{'a': {'type': 'record', 'fields': [{'b': {'type': 'set', 'elements': {'type': 'string'}}}]}}]",
    "[{'a': {'type': 'string', 'match': '('}}]",
    "[{'a': {'type': 'string', 'one_of': []}}]",
    "{'fields': 1}",
    "1e400",
    "{'name': 'x', 'fields': [{'config': {'type': 'record', 'fields': []}}]}",
    "[{'a': {'type': []}}]",
    "[{1: {}}]",
    "(loop := []) or loop.append(loop) or loop",
    "(d := {}) or d.update(a=d) or d",
    "[{'a': {'type': 'string', 'len_min': 'x'}}]",
    "type('E', (), {'__repr__': lambda s: 1 / 0, '__eq__': lambda s, o: 1 / 0, '__bool__': lambda s: 1 / 0})()",
    "type('S', (str,), {'__str__': lambda s: 1 / 0, '__hash__': None})('1.2.3')",
    "type('D', (dict,), {'__iter__': lambda s: 1 / 0})(a=1)",
]
SOURCES = [
    PLUGIN,
    PLUGIN.replace("class Plugin:", "class Plugin(Missing):"),
    PLUGIN.replace("def access(self, kong)", "def access(self)"),
    PLUGIN.replace("def __init__(self, config)", "def __init__(self)"),
    "import nosuchmodule\n" + PLUGIN,
    PLUGIN + "\nraise ValueError('\\ud800')\n",
    PLUGIN + "\nraise SystemExit(object())\n",
    PLUGIN + "\nimport os; os._exit(0)\n",
    PLUGIN + "\nimport os; os.abort()\n",
    PLUGIN + "\nimport sys; sys.stdout = None; del sys.modules['json']; sys.path.clear()\n",
    PLUGIN + "\nimport builtins; builtins.open = builtins.print = None\n",
    PLUGIN + "\ndef f(): f()\nf()\n",
    "(" * 300 + ")" * 300,
    "x = " + "-" * 5000 + "1",
    "\ufeff" + PLUGIN,
    "# coding: nosuch\n" + PLUGIN,
    "# coding: utf-16\n" + PLUGIN,
    "\f\r\r\n\x0b" + PLUGIN,
    "def" + PLUGIN,
    "",
]
NAMES = [
    "a.py",
    "py-b.py",
    "c_d.py",
    "e f.py",
    "\u00e4.py",
    "1.py",
    "con.py",
    "-g.py",
    "rate-limiting.py",
    "H.py",
    "h.py",
    "x" * 200 + ".py",
    "x" * 251 + ".py",
    "\udcff.py",
    "line\nbreak.py",
    "j.txt",
    "__init__.py",
    ".k.py",
    "l.py.py",
    "test_m.py",
    "n/__init__.py",
    "n/plugin.py",
    "o-p/o-p.py",
    "q/handler.py",
    "kong_pdk.py",
    "json.py",
    "%s.py",
]


@st.composite
def with_values(draw: st.DrawFn) -> str:
    """A plugin with attributes that have values of any type, before or after the rest."""
    lines = draw(
        st.lists(
            st.tuples(st.sampled_from(ATTRIBUTES), st.sampled_from(VALUES)),
            min_size=1,
            max_size=4,
        )
    )
    text = "".join(f"{name} = {value}\n" for name, value in lines)
    return draw(st.sampled_from([text + PLUGIN, PLUGIN + text]))


sources = st.one_of(
    with_values().map(lambda text: text.encode("utf-8", "surrogatepass")),
    with_values().map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.sampled_from(SOURCES).map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.just(PLUGIN.encode()).flatmap(damaged),
    st.binary(max_size=100),
)
folders = st.dictionaries(st.sampled_from(NAMES), sources, min_size=1, max_size=4)
numbers = itertools.count()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("folders")


def filled(place: Path, files: dict[str, bytes]) -> Path:
    folder = place / str(next(numbers))
    for name, content in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def look(folder: Path) -> tuple[Inspection, str]:
    """Inspect a folder; give what the plugins printed, too."""
    printed: list[bytes] = []
    inspection = inspect(folder, 20, lambda name, piece: printed.append(piece))
    return inspection, b"".join(printed).decode("utf-8", "backslashreplace")


@FEW
@given(folders)
def test_a_folder_is_described_or_its_problems_are(place: Path, files: dict[str, bytes]) -> None:
    inspection, printed = look(filled(place, files))
    assert "Traceback" not in printed, printed
    for problem in inspection.problems:
        assert problem.message
        str(problem).encode("utf-8", "backslashreplace")
    for plugin in inspection.plugins:
        assert plugin.phases
        assert inspection.warnings([plugin.name]) is not None


LINES = [
    "requests",
    "requests==2.31.0",
    "requests>=",
    "-r other.txt",
    "-r requirements.txt",
    "-e .",
    "./a",
    "git+https://x/y.git@v1",
    "--index-url https://u:p@h/simple",
    "--hash=sha256:0",
    "a==1 --hash=sha256:" + "0" * 64,
    "# c",
    "\\",
    "a \\",
    "a[b]>1; x",
    "${NOT_SET}",
    "-c /nowhere",
    "-r /",
    "-r ../../../../etc/passwd",
    "-r " + "x" * 5000,
    "-r \ufffd\x01",
    "-",
    "--",
    "--find-links=/",
    "\x0c",
    "==",
]


@FEW
@given(
    st.one_of(
        st.lists(st.sampled_from(LINES), max_size=6).map("\n".join).map(str.encode),
        st.binary(max_size=200),
    )
)
def test_requirements_are_read_or_a_problem(place: Path, content: bytes) -> None:
    file = filled(place, {"requirements.txt": content, "other.txt": content[:20]}) / "requirements.txt"
    with contextlib.suppress(PluginError):
        requirements.read(file, "a")
    assert file.exists()
