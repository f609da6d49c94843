"""No secret of a configuration or of the environment gets into the log of a server, or into what Kong gets from it."""

from __future__ import annotations

from pathlib import Path

import pytest
from fake_kong import Closed, FakeKong, RpcError
from server_process import PAIR, Connect, Serve

PLUGIN = """
import atexit
import logging
import os
import sys
import threading

Schema = (
    {"password": {"type": "string", "encrypted": True}},
    {"keys": {"type": "array", "elements": {"type": "string", "referenceable": True}}},
    {"name": {"type": "string"}},
)


class Loud:
    def __init__(self, secret):
        self.secret = secret

    def __del__(self):
        raise ValueError("deleted " + self.secret)


def at_exit(secret):
    raise ValueError("at exit " + secret)


class Plugin:
    def __init__(self, config):
        self.config = config
        atexit.register(at_exit, config["password"])
        logging.warning("made of %s and %s", config, os.environ.get("API_TOKEN"))
        if config["name"] == "refused":
            raise ValueError(f"refused: {config}")

    def access(self, kong):
        Loud(self.config["password"])
        thread = threading.Thread(target=int, args=("thread with " + self.config["password"],), name="of-the-plugin")
        thread.start()
        thread.join()
        if "gevent" in sys.modules:
            import gevent

            gevent.spawn(int, "greenlet with " + self.config["password"]).join()
        try:
            raise ValueError("inner " + self.config["password"])
        except ValueError as error:
            raise RuntimeError(f"outer {self.config['keys'][0]} {os.environ['API_TOKEN']}") from error
"""
SECRETS = ("of-encrypted", "of-referenceable", "of-environment", "of-a-file")
CONFIG = {"password": "of-encrypted", "keys": ["of-referenceable"], "name": "accepted"}


@pytest.mark.parametrize("mode", [*PAIR, "gevent"])
def test_no_secret_is_in_the_log_or_in_an_answer(mode: str, serve: Serve, connect: Connect, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("of-a-file\n")
    served = serve(PLUGIN, "-v", API_TOKEN="of-environment", KONG_PG_PASSWORD_FILE=str(file))
    kong = connect(served)
    assert not kong.event(kong.start("probe", CONFIG), "access")
    said = served.wait_for_log("RuntimeError: outer **** ****")
    assert "accepted" in said  # other fields are shown
    assert "ValueError: inner ****" in said
    assert "[error] probe: the thread of-the-plugin raised ValueError: " in said
    assert "'thread with ****'" in said
    assert "[error] probe: Loud.__del__, whose exceptions are ignored, raised ValueError: deleted ****" in said
    if mode == "gevent":
        assert "[error] probe: a greenlet of the plugin raised ValueError: " in said
        assert "'greenlet with ****'" in said
    refusal = _refusal(connect(served))
    said = served.wait_for_log("ValueError: refused: {")
    assert "'password': '****', 'keys': ['****'], 'name': 'refused'" in said
    served.stop()
    said = served.said()
    assert "[error] probe: at_exit, whose exceptions are ignored, raised ValueError: at exit ****" in said
    for secret in SECRETS:
        assert secret not in said
        assert secret not in refusal


def _refusal(kong: FakeKong) -> str:
    """Start an instance that is refused; return the text that Kong gets, if the protocol has one."""
    with pytest.raises((Closed, RpcError)) as caught:
        kong.start("probe", {**CONFIG, "name": "refused"})
    return str(caught.value)


@pytest.mark.parametrize("mode", ["loop"])
def test_the_configuration_is_not_logged(mode: str, serve: Serve, connect: Connect) -> None:
    """Not even at the level debug, where a plugin does not log it itself."""
    plugin = "class Plugin:\n    def __init__(self, config): pass\n    def access(self, kong): kong.log.info('x')\n"
    served = serve(plugin, "-v")
    kong = connect(served)
    assert kong.event(kong.start("probe", {"message": "of-the-configuration"}), "access")
    assert "of-the-configuration" not in served.wait_for_log("access")
