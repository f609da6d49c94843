"""The image runs with the few rights that a cluster's policy allows."""

from __future__ import annotations

import re

from container import log_lines
from container.log_lines import DANGLING_SOCKETS
from container.product import PY_HELLO, Kong, Launcher, declarative

NO_RIGHTS = ("--cap-drop=ALL", "--security-opt=no-new-privileges")
READ_ONLY = ("--read-only", "--tmpfs=/run/kong", "--tmpfs=/run/kong-python", "--tmpfs=/tmp")
PREFIX = {"KONG_PREFIX": "/run/kong"}
CONFIG = declarative("py-hello")


def serves(container: Kong) -> None:
    assert "x-hello-from-python" in container.wait_until_serving().headers


def test_read_only_root(kong: Launcher) -> None:
    """With a read-only root, tmpfs for its files, no capabilities and no-new-privileges, everything works.

    It works again after docker stop, when each tmpfs is empty.
    """
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env=PREFIX,
        options=[*READ_ONLY, *NO_RIGHTS],
        expected=[DANGLING_SOCKETS],
    )
    serves(container)
    container.wait_until_check_passes()
    assert container.exec("kong-python", "plugins", "--json").exit_code == 0
    assert container.stop() == 0
    container.start()

    serves(container)


def test_read_only_root_with_one_tmpfs(kong: Launcher) -> None:
    """Only the prefix and /tmp must be writable: the image's own files are in /tmp then."""
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env=PREFIX,
        options=["--read-only", "--tmpfs=/run/kong", "--tmpfs=/tmp"],
    )

    serves(container)
    container.wait_until_check_passes()


def test_nowhere_to_write(kong: Launcher) -> None:
    """A read-only root without any tmpfs gives a message with a hint, not a traceback."""
    done = kong.run(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG, options=["--read-only"])

    assert done.exit_code == 78
    [line] = log_lines.trouble(log_lines.parse(done.output))
    assert re.search(r"Read-only file system.*--tmpfs", line.text), line


def test_another_uid(kong: Launcher) -> None:
    """Any uid can run the image when the prefix is on a tmpfs, as on OpenShift or with --user."""
    container = kong.start(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=CONFIG,
        env=PREFIX,
        options=["--user=123456:123456", *READ_ONLY, *NO_RIGHTS],
    )

    serves(container)
    container.wait_until_check_passes()
    assert container.stop() == 0


def test_the_user_is_not_root(kong: Launcher) -> None:
    """Without any option, no process in the container runs as root."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG)
    serves(container)
    users = container.exec("sh", "-c", "stat -c %U /proc/[0-9]*", check=False).stdout.split()

    assert set(users) == {"kong"}


def test_root(kong: Launcher) -> None:
    """Run as root, where the workers of a real Kong change to the user kong, the plugins work, too."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG, options=["--user=root"])
    serves(container)
    container.wait_until_check_passes()
    socket = "/run/kong-python/0/sockets/py-hello.sock"
    assert container.exec("test", "-w", socket, user="kong", check=False).exit_code == 0
    assert container.exec("test", "-e", socket, user="54321", check=False).exit_code == 1
    assert container.stop() == 0


def test_only_its_user_can_use_the_sockets(kong: Launcher) -> None:
    """No other user in the container can connect to the plugin servers' sockets."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG)
    serves(container)
    socket = container.exec("sh", "-c", "find /run/kong-python -name py-hello.sock").stdout.strip()
    assert container.exec("test", "-S", socket).exit_code == 0
    uid = 54321
    refused = container.exec("test", "-e", socket, user=str(uid), check=False)

    assert refused.exit_code == 1
