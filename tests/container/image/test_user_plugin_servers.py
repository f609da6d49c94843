"""A plugin server that the user configures, as in Kong's documentation, runs beside those of the image."""

from __future__ import annotations

from container.log_lines import KONG_WAITS_FOR_ITS_SERVER
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative

CONFIG = declarative("py-hello", {"name": "py-other", "config": {"note": "from a server that Kong started"}})
PREFIX = "/usr/local/kong"


def wait_for_socket(container: Kong) -> None:
    """Kong serves requests while it starts its own servers; until their socket exists, the answer is 500."""
    socket = f"{PREFIX}/py-other.socket"
    container.wait_for(lambda: container.exec("test", "-S", socket, check=False).exit_code == 0, f"{socket} is there")


def serves_both(container: Kong) -> None:
    wait_for_socket(container)
    answer = container.wait_until_serving()
    assert answer.headers["x-other"] == "from a server that Kong started"
    assert "x-hello-from-python" in answer.headers
    container.wait_until_check_passes()


def test_a_server_that_kong_starts(kong: Launcher) -> None:
    """START_CMD and QUERY_CMD of the user's server stay: Kong starts it, with Kong's default socket."""
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
    """A file /usr/local/bin/NAME only needs its name in the settings: Kong starts it and queries it."""
    other = kong.file((TEST_PLUGINS / "py-other.py").read_text("utf-8"), mode=0o755)
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env={"KONG_PLUGINS": "bundled,py-other", "KONG_PLUGINSERVER_NAMES": "py-other"},
        options=[f"--volume={other}:/usr/local/bin/py-other:ro"],
    )

    serves_both(container)


def test_a_server_for_a_plugin_of_the_folder(kong: Launcher) -> None:
    """A server that the user configures for a plugin of the folder overrides the image's."""
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
