"""A plugin server that the user configures, as Kong's documentation shows it, runs beside those of the image."""

from __future__ import annotations

from container.log_lines import KONG_WAITS_FOR_ITS_SERVER
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative

CONFIG = declarative("py-hello", {"name": "py-other", "config": {"note": "from a server that Kong started"}})
PREFIX = "/usr/local/kong"


def wait_for_socket(container: Kong) -> None:
    """Kong starts its own servers while it already takes requests; before their socket is there, these are 500."""
    socket = f"{PREFIX}/py-other.socket"
    container.wait_for(lambda: container.exec("test", "-S", socket, check=False).exit_code == 0, f"{socket} is there")


def serves_both(container: Kong) -> None:
    wait_for_socket(container)
    answer = container.wait_until_serving()
    assert answer.headers["x-other"] == "from a server that Kong started"
    assert "x-hello-from-python" in answer.headers
    container.wait_until_healthy()


def test_a_server_that_kong_starts(kong: Launcher) -> None:
    """START_CMD and QUERY_CMD of a server of the user's stay: Kong starts it, with Kong's default socket."""
    other = kong.folder({"py-other.py": TEST_PLUGINS / "py-other.py"})
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env={
            "KONG_PLUGINS": "bundled,py-other",
            "KONG_PLUGINSERVER_NAMES": "py-other",
            "KONG_PLUGINSERVER_PY_OTHER_START_CMD": "python /srv/other/py-other.py",
            "KONG_PLUGINSERVER_PY_OTHER_QUERY_CMD": "python /srv/other/py-other.py --dump",
        },
        options=[f"--volume={other}:/srv/other:ro"],
        expected=[KONG_WAITS_FOR_ITS_SERVER],
    )

    serves_both(container)
    assert container.stop() == 0


def test_a_server_in_kongs_default_place(kong: Launcher) -> None:
    """A file /usr/local/bin/NAME needs no other setting than its name: Kong starts it and asks it for its dump."""
    other = kong.file((TEST_PLUGINS / "py-other.py").read_text("utf-8"), mode=0o755)
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env={"KONG_PLUGINS": "bundled,py-other", "KONG_PLUGINSERVER_NAMES": "py-other"},
        options=[f"--volume={other}:/usr/local/bin/py-other:ro"],
    )

    serves_both(container)


def test_a_server_for_a_plugin_of_the_folder(kong: Launcher) -> None:
    """Who configures a server for a plugin that is in the folder, too, gets the server: what the user set wins."""
    folder = kong.folder({"py-other.py": TEST_PLUGINS / "py-other.py", "py-hello.py": PY_HELLO})
    container = kong.start(
        plugins=folder,
        config=CONFIG,
        env={
            "KONG_PLUGINSERVER_NAMES": "py-other",
            "KONG_PLUGINSERVER_PY_OTHER_START_CMD": "python /opt/kong/plugins/py-other.py",
        },
    )

    serves_both(container)
    assert not container.pids_of_server("py-other"), "the image started a server, too"
