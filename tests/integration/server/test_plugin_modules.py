"""What plugins import in a server: their own modules among several plugins', in spawned processes, as resources."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_kong import MsgpackKong, ProtobufKong, RpcError
from programs import PLUGINSERVER
from server_process import MODES, Served, Start
from waiting import DEADLINE, wait_for

MAIN = """
if __name__ == "__main__":
    from kong_pdk.cli import start_dedicated_server
    start_dedicated_server("probe", Plugin)
"""

StartFiles = Callable[..., Served]


@pytest.fixture
def start_files(start: Start, tmp_path: Path) -> StartFiles:
    """Start a server of plugin files, by default that of their folder; in a command, a file's name is its path."""
    folder = tmp_path / "plugins"

    def begin(files: dict[str, str], *options: str, command: tuple[str, ...] = (), may_end: bool = False) -> Served:
        for name, text in files.items():
            file = folder / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        words = [folder / word if word in files else word for word in command] or [PLUGINSERVER, "-d", folder]
        served = start(*words, *options)
        assert served.process.poll() is None or may_end, served.said()
        return served

    return begin


def answer(served: Served, plugin: str) -> str:
    kong = MsgpackKong(served.socket)
    assert kong.event(kong.start(plugin), "access", {})
    kong.close()
    method, (name, value) = kong.made[-1]
    assert (method, name) == ("kong.response.set_header", "x-answer")
    return str(value)


LATE = """
import importlib
import threading

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        words = []

        def work():
            import helpers
            from helpers import word
            from helpers.inner import word as inner
            words.extend([helpers.word, word, inner, importlib.import_module("helpers.inner").word])
            words.append(__import__("helpers").word)

        CALL
        kong.response.set_header("x-answer", " ".join(words))
"""
HERE = "work()"
ON_A_THREAD = "thread = threading.Thread(target=work); thread.start(); thread.join()"


def plugin_folder(name: str, file: str, call: str) -> dict[str, str]:
    return {
        f"{name}/{file}": LATE.replace("CALL", call),
        f"{name}/helpers/__init__.py": "from shared import name\nword = name + 's'\n",
        f"{name}/helpers/inner.py": "from helpers import word as outer\nword = f'in:{outer}'\n",
        f"{name}/shared.py": f"name = '{name}'\n",
    }


@pytest.mark.parametrize(("mode", "call"), [("threads", HERE), ("threads", ON_A_THREAD), ("gevent", ON_A_THREAD)])
def test_a_late_import_finds_the_plugins_own_module(start_files, mode, call):
    files = {
        **plugin_folder("one", "plugin.py", call),
        **plugin_folder("two", "two.py", call),
        **plugin_folder("my-three", "__init__.py", call),
        "four.py": LATE.replace("CALL", call),
        "helpers/__init__.py": "word = 'files'\n",
        "helpers/inner.py": "word = 'in:files'\n",
        "zero.py": "from helpers import word\n" + LATE.replace("CALL", call),
    }
    served = start_files(files, *MODES[mode])
    for _ in range(2):
        for name, word in {"two": "twos", "one": "ones", "zero": "files", "my-three": "my-threes"}.items():
            assert answer(served, name) == f"{word} {word} in:{word} in:{word} {word}"


LIBRARIES = """
import json
import queue
import helpers

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        import msgpack
        import templates
        from . import helpers as relative
        found = [json.__name__, msgpack.packb(1).hex(), str(relative is helpers), helpers.__name__, templates.__name__]
        kong.response.set_header("x-answer", " ".join([*found, queue.Queue.__module__]))
"""


def test_among_several_plugins_libraries_are_found_and_modules_have_one_name(start_files):
    files = {f"{name}/plugin.py": LIBRARIES for name in ("one", "two")}
    files |= {f"{name}/helpers.py": "" for name in ("one", "two")}
    files |= {f"{name}/templates/page.html": "" for name in ("one", "two")}
    files |= {"two/msgpack/data.txt": ""}  # a folder of files is not the library
    served = start_files(files, *MODES["threads"])
    for name in ("one", "two"):
        package = f"_kong_plugins.{name}"
        assert answer(served, name) == f"json 01 True {package}.helpers {package}.templates queue"


