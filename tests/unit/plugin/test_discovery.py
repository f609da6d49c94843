from __future__ import annotations

import os
from pathlib import Path

import pytest
from kong_pdk.plugin import find
from kong_pdk.plugin.discovery import skipped_tests


def found(folder: Path) -> dict[str, str]:
    sources, problems = find(folder)
    assert problems == []
    return {source.name: str(source.file.relative_to(folder)) for source in sources}


def messages(folder: Path) -> list[str]:
    sources, problems = find(folder)
    assert sources == []
    return [str(problem).replace(f"{folder}/", "") for problem in problems]


def test_files_and_folders(tmp_path, write):
    write("hello.py")
    write("a1/a1.py")
    write("b-2/plugin.py")
    write("c_3/__init__.py")
    assert found(tmp_path) == {
        "a1": "a1/a1.py",
        "b-2": "b-2/plugin.py",
        "c_3": "c_3/__init__.py",
        "hello": "hello.py",
    }


def test_requirements_are_not_a_plugin(tmp_path, write):
    write("lib/requirements.txt", "alpha\n")
    write("requirements.txt", "alpha\n")
    assert find(tmp_path) == ([], [])


def test_first_file_of_a_folder_with_plugin(tmp_path, write):
    write("first/first.py", "x = 1\n")
    write("first/plugin.py")
    write("first/__init__.py")
    assert found(tmp_path) == {"first": "first/plugin.py"}


@pytest.mark.parametrize(
    "name",
    [
        "_shared.py",
        ".hidden.py",
        "__init__.py",
        "tests/plugin.py",
        "__pycache__/plugin.py",
        "..data/hello.py",
        "..2026_11_23_04_00_00.123/plugin.py",
        "_folder/plugin.py",
        "folder/other.py",
        "folder/deeper/plugin.py",
        "README.md",
        "plugin.pyc",
        "plugin.lua",
    ],
)
def test_skipped_by_name(tmp_path, write, name):
    write(name)
    assert found(tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x = 'Plugin'\n",
        "def f():\n    class Plugin: pass\n",
        "class Other:\n    Plugin = 1\n",
        "import Plugin.inner as other\n",
        "[Plugin for Plugin in ()]\n",
        "# class Plugin: pass\n",
        "import pytest\n\ndef test_plugin():\n    Plugin = 1\n",
    ],
)
def test_skipped_without_plugin(tmp_path, write, text):
    write("hello.py", text)
    assert found(tmp_path) == {}


@pytest.mark.parametrize(
    "text",
    [
        "class Plugin: pass\n",
        "Plugin = make()\n",
        "Plugin: type = object\n",
        "(Other, Plugin) = 1, 2\n",
        "from x import Plugin\n",
        "from x import Other as Plugin\n",
        "import x as Plugin\n",
        "if True:\n    class Plugin: pass\n",
        "try:\n    from x import Plugin\nexcept ImportError:\n    Plugin = None\n",
        "with x() as Plugin: pass\n",
        "if (Plugin := make()): pass\n",
        "from x import *\n",
        "def Plugin(config): pass\n",
    ],
)
def test_binds_plugin(tmp_path, write, text):
    write("hello.py", text)
    assert found(tmp_path) == {"hello": "hello.py"}


@pytest.mark.parametrize("name", ["plugin", "Plugins", "Plugn", "PlugIn"])
def test_class_that_is_nearly_named_plugin(tmp_path, write, name):
    write("hello.py", f"import os\nclass {name}:\n    def access(self, kong): pass\n")
    assert messages(tmp_path) == [
        f'hello.py:2: class "{name}" handles a phase of Kong, but is not named Plugin; name it "Plugin"'
    ]


@pytest.mark.parametrize("name", ["TestPlugin", "Base", "PluginBase"])
def test_class_of_another_name_is_not_a_plugin(tmp_path, write, name):
    write("hello.py", f"class {name}:\n    def access(self, kong): pass\n")
    write("other.py", "class Plugins(list):\n    def names(self): pass\n")
    assert found(tmp_path) == {}


def test_config_map_of_kubernetes(tmp_path):
    """A ConfigMap's files are links through `..data` into a folder with a timestamp."""
    data = tmp_path / "..2026_11_23_04_55_13.1234567"
    data.mkdir()
    (data / "hello.py").write_text("class Plugin: pass\n")
    (data / "_shared.py").write_text("")
    (tmp_path / "..data").symlink_to(data.name)
    (tmp_path / "hello.py").symlink_to("..data/hello.py")
    (tmp_path / "_shared.py").symlink_to("..data/_shared.py")
    assert found(tmp_path) == {"hello": "hello.py"}


