"""`docker exec CONTAINER kong reload` reads the configuration again and keeps the Python plugins."""

from __future__ import annotations

import pytest
from container.product import DECLARATIVE, PY_HELLO, Kong, Launcher, declarative


def shows_message(message: str) -> str:
    return declarative({"name": "py-hello", "config": {"message": message}})


def wait_for_message(container: Kong, message: str) -> None:
    container.wait_for(
        lambda: f"Python says {message} to" in container.request().headers.get("x-hello-from-python", ""),
        f"py-hello says {message}",
    )


@pytest.mark.parametrize(
    "env", [{}, {"KONG_PLUGINS": "bundled"}, {"KONG_PLUGINSERVER_NAMES": ""}], ids=["plain", "plugins", "names"]
)
def test_kong_reload_keeps_the_plugins(kong: Launcher, env: dict[str, str]) -> None:
    """After a reload the edited kong.yml is served with its plugins, for any KONG_PLUGINS of the user."""
    config = kong.file(shows_message("before"))
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}), env=env, options=[f"--volume={config}:{DECLARATIVE}:ro"]
    )
    wait_for_message(container, "before")
    config.write_text(shows_message("after"), encoding="utf-8")
    container.exec("kong", "reload")

    wait_for_message(container, "after")
    assert container.exec("kong-python", "health").exit_code == 0


def test_sighup_reloads(kong: Launcher) -> None:
    """`docker kill --signal HUP` reloads Kong, as it does in Kong's own image."""
    config = kong.file(shows_message("before"))
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}), options=[f"--volume={config}:{DECLARATIVE}:ro"]
    )
    wait_for_message(container, "before")
    config.write_text(shows_message("after"), encoding="utf-8")
    container.signal("HUP")

    wait_for_message(container, "after")
