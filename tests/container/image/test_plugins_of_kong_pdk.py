"""Plugins written for kong-pdk run in the image unchanged: mounted, or as servers that the user sets up."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from container.log_lines import KONG_WAITS_FOR_ITS_SERVER, Expected, raised_by
from container.product import Kong as Container
from container.product import Launcher
from integration.kong_pdk_style.plugin_checks import CHECKS, no_handler_failed_except_the_one_that_raises_on_purpose
from integration.kong_pdk_style.running_plugins import PLAIN_PLUGINS, PLUGINS, Kong, declarative, names

STREAM_PORT = 9100
CAUGHT = Expected(
    "kong", "error", r"helper-objects caught: invalid literal", "the plugin logs an exception by kong.log.err"
)
OWN = "/srv/own/plain-values.py"


@pytest.fixture(scope="module", params=["protobuf", "msgpack"])
def container(shared: Launcher, request: pytest.FixtureRequest) -> Iterator[Container]:
    """All plugins in one container; the one written for ``--no-lua-style`` has a server that Kong starts."""
    plugins = shared.folder({f"{name}.py": PLUGINS / f"{name}.py" for name in names(PLUGINS)})
    own = shared.folder({"plain-values.py": PLAIN_PLUGINS / "plain-values.py"})
    container = shared.start(
        plugins=plugins,
        config=declarative(("upstream", 9000), [*names(PLUGINS), *names(PLAIN_PLUGINS)]),
        env={
            "KONG_PYTHON_PROTOCOL": request.param,
            "KONG_STREAM_LISTEN": f"0.0.0.0:{STREAM_PORT}",
            "KONG_PLUGINS": "bundled,plain-values",
            "KONG_PLUGINSERVER_NAMES": "plain-values",
            "KONG_PLUGINSERVER_PLAIN_VALUES_START_CMD": f"python {OWN} --no-lua-style",
            "KONG_PLUGINSERVER_PLAIN_VALUES_QUERY_CMD": f"python {OWN} -dump -protocol {request.param}",
        },
        options=[f"--volume={own}:/srv/own:ro"],
        ports=(8000, 8443, STREAM_PORT),
        expected=[raised_by("ends-early"), CAUGHT, KONG_WAITS_FOR_ITS_SERVER],
    )
    container.wait_until_serving()
    yield container
    shared.forget(container)


@pytest.fixture(scope="module")
def kong(container: Container) -> Iterator[Kong]:
    kong = Kong([container.address(port) for port in (8000, 8443, STREAM_PORT)], container.logs, processes=1)
    yield kong
    no_handler_failed_except_the_one_that_raises_on_purpose(kong)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_does_what_its_author_meant(kong: Kong, check: Callable[[Kong], None]) -> None:
    """Over both protocols, an unchanged plugin for kong-pdk does what its author meant."""
    check(kong)


def test_plain_values(container: Container) -> None:
    """A plugin for --no-lua-style has a server with that option, which Kong starts and the image leaves alone."""
    container.wait_for(
        lambda: container.exec("test", "-S", "/usr/local/kong/plain-values.socket", check=False).exit_code == 0,
        "the server that Kong starts listens",
    )
    headers = container.wait_until_serving("/plain-values").headers

    assert (headers["x-method"], headers["x-missing"], headers["x-kept"]) == ("GET", "None", "'value'")
    assert "kong.response.get_source cannot be called in the access phase" in headers["x-refused"]