def test_folder_and_plugin_folder_may_be_links(tmp_path, write):
    write("real/hello.py")
    write("elsewhere/plugin.py")
    (tmp_path / "real" / "linked").symlink_to("../elsewhere")
    (tmp_path / "link").symlink_to("real")
    assert found(tmp_path / "link") == {"hello": "hello.py", "linked": "linked/plugin.py"}


def test_folder_that_contains_itself(tmp_path, write):
    write("hello.py")
    (tmp_path / "loop").symlink_to(".")
    assert found(tmp_path) == {"hello": "hello.py"}


@pytest.mark.parametrize("target", ["hello.py", "nowhere.py"])
def test_broken_link(tmp_path, target):
    (tmp_path / "hello.py").symlink_to(target)
    [message] = messages(tmp_path)
    assert message.startswith("hello.py: cannot be read (")
    assert message.endswith("; fix or remove the link")


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "hello.py")
    assert messages(tmp_path) == ["hello.py: is not a regular file; remove it or replace it by a file"]


def test_an_enormous_file_is_not_parsed(tmp_path):
    with (tmp_path / "hello.py").open("wb") as file:
        file.truncate(10**12)
    [message] = messages(tmp_path)
    assert "hello.py: has 1000000000000 bytes" in message


def test_missing_folder(tmp_path):
    assert messages(tmp_path / "none") == [
        f"{tmp_path}/none: plugin folder does not exist; "
        "create it, mount it there, or name another folder (KONG_PYTHON_PLUGINS_DIR)"
    ]


def test_folder_that_is_a_file(write):
    file = write("hello.py")
    assert messages(file) == [f"{file}: plugin folder is not a folder; name the folder that the file is in"]


def test_folder_that_cannot_be_read(open_folder, unprivileged):
    folder = open_folder / "plugins"
    folder.mkdir(mode=0o300 if os.getuid() else 0o700)
    [message] = unprivileged(lambda: messages(folder))
    assert "plugin folder cannot be read (Permission denied); let the user" in message


def test_plugin_that_cannot_be_read(open_folder, unprivileged):
    (open_folder / "hello.py").write_text("class Plugin: pass\n")
    (open_folder / "hello.py").chmod(0o000)
    (open_folder / "inner").mkdir()
    (open_folder / "inner").chmod(0o000)
    file, folder = unprivileged(lambda: messages(open_folder))
    assert file == "hello.py: cannot be read (Permission denied); let the user that runs the server read it (chmod a+r)"
    assert folder.startswith("inner: folder cannot be read; let the user")
    (open_folder / "inner").chmod(0o700)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (b"class Plugin:\n    def access(self, kong)\n        pass\n", 2, "expected ':'"),
        (b"class Plugin:\n  x = (\n", 2, "was never closed"),
        (b"x = 1\ny = 2\0\nclass Plugin: pass\n", None, "null byte"),
        (b"# -*- coding: nonsense -*-\nclass Plugin: pass\n", None, "encoding"),
        (b"class Plugin: pass\nx = 'caf\xe9'\n", None, "UTF-8"),
        (b"x = " + b"(" * 5000 + b")" * 5000 + b"\n", None, "nest"),
    ],
)
def test_syntax_error(tmp_path, write, text, line, words):
    write("hello.py", text)
    [problem] = find(tmp_path)[1]
    assert problem.message.startswith("syntax error: ")
    assert words in str(problem)
    assert problem.plugin == "hello"
    assert problem.hint
    if line:
        assert problem.line == line


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfclass Plugin: pass\n",
        b"class Plugin:\r\n    x = 1\r\n",
        b"# -*- coding: latin-1 -*-\nname = '\xe9'\nclass Plugin: pass\n",
        b'regex = "\\d"\nclass Plugin: pass\n',
    ],
)
def test_sources_of_every_kind(tmp_path, write, text):
    write("hello.py", text)
    assert found(tmp_path) == {"hello": "hello.py"}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My Plugin.py", 'rename it, for example to "My-Plugin"'),
        ("my plugin.py", 'rename it, for example to "my-plugin"'),
        ("my.plugin.py", 'rename it, for example to "my-plugin"'),
        ("é.py", 'rename it, for example to "e"'),
        ("É-1.py", 'rename it, for example to "E-1"'),
        ("ünï.py", 'rename it, for example to "uni"'),
        ("søk.py", 'rename it, for example to "my-plugin"'),
        ("插件-2.py", 'rename it, for example to "my-plugin"'),
        ("key auth.py", 'rename it, for example to "my-key-auth"'),
        ("My Plugin.py", "has a character other than letters (a-z, A-Z), digits,"),
        ("-x.py", 'rename it, for example to "x"'),
        ("key-auth.py", "belongs to a plugin bundled with Kong"),
        ("cors/plugin.py", "belongs to a plugin bundled with Kong"),
        ("bundled.py", "is a reserved word in Kong's option"),
        ("off.py", "is a reserved word in Kong's option"),
    ],
)
def test_invalid_names(tmp_path, write, name, words):
    write(name)
    [message] = messages(tmp_path)
    assert message.startswith(f"{name}: plugin name ")
    assert words in message


