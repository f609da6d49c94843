"""The health check covers Kong and every plugin server, and a server that dies is restarted."""

from __future__ import annotations

from container.log_lines import CALL_OF_KILLED_SERVER, KILLED_SERVER, KILLED_WORKER
from container.product import PY_HELLO, TEST_PLUGINS, Kong, Launcher, declarative

# The engine runs the image's check every 2 s instead of 10 s, and one failure is enough instead of three.
CHECKED_BY_THE_ENGINE = ("--health-interval=2s", "--health-retries=1")


def start(kong: Launcher, *options: str) -> Kong:
    files = {"py-hello.py": PY_HELLO, "raises.py": TEST_PLUGINS / "raises.py"}
    container = kong.start(plugins=kong.folder(files), config=declarative("py-hello"), options=options)
    container.wait_until_serving()
    container.wait_until_check_passes()
    return container


def last_report(container: Kong) -> str:
    return str(container.inspect()["State"]["Health"]["Log"][-1]["Output"])


def check_that_it_is_noticed(container: Kong, pids: list[int], reason: str) -> None:
    """Stop processes: the engine says that the container is unhealthy, and why; afterwards it is healthy again."""
    container.wait_until_healthy()
    container.kill("STOP", *pids)
    container.wait_for(lambda: container.health == "unhealthy", "unhealthy")
    assert last_report(container) == f"{reason}\n"
    container.kill("CONT", *pids)

    container.wait_until_healthy()
    assert container.request().status == 200


def test_a_stopped_server_makes_the_container_unhealthy(kong: Launcher) -> None:
    """A plugin server that does not answer makes the container unhealthy and is named; later it is healthy again."""
    container = start(kong, *CHECKED_BY_THE_ENGINE)
    pids = container.pids_of_server("py-hello")
    check_that_it_is_noticed(container, pids, "py-hello: its plugin server does not answer within 1 s")


def test_a_kong_that_does_not_answer_makes_the_container_unhealthy(kong: Launcher) -> None:
    """``kong health`` finds nginx's process; the check also asks Kong itself, for an answer of any kind."""
    container = start(kong, *CHECKED_BY_THE_ENGINE)
    nginx = container.exec("supervisorctl", "pid", "kong").stdout.strip()
    children = container.exec("cat", f"/proc/{nginx}/task/{nginx}/children").stdout.split()
    pids = [int(nginx), *map(int, children)]
    check_that_it_is_noticed(container, pids, "kong: its status listener does not answer on 127.0.0.1:8007: timed out")


def test_all_that_is_wrong_is_on_one_line(kong: Launcher) -> None:
    container = start(kong)
    for name in ("py-hello", "raises"):
        container.exec("supervisorctl", "stop", f"plugins:{name}")
    for options in ([], ["--ready"]):
        report = container.exec("kong-python", "health", *options, check=False)
        assert report.exit_code == 1
        of_each = sorted(line.partition(" cannot be reached at ")[0] for line in report.stderr.rstrip("\n").split("; "))
        assert of_each == ["py-hello: its plugin server", "raises: its plugin server"]
    container.exec("supervisorctl", "start", "plugins:py-hello", "plugins:raises")
    container.wait_until_check_passes()
    assert container.exec("kong-python", "health", "--ready").output == ""


def test_a_killed_server_comes_back(kong: Launcher) -> None:
    """A plugin server that is killed is started again, and requests to its plugin work again."""
    container = start(kong)
    pids = container.pids_of_server("py-hello")
    container.expect(KILLED_SERVER, CALL_OF_KILLED_SERVER)
    container.kill("KILL", *pids)
    container.wait_for(lambda: set(container.pids_of_server("py-hello")) - set(pids), "another process")
    container.wait_for(lambda: container.exec("kong-python", "health", check=False).exit_code == 0, "health")

    answer = container.wait_until_serving()
    assert int(answer.headers["x-python-pid"]) not in pids
    container.wait_until_check_passes()


def test_a_killed_worker_comes_back(kong: Launcher) -> None:
    """A killed worker of a plugin server is replaced at once; the server and its socket stay."""
    container = start(kong)
    master, worker = container.pids_of_server("py-hello")
    container.expect(KILLED_WORKER, CALL_OF_KILLED_SERVER)
    container.kill("KILL", worker)
    container.wait_for_log("another one is started")

    answer = container.wait_until_serving()
    assert container.pids_of_server("py-hello") == [master, int(answer.headers["x-python-pid"])]
    container.wait_until_check_passes()


def test_a_killed_server_is_seen(kong: Launcher) -> None:
    """`supervisorctl` shows and controls the servers: a server that is stopped by hand is unhealthy until its start."""
    container = start(kong)
    container.exec("supervisorctl", "stop", "plugins:py-hello")
    report = container.exec("kong-python", "health", check=False)
    assert report.exit_code == 1
    assert "py-hello" in report.output
    container.exec("supervisorctl", "start", "plugins:py-hello")

    container.wait_for(lambda: container.exec("kong-python", "health", check=False).exit_code == 0, "health")


def test_health_where_kong_does_not_run(kong: Launcher) -> None:
    """In a container without Kong, `kong-python health` prints one line and ends with 1."""
    done = kong.run("kong-python", "health", plugins=kong.folder({"py-hello.py": PY_HELLO}))

    assert done.exit_code == 1
    assert "Traceback" not in done.output
    assert "Kong was not started" in done.output
