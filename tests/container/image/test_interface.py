"""Kong's interface file: extended by the image's build, with the original beside it."""

from __future__ import annotations

import json
import secrets
import subprocess
from typing import Any

import pytest
from container.containers import run_once
from container.product import BUILD_SECONDS, REPOSITORY, TEST_PLUGINS, Kong, Launcher, declarative

FILE = "/usr/local/kong/include/kong/pluginsocket.proto"
WITHOUT_FILE = f"""
FROM {{base}}
USER root
RUN rm {FILE}
USER kong
"""


@pytest.fixture(scope="module")
def reaches(shared: Launcher) -> Kong:
    """A container with a plugin that uses the extension, over the image's default protocol."""
    plugins = shared.folder({"reaches.py": TEST_PLUGINS / "reaches.py"})
    env = {"REACHES_SECRET": "from the environment"}
    container = shared.start(plugins=plugins, config=declarative("reaches"), env=env)
    container.wait_until_serving()
    return container


def seen(container: Kong, **request: Any) -> dict[str, Any]:
    answer = container.request(**request)
    assert answer.status == 200
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_a_plugin_over_protobuf_reaches_the_whole_pdk(reaches: Kong) -> None:
    """Bodies as values, secrets, arguments without a value, and all fields of a route work over ProtoBuf:1."""
    dump = reaches.exec("kong-python", "plugins", "--json").stdout
    assert json.loads(dump)[0]["name"] == "reaches"
    found = seen(
        reaches,
        path="/a?flag",
        method="POST",
        headers={"content-type": "application/json", "x-empty": ""},
        body=b'{"a": [1, false, null], "b": {}}',
    )
    route = found.pop("route")
    assert found == {
        "body": {"a": [1, False, None], "b": {}},
        "flag": True,
        "empty": "",
        "absent": None,
        "secret": "from the environment",
    }
    assert (route["name"], route["paths"], route["strip_path"], route["path_handling"]) == ("demo", ["/"], True, "v0")
    reaches.wait_for_log("reaches: |demo")


def test_an_error_of_kong_has_the_plugin_s_message(reaches: Kong) -> None:
    """kong.response.error answers over ProtoBuf:1."""
    answer = reaches.request("/?error=1")
    assert (answer.status, answer.headers["x-reaches"]) == (404, "error")
    assert json.loads(answer.body)["message"] == "nothing for Python"


def test_the_original_stands_beside_the_extended_file(shared: Launcher, kong_image: str) -> None:
    """The base's file is FILE.orig; the container's user can read both and compare them."""
    script = f"kong-python extend-interface --check && cat {FILE}.orig"
    user = ["--user=12345:0", "--entrypoint=sh"]
    extended = run_once(shared.image, "-c", script, options=user)
    base = run_once(kong_image, "-c", f"cat {FILE}", options=["--entrypoint=sh"])
    assert extended.exit_code == 0, extended.output
    assert extended.stdout == f"{FILE} has all of our methods\n{base.stdout}"
    modes = run_once(shared.image, "-c", f"stat -c '%U %G %a' {FILE} {FILE}.orig", options=["--entrypoint=sh"])
    before = run_once(kong_image, "-c", f"stat -c '%U %G %a' {FILE}", options=["--entrypoint=sh"])
    assert modes.stdout.splitlines() == before.stdout.splitlines() * 2


@pytest.mark.timeout(BUILD_SECONDS)
def test_a_base_without_the_file_is_refused(shared: Launcher, kong_image: str) -> None:
    """A base without an interface file at Kong 3.9's path ends the build before anything is installed."""
    base = shared.derive(WITHOUT_FILE.format(base=kong_image), {})
    done = subprocess.run(
        [REPOSITORY / "scripts" / "image", f"kong-python-test-{secrets.token_hex(6)}", base],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=BUILD_SECONDS,
        check=False,
    )
    assert done.returncode != 0
    assert f"has no {FILE}, where Kong 3.9 has its interface file; use a Kong image, such as kong:3.9" in done.stderr
