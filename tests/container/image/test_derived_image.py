"""Plugins can be part of an image: FROM, COPY, and pip install for their packages."""

from __future__ import annotations

import io
import zipfile

import pytest
from container.product import PLUGINS, PY_HELLO, Kong, Launcher, declarative

DOCKERFILE = """
FROM {image}
COPY plugins/ {plugins}/
COPY greetings-1.0-py3-none-any.whl /tmp/
USER root
RUN pip install --no-index /tmp/greetings-1.0-py3-none-any.whl
USER kong
"""

GREET = """
import greetings


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong):
        kong.response.set_header("x-greeting", greetings.WORD)
"""

ABOUT = {
    "METADATA": "Metadata-Version: 2.1\nName: greetings\nVersion: 1.0\n",
    "WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "RECORD": "",
}


def wheel() -> bytes:
    """A package without a registry: a zip file with a module and metadata."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("greetings.py", "WORD = 'good morning'\n")
        for name, text in ABOUT.items():
            archive.writestr(f"greetings-1.0.dist-info/{name}", text)
    return content.getvalue()


@pytest.fixture(scope="module")
def derived(shared: Launcher) -> Kong:
    image = shared.derive(
        DOCKERFILE.format(image=shared.image, plugins=PLUGINS),
        {"plugins/py-hello.py": PY_HELLO, "plugins/greet.py": GREET, "greetings-1.0-py3-none-any.whl": wheel()},
    )
    config = declarative({"name": "py-hello", "config": {"message": "hello from an image"}}, "greet")
    container = shared.start(image=image, config=config)
    container.wait_until_serving()
    return container


def test_plugins_of_a_derived_image_run(derived: Kong) -> None:
    """FROM kong-python and COPY plugins make an image that needs no mount."""
    assert derived.request().headers["x-hello-from-python"].startswith("Python says hello from an image")


def test_a_derived_image_installs_packages_with_pip(derived: Kong) -> None:
    """RUN pip install, without naming an environment, puts a package where plugins import it."""
    assert derived.request().headers["x-greeting"] == "good morning"


def test_a_derived_image_inherits_the_rest(derived: Kong) -> None:
    """The health check, the user and the stop signal are inherited."""
    config = derived.inspect()["Config"]

    assert config["Healthcheck"]["Test"][0] == "CMD"
    assert (config["User"], config["StopSignal"]) == ("kong", "SIGQUIT")
    derived.wait_until_check_passes()
