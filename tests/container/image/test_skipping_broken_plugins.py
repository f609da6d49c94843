"""KONG_PYTHON_ON_BROKEN_PLUGIN=skip: Kong starts without the broken plugins, and the log names them."""

from __future__ import annotations

from container import log_lines
from container.log_lines import BROKEN_PLUGIN, KONG_REFUSES_TO_START
from container.product import PLUGINS, PY_HELLO, Launcher, declarative

SKIP = {"KONG_PYTHON_ON_BROKEN_PLUGIN": "skip"}
BROKEN = "import no_such_package_anywhere\n\n\nclass Plugin:\n    pass\n"


def test_the_other_plugins_run(kong: Launcher) -> None:
    """Working plugins are served; broken ones are in the log at error level, with file and line."""
    folder = kong.folder({"py-hello.py": PY_HELLO, "broken.py": BROKEN})
    container = kong.start(plugins=folder, config=declarative("py-hello"), env=SKIP, expected=[BROKEN_PLUGIN])

    assert "x-hello-from-python" in container.wait_until_serving().headers
    errors = [line.text for line in container.lines("kong-python", "error")]
    assert any(text.startswith(f"{PLUGINS}/broken.py:1: ") for text in errors), errors
    assert any("KONG_PYTHON_ON_BROKEN_PLUGIN=skip" in text for text in errors), errors
    container.wait_until_check_passes()


def test_a_broken_plugin_that_is_configured_stops_the_start(kong: Launcher) -> None:
    """A broken plugin that kong.yml applies to requests is not silently skipped: Kong refuses to start."""
    folder = kong.folder({"py-hello.py": PY_HELLO, "broken.py": BROKEN})
    container = kong.start(
        plugins=folder,
        config=declarative("py-hello", "broken"),
        env=SKIP,
        ports=(),
        expected=[BROKEN_PLUGIN, *KONG_REFUSES_TO_START],
    )

    assert container.wait_exit() not in (0, 137)
    texts = [line.text for line in container.lines("kong") if line.level in log_lines.TROUBLE]
    assert any("broken" in text for text in texts), texts
