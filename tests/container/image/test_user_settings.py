"""The user's settings for Kong are kept, and merged with those of the image."""

from __future__ import annotations

import pytest
from container import log_lines
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative

KEY_AUTH = {
    "consumers": [{"username": "ann", "keyauth_credentials": [{"key": "a-key"}]}],
}
CONFIG = declarative("key-auth", "py-hello", **KEY_AUTH)


def variables(kong: Launcher, env: dict[str, str], options: tuple[str, ...] = ()) -> dict[str, str]:
    """The variables in the environment of a command in the container."""
    folder = kong.folder({"py-hello.py": PY_HELLO, "a-plugin.py": TEST_PLUGINS / "speaks.py"})
    done = kong.run("bash", "-c", "env -0", plugins=folder, env=env, options=options)
    assert done.exit_code == 0, done.output
    return dict(entry.split("=", 1) for entry in done.stdout.split("\0") if entry)


def serves_key_auth_and_py_hello(container: Kong) -> None:
    answer = container.wait_until_serving(headers={"apikey": "a-key"})
    assert "x-hello-from-python" in answer.headers
    refused = container.request()
    assert refused.status == 401
    assert "x-hello-from-python" not in refused.headers


def test_without_kong_plugins(kong: Launcher) -> None:
    """The folder's plugins are added to Kong's bundled ones."""
    found = variables(kong, {})

    assert found["KONG_PLUGINS"] == "bundled,a-plugin,py-hello"
    assert found["KONG_PLUGINSERVER_NAMES"] == "a-plugin,py-hello"


def test_kong_plugins_keeps_its_order(kong: Launcher) -> None:
    """KONG_PLUGINS keeps its order; the folder's other plugins are appended."""
    found = variables(kong, {"KONG_PLUGINS": "py-hello, key-auth ,cors"})

    assert found["KONG_PLUGINS"] == "py-hello,key-auth,cors,a-plugin"


def test_kong_plugins(kong: Launcher) -> None:
    """A Kong with only the plugins that the user names runs these and the Python plugins."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    container = kong.start(plugins=folder, config=CONFIG, env={"KONG_PLUGINS": "key-auth"})

    serves_key_auth_and_py_hello(container)


def test_plugins_are_off(kong: Launcher) -> None:
    """KONG_PLUGINS=off stays off, and the log names the plugins that do not run."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    done = kong.run("bash", "-c", "env", plugins=folder, env={"KONG_PLUGINS": "off"})

    assert "KONG_PLUGINS=off" in done.stdout.splitlines()
    [line] = log_lines.trouble(log_lines.parse(done.stderr))
    assert line.level == "warn"
    assert "KONG_PLUGINS is off" in line.text and "py-hello" in line.text


def test_kong_plugins_file(kong: Launcher) -> None:
    """KONG_PLUGINS_FILE, a secret or a mounted file, means the same as KONG_PLUGINS."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    names = kong.file("key-auth\n")
    container = kong.start(
        plugins=folder,
        config=CONFIG,
        env={"KONG_PLUGINS_FILE": "/run/secrets/plugins"},
        options=[f"--volume={names}:/run/secrets/plugins:ro"],
    )

    serves_key_auth_and_py_hello(container)


def test_kong_plugins_twice(kong: Launcher) -> None:
    """KONG_PLUGINS and KONG_PLUGINS_FILE together are refused, as in Kong: one of them must be removed."""
    env = {"KONG_PLUGINS": "bundled", "KONG_PLUGINS_FILE": "/run/secrets/plugins"}
    done = kong.run(plugins=kong.folder({"py-hello.py": PY_HELLO}), env=env)

    assert done.exit_code == 78
    [line] = log_lines.trouble(log_lines.parse(done.output))
    assert "KONG_PLUGINS and KONG_PLUGINS_FILE are both set; unset one of them" in line.text


def test_another_option_from_a_file(kong: Launcher) -> None:
    """The _FILE forms of Kong's other options work as in Kong's own image."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    container = kong.start(
        plugins=folder,
        config=declarative("py-hello"),
        env={"KONG_PROXY_LISTEN_FILE": "/run/secrets/listen"},
        options=[f"--volume={kong.file('0.0.0.0:8300')}:/run/secrets/listen:ro"],
        ports=(8300,),
    )
    answer = container.wait_until_it_answers(port=8300)

    assert answer.status == 200
    assert "x-hello-from-python" in answer.headers


@pytest.mark.parametrize("protocol", ["protobuf", "msgpack"])
def test_the_protocol(kong: Launcher, protocol: str) -> None:
    """KONG_PYTHON_PROTOCOL chooses the protocol between Kong and the plugin servers; plugins do not notice."""
    folder = kong.folder({"py-hello.py": PY_HELLO})
    container = kong.start(plugins=folder, config=declarative("py-hello"), env={"KONG_PYTHON_PROTOCOL": protocol})

    assert "x-hello-from-python" in container.wait_until_serving().headers
    query = container.exec("kong-python", "env").stdout
    dump = container.exec("sh", "-c", 'eval "$1"; $KONG_PLUGINSERVER_PY_HELLO_QUERY_CMD', "sh", query).stdout
    assert ("ProtoBuf:1" in dump) == (protocol == "protobuf")
