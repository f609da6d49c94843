"""Secrets stay where they belong: none of them is in a log, in a list of processes, or in the output of a command."""

from __future__ import annotations

import os
from pathlib import Path

from container.log_lines import Expected
from container.product import Kong, Launcher, declarative

# A message and a traceback with each value that the plugin gets.
PLUGIN = """
import logging
import os

Schema = (
    {"encrypted": {"type": "string", "encrypted": True}},
    {"referenceable": {"type": "string", "referenceable": True}},
    {"plain": {"type": "string"}},
)


class Plugin:
    def __init__(self, config):
        self.config = config
        logging.warning("made of %s", config)
        print("printed", os.environ["KONG_PG_RO_PASSWORD"], flush=True)

    def access(self, kong):
        try:
            raise ValueError(f"raised with {self.config}")
        except ValueError:
            logging.exception("caught")
        kong.response.set_header("x-length", str(sum(map(len, self.config.values()))))
"""
CONFIG = {"encrypted": "s3cret-of-the-field", "referenceable": "{vault://env/greeting}", "plain": "of-a-plain-field"}
VALUES = ("s3cret-of-the-field", "s3cret-of-the-vault", "of-a-plain-field")
SHOWN = Expected("py-secret", "warn|error", "", "the plugin of the test logs its configuration")


def command_lines(container: Kong) -> str:
    """Give the command lines of all processes, as ``ps`` shows them to any user."""
    return container.exec("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '").stdout


def test_no_secret_is_shown(kong: Launcher) -> None:
    """Not in the log, in a traceback, in ps, nor by the commands that print settings.

    The secrets are in a field that is encrypted, in a vault, in a file of KONG_..._FILE, in a variable, in the URL of
    an index, and in a query command.
    """
    file = kong.file("s3cret-of-the-file\n")
    container = kong.start(
        plugins=kong.folder({"py-secret.py": PLUGIN}),
        config=declarative({"name": "py-secret", "config": CONFIG}),
        env={
            "KONG_LOG_LEVEL": "info",
            "GREETING": "s3cret-of-the-vault",
            "KONG_PG_PASSWORD_FILE": "/run/pg-password",
            "KONG_PG_RO_PASSWORD": "s3cret-of-the-variable",
            "PIP_INDEX_URL": "https://me:s3cret-of-the-index@index.invalid/simple",
            "KONG_PLUGINSERVER_PY_SECRET_QUERY_CMD": "sh -c 'cat /run/kong-python/$(id -u)/dumps/py-secret.json' "
            "--token=s3cret-of-the-option s3cret-of-the-file",
        },
        options=[f"--volume={file}:/run/pg-password:ro"],
        expected=[SHOWN],
    )
    answer = container.wait_until_serving()
    assert answer.headers["x-length"] == str(sum(map(len, VALUES)))  # the plugin got the values themselves
    container.wait_until_check_passes()
    outputs = {
        command: container.exec("kong-python", *command.split(), check=False).output
        for command in ("env", "env --json", "settings", "plugins", "plugins --json", "health")
    }
    outputs["ps"], outputs["log"] = command_lines(container), container.logs()
    assert "'encrypted': '****'" in outputs["log"] and "of-a-plain-field" in outputs["log"]
    assert "py-secret: printed ****" in outputs["log"]
    assert "--token=**** ****" in outputs["env"]
    assert "py-secret" in outputs["ps"]
    assert [name for name, text in outputs.items() if "s3cret" in text] == []


def test_no_secret_is_shown_while_pip_runs(kong: Launcher, tmp_path: Path) -> None:
    """The password of an index is not on pip's command line."""
    os.mkfifo(tmp_path / "fifo")  # pip waits for who writes to it
    (tmp_path / "fifo").chmod(0o666)
    container = kong.start(
        plugins=kong.folder({"py-secret.py": PLUGIN, "requirements.txt": "alpha==1.0\n"}),
        config=declarative("py-secret"),
        env={"PIP_INDEX_URL": "https://me:s3cret@index.invalid/simple", "PIP_CONSTRAINT": "/run/fifo"},
        options=[f"--volume={tmp_path / 'fifo'}:/run/fifo"],
        ports=(),
    )
    container.wait_for(lambda: "--requirement" in command_lines(container), "pip runs")
    assert "s3cret" not in command_lines(container)
    assert "s3cret" not in container.logs()
    assert container.stop() == 0
