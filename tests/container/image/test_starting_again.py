"""A container that was stopped or killed starts again, with the files of its last run."""

from __future__ import annotations

from container.log_lines import DANGLING_SOCKETS
from container.product import PY_HELLO, Kong, Launcher, declarative

CONFIG = declarative("py-hello")


def serves(container: Kong) -> None:
    assert "x-hello-from-python" in container.wait_until_serving().headers


def test_after_docker_kill(kong: Launcher) -> None:
    """docker kill leaves sockets and pid files; docker start of the same container works."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG, expected=[DANGLING_SOCKETS])
    serves(container)
    container.signal("KILL")
    assert container.wait_exit() == 137
    container.start()

    serves(container)
    container.wait_until_check_passes()
    assert container.stop() == 0


def test_after_docker_stop(kong: Launcher) -> None:
    """docker stop and docker start, twice."""
    container = kong.start(plugins=kong.folder({"py-hello.py": PY_HELLO}), config=CONFIG, expected=[DANGLING_SOCKETS])
    serves(container)
    for _ in range(2):
        assert container.stop() == 0
        container.start()
        serves(container)


def test_a_plugin_that_was_removed_is_gone(kong: Launcher) -> None:
    """Files that an earlier start generated for a removed plugin do no harm."""
    folder = kong.folder({"py-hello.py": PY_HELLO, "old.py": PY_HELLO})
    container = kong.start(plugins=folder, config=CONFIG, expected=[DANGLING_SOCKETS])
    serves(container)
    container.signal("KILL")
    container.wait_exit()
    (folder / "old.py").unlink()
    container.start()

    serves(container)
    assert not container.pids_of_server("old")
    container.wait_until_check_passes()