def test_a_file_without_plugin_may_have_any_name(tmp_path, write):
    write("My Notes.py", "x = 1\n")
    write("cors.py", "x = 1\n")
    assert found(tmp_path) == {}


def test_names_that_collide_are_all_named(tmp_path, write):
    write("my-plugin.py")
    write("my_plugin/plugin.py")
    write("other.py")
    sources, problems = find(tmp_path)
    assert [source.name for source in sources] == ["other"]
    assert [problem.plugin for problem in problems] == ["my-plugin", "my_plugin"]
    assert f'collides with "my_plugin" ({tmp_path}/my_plugin/plugin.py)' in problems[0].message
    assert f'collides with "my-plugin" ({tmp_path}/my-plugin.py)' in problems[1].message


def test_a_name_keeps_its_capitals(tmp_path, write):
    write("AI-Powered.py")
    write("authChecker/authChecker.py")
    write("2FA.py")
    assert found(tmp_path) == {
        "2FA": "2FA.py",
        "AI-Powered": "AI-Powered.py",
        "authChecker": "authChecker/authChecker.py",
    }


@pytest.mark.parametrize("other", ["My-Plugin", "my_plugin", "MY_PLUGIN"])
def test_names_that_differ_only_in_capitals_or_dashes_collide(tmp_path, write, other):
    write("my-plugin.py")
    write(f"{other}/plugin.py")
    refused = messages(tmp_path)
    assert len(refused) == 2
    assert all("in the names of plugin servers Kong does not" in message for message in refused)
    assert all(message.endswith("; rename one of them") for message in refused)


@pytest.mark.parametrize("name", ["test_greet.py", "greet_test.py", "conftest.py"])
@pytest.mark.parametrize(
    "text",
    [
        "from greet import Plugin\n\ndef test_it(): assert Plugin({})\n",
        "import importlib\nimport pytest\nPlugin = importlib.import_module('greet').Plugin\n",
        "import unittest\nfrom greet import *\nclass Cases(unittest.TestCase): pass\n",
        "class Plugin(\n",
    ],
)
def test_tests_beside_a_plugin_are_skipped(tmp_path, write, name, text):
    write("greet.py")
    write(name, text)
    write("own/plugin.py")
    write(f"own/{name}", text)
    assert found(tmp_path) == {"greet": "greet.py", "own": "own/plugin.py"}
    assert skipped_tests(tmp_path) == []


def test_a_folder_with_the_name_of_a_test_is_a_plugin_by_its_other_files(tmp_path, write):
    write("ab_test/ab_test.py")
    write("load_test/load_test.py", "def test(): pass\n")
    write("load_test/plugin.py")
    assert found(tmp_path) == {"load_test": "load_test/plugin.py"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("\nclass Plugin:\n    def access(self, kong): pass\n", True),
        ("class Plugin:\n    def help(self): pass\n", False),
        ("def test_it(): pass\nclass Plugin:\n    def access(self, kong): pass\n", False),
        ("import pytest\nclass Plugin:\n    def access(self, kong): pass\n", False),
    ],
)
def test_a_plugin_with_the_name_of_a_test_is_named(tmp_path, write, text, named):
    file = write("ab_test.py", text)
    problems = [str(problem) for problem in skipped_tests(tmp_path)]
    message = "the file has a Plugin, but is skipped: it is named like a test (test_*.py, *_test.py, conftest.py)"
    assert problems == ([f"{file}:2: {message}; if it is a plugin, rename it"] if named else [])


def test_file_and_folder_of_one_name_collide(tmp_path, write):
    write("hello.py")
    write("hello/plugin.py")
    assert len(messages(tmp_path)) == 2


def test_everything_is_listed(tmp_path, write):
    write("good.py")
    write("broken.py", "class Plugin(\n")
    write("cors.py")
    write("UP PER.py")
    sources, problems = find(tmp_path)
    assert [source.name for source in sources] == ["good"]
    assert sorted(str(problem.plugin) for problem in problems) == ["UP PER", "broken", "cors"]


def test_a_problem_is_one_line(tmp_path, write):
    write("bad\nname.py")
    [message] = messages(tmp_path)
    assert "\n" not in message