def test_a_plugin_alone_in_its_process_has_its_folder_on_the_path(start_files):
    files = plugin_folder("one", "plugin.py", HERE) | plugin_folder("two", "plugin.py", HERE)
    served = start_files(files, *MODES["threads"], "--plugin", "two")
    assert answer(served, "two") == "twos twos in:twos in:twos twos"


SPAWNS = """
import concurrent.futures
import multiprocessing
import helpers
{imports}

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        words = []
        for method in ("spawn", "forkserver"):
            context = multiprocessing.get_context(method)
            with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as processes:
                words += [str(number) for number in processes.map(square, [3])]
                words += processes.map({of_sibling}, ["a"])
        kong.response.set_header("x-answer", " ".join(words))


def square(number):
    return number * number
"""
HELPERS = "def double(text):\n    return text * 2\n"
FILE = SPAWNS.format(imports="", of_sibling="helpers.double")
PACKAGE = SPAWNS.format(imports="from .own import Twice", of_sibling="Twice()")
TWICE = "class Twice:\n    def __call__(self, text):\n        return text * 2\n"


@pytest.mark.parametrize(
    ("mode", "files"),
    [
        ("threads", {"probe.py": FILE, "helpers.py": HELPERS}),
        ("processes", {"probe/probe.py": PACKAGE, "probe/helpers.py": HELPERS, "probe/own.py": TWICE}),
        ("gevent", {"probe/__init__.py": PACKAGE, "probe/helpers.py": HELPERS, "probe/own.py": TWICE}),
    ],
    ids=["a file", "a folder", "a package"],
)
def test_a_spawned_process_imports_the_plugins_module(start_files, mode, files):
    assert answer(start_files(files, *MODES[mode]), "probe") == "9 aa 9 aa"


def test_a_spawned_process_of_one_of_several_plugins_imports_its_modules(start_files):
    files = {"requests.py": FILE, "helpers.py": HELPERS}
    for name in ("one", "my-two"):
        files |= {f"{name}/plugin.py": FILE, f"{name}/helpers.py": HELPERS.replace("text * 2", f"text + '{name}'")}
    served = start_files(files, *MODES["threads"])
    assert answer(served, "my-two") == "9 amy-two 9 amy-two"
    assert answer(served, "one") == "9 aone 9 aone"
    assert answer(served, "requests") == "9 aa 9 aa"


@pytest.mark.parametrize(
    ("mode", "main"),
    [("threads", MAIN), ("processes", MAIN.replace('if __name__ == "__main__":', "if True:"))],
    ids=["main", "bare"],
)
def test_a_spawned_process_of_a_file_that_serves_itself(start_files, mode, main):
    files = {"probe.py": FILE + main, "helpers.py": HELPERS}
    served = start_files(files, *MODES[mode], command=(sys.executable, "probe.py"))
    assert answer(served, "probe") == "9 aa 9 aa"


@pytest.mark.parametrize("main", [MAIN, MAIN.replace('if __name__ == "__main__":', "if True:")], ids=["main", "bare"])
def test_a_file_that_would_serve_itself_is_served_by_the_server_of_its_folder(start_files, main):
    served = start_files({"probe.py": FILE + main, "helpers.py": HELPERS}, *MODES["threads"])
    assert answer(served, "probe") == "9 aa 9 aa"


@pytest.mark.parametrize("command", ["wrapper.py", "-mkong_pdk.server"])
def test_a_spawned_process_of_other_ways_to_start_the_folder_server(start_files, tmp_path, command):
    files = {"inner/probe.py": FILE, "inner/helpers.py": HELPERS}
    files["wrapper.py"] = "from kong_pdk import cli\ncli.start_server()\n"
    served = start_files(files, "-d", str(tmp_path / "plugins/inner"), command=(sys.executable, command))
    assert answer(served, "probe") == "9 aa 9 aa"


RESOURCES = """
import importlib.resources
import pkgutil

HERE = importlib.resources.files(__package__)
RULES = HERE.joinpath("rules.json").read_text()
PAGE = (HERE / "templates" / "page.html").read_text()
INNER = importlib.resources.files(f"{__package__}.templates").joinpath("page.html").read_text()
DATA = pkgutil.get_data(__name__, "rules.json").decode()
OF_PACKAGE = pkgutil.get_data(__package__, "rules.json").decode()

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        with importlib.resources.as_file(HERE / "rules.json") as path:
            found = [RULES, PAGE, INNER, DATA, OF_PACKAGE, path.read_text()]
        kong.response.set_header("x-answer", " ".join(found))
"""


