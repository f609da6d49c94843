"""A folder of Python files, mounted into the image, is a set of running plugins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from container.log_lines import DANGLING_SOCKETS
from container.product import PLUGINS, PY_HELLO, Kong, Launcher, declarative

CONFIG = declarative({"name": "py-hello", "config": {"message": "hello from a mounted folder"}})


@pytest.fixture(scope="module")
def hello(shared: Launcher) -> Kong:
    container = shared.start(plugins=shared.folder({"py-hello.py": PY_HELLO}), config=CONFIG, ports=(8000, 8443))
    container.wait_until_serving()
    return container


def test_a_plugin_of_the_mounted_folder_takes_part_in_requests(hello: Kong) -> None:
    """A file NAME.py in the mounted folder is the plugin NAME, with the configuration of kong.yml."""
    answer = hello.request(headers={"Host": "some.host"})

    assert answer.status == 200
    assert answer.headers["x-hello-from-python"] == "Python says hello from a mounted folder to some.host"


def test_the_request_reaches_the_upstream(hello: Kong) -> None:
    """Kong proxies: method, path and body arrive at the service behind it."""
    received = hello.request("/some/path?and=query", method="POST", body=b"a body").json()

    assert (received["method"], received["path"], received["body"]) == ("POST", "/some/path?and=query", "a body")


def test_the_image_says_which_plugins_it_runs(hello: Kong) -> None:
    """The log names the folder and its plugins."""
    texts = [line.text for line in hello.lines("kong-python")]

    assert any(PLUGINS in text and "py-hello" in text for text in texts), texts


def test_the_container_becomes_healthy(hello: Kong) -> None:
    """The image's health check reports healthy once Kong and the plugin servers answer."""
    hello.wait_until_check_passes()


def test_tls_on_8443(hello: Kong) -> None:
    """Plugins run for HTTPS requests as for HTTP ones, without any set-up."""
    answer = hello.https()

    assert answer.status == 200
    assert "x-hello-from-python" in answer.headers


def test_a_plugin_may_be_a_folder(kong: Launcher) -> None:
    """A folder with plugin.py and its own modules is a plugin, too; other files are skipped."""
    plugin = (
        "from .words import WORD\n\n\n"
        "class Plugin:\n"
        "    def __init__(self, config):\n        self.config = config\n\n"
        "    def access(self, kong):\n        kong.response.set_header('x-word', WORD)\n"
    )
    files = {
        "wordy/plugin.py": plugin,
        "wordy/words.py": "WORD = 'from a module beside it'\n",
        "_shared.py": "class Plugin:\n    pass\n",
        ".hidden.py": "this is no Python\n",
        "constants.py": "ANSWER = 42\n",
        "tests/test_wordy.py": "class Plugin:\n    pass\n",
        "__pycache__/old.py": "class Plugin:\n    pass\n",
        "README.md": "not Python\n",
    }
    container = kong.start(plugins=kong.folder(files), config=declarative("wordy"))

    assert container.wait_until_serving().headers["x-word"] == "from a module beside it"
    rows = json.loads(container.exec("kong-python", "plugins", "--json").stdout)
    assert [row["name"] for row in rows] == ["wordy"]


def test_a_kubernetes_config_map(kong: Launcher) -> None:
    """A ConfigMap folder of Kubernetes, which consists of links, has each plugin once."""
    folder = kong.folder({"..2026_11_23_04_40_51.1234567/py-hello.py": PY_HELLO})
    (folder / "..data").symlink_to("..2026_11_23_04_40_51.1234567")
    (folder / "py-hello.py").symlink_to(Path("..data") / "py-hello.py")
    container = kong.start(plugins=folder, config=CONFIG)

    assert "x-hello-from-python" in container.wait_until_serving().headers
    rows = json.loads(container.exec("kong-python", "plugins", "--json").stdout)
    assert [row["name"] for row in rows] == ["py-hello"]


def test_another_folder(kong: Launcher) -> None:
    """KONG_PYTHON_PLUGINS_DIR names another folder."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    container = kong.start(
        config=CONFIG,
        env={"KONG_PYTHON_PLUGINS_DIR": "/srv/plugins"},
        options=[f"--volume={folder}:/srv/plugins:ro"],
    )

    assert "x-hello-from-python" in container.wait_until_serving().headers


def test_an_edit_is_served_after_a_restart(kong: Launcher) -> None:
    """A file that was edited in the mounted folder runs after docker restart."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    container = kong.start(plugins=folder, config=CONFIG, expected=[DANGLING_SOCKETS])
    container.wait_until_serving()
    edited = PY_HELLO.read_text("utf-8").replace("Python says", "Python now says")
    (folder / "py-hello.py").write_text(edited, encoding="utf-8")
    assert container.stop() == 0
    container.start()

    assert container.wait_until_serving().headers["x-hello-from-python"].startswith("Python now says")


def test_no_plugins(kong: Launcher) -> None:
    """With an empty folder the image is a plain Kong."""
    container = kong.start(plugins=kong.folder({}), config=declarative())

    assert container.wait_until_serving().status == 200