OTHER = "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): pass\n"


@pytest.mark.parametrize(
    ("files", "beside"),
    [
        (["plugin.py"], {}),
        (["plugin.py"], {"other.py": OTHER}),
        (["plugin.py", "__init__.py"], {}),
        (["__init__.py"], {}),
        (["__init__.py"], {"other.py": OTHER}),
        (["probe.py"], {"other.py": OTHER}),
    ],
)
def test_a_plugins_files_are_read_as_resources(start_files, files, beside):
    text = {f"probe/{name}": "" for name in files} | {f"probe/{files[0]}": RESOURCES}
    served = start_files({**text, **beside, "probe/rules.json": "{}", "probe/templates/page.html": "page"})
    assert answer(served, "probe") == "{} page page {} {} {}"


ON_THE_IMPORT = """
import kong_pdk.pdk.kong as kong

kong.kong.log.warn("at import")

class Plugin:
    def __init__(self, config):
        if config:
            kong.log.err("in __init__")

    def say(self, text):
        return kong.log.err(text)

    def access(self, kong):
        self.say("in a handler")
"""


def test_calls_on_the_import_are_named_with_the_line_and_what_to_do(start_files, tmp_path):
    served = start_files({"probe.py": ON_THE_IMPORT}, *MODES["threads"])
    file = tmp_path / "plugins/probe.py"
    words = (
        "kong.log.err cannot be called on the import, which holds types and no values: call it on the argument of the "
    )
    more = "handler, and hand that on to other functions; in __init__ and at import use Python's logging"
    kong = MsgpackKong(served.socket)
    kong.event(kong.start("probe"), "access", {})
    served.wait_for_log(f"the access handler raised AttributeError: {words}{more} ({file}:12)")
    with pytest.raises(RpcError):
        kong.start("probe", {"a": 1})
    kong.close()
    said = served.wait_for_log(f"__init__ raised AttributeError: {words}{more} ({file}:9)")
    assert f"{file}:4: kong.log.warn is not called on the handler's kong argument" in said


LOADED_BY = """
import os
{lines}
LOADED_BY = os.getpid()


class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        kong.response.set_header("x-loaded-by", f"{{LOADED_BY}} {{os.getpid()}}")
"""


def _loaded_by(served: Served) -> tuple[int, int]:
    kong = ProtobufKong(served.socket)
    assert kong.event(kong.start("probe"), "access")
    kong.close()
    loader, worker = str(kong.made[0][1][1]).split()
    return int(loader), int(worker)


@pytest.mark.parametrize("how", ["option", "attribute", "not"])
def test_a_plugin_that_is_preloaded_is_imported_by_the_master(how, start_files):
    """So it is in the workers that the master starts later, too."""
    text = LOADED_BY.format(lines="preload = True" if how == "attribute" else "")
    options = ["--preload"] if how == "option" else []
    served = start_files({"probe.py": text}, "--workers", "1", "--plugin", "probe", *options)
    loader, worker = _loaded_by(served)
    assert worker != served.process.pid
    assert loader == (worker if how == "not" else served.process.pid)
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: _loaded_by(served)[1] != worker)
    loader, other = _loaded_by(served)
    assert loader == (other if how == "not" else served.process.pid)


def test_preload_of_what_it_does_not_suit_is_a_warning(start_files):
    threads = (
        "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True, name='mine').start()"
    )
    served = start_files({"probe.py": LOADED_BY.format(lines=threads)}, "--workers", "1", "--preload")
    served.wait_for_log("its import has started threads (mine), which the workers do not have")
    _loaded_by(served)


def test_preload_has_no_effect_on_gevent(start_files):
    served = start_files({"probe.py": LOADED_BY.format(lines="")}, "-g", "--workers", "1", "--preload")
    served.wait_for_log("preload has no effect: gevent must replace parts of Python")
    loader, worker = _loaded_by(served)
    assert loader == worker


def test_a_preloaded_plugin_that_is_broken_is_named(start_files):
    served = start_files({"probe.py": "class Plugin:\n  x\n"}, "--workers", "1", "--preload", may_end=True)
    served.wait_for_log("probe.py:2")
    assert served.process.wait(DEADLINE) == 1
