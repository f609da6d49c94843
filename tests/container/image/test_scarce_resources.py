"""A container that runs out of memory, or of room in its run directory: what fails is named, and the rest serves."""

from __future__ import annotations

from container.load import under_load
from container.log_lines import Expected, failed_events
from container.product import PY_HELLO, TEST_PLUGINS, Launcher, declarative, declarative_routes

RUN = "/run/kong-python"


def test_a_handler_that_takes_all_memory_costs_its_own_request(kong: Launcher) -> None:
    """The kernel kills the worker at the limit of the container. Its client gets 500; another plugin goes on."""
    container = kong.start(
        plugins=kong.folder({"eats.py": TEST_PLUGINS / "eats.py", "py-hello.py": PY_HELLO}),
        config=declarative_routes("eats", "py-hello"),
        options=["--memory=512m", "--memory-swap=512m"],
        expected=[Expected("eats", "error", r"", "the test lets its worker be killed"), failed_events("eats")],
    )
    container.wait_until_serving("/eats", status=403)
    container.wait_until_serving("/py-hello")
    with under_load(container.address(), "/py-hello") as load:
        assert container.request("/eats", headers={"x-eat": "yes"}).status == 500
        assert container.request("/eats").status == 403

    assert {reply.status for reply in load.replies} == {200}
    container.wait_for_log("the worker ended (SIGKILL by the kernel: out of memory); another one is started")
    assert container.stop() == 0


def test_a_run_directory_without_room_ends_the_start_with_a_message(kong: Launcher) -> None:
    """One line names the file and what to do; Kong is not started."""
    ended = kong.run(
        plugins=kong.folder({"py-hello.py": PY_HELLO}),
        config=declarative("py-hello"),
        options=[f"--tmpfs={RUN}:size=4k,mode=1777"],
    )
    (line,) = ended.output.splitlines()
    assert ended.exit_code == 78
    assert "[error] kong-python: /run/kong-python/" in line
    assert "cannot be written: No space left on device; give /run/kong-python/" in line


def test_a_run_directory_that_fills_up_changes_nothing(kong: Launcher) -> None:
    """Requests, metrics, the health check, a reload, and new workers and servers need no further room."""
    full = kong.start(
        plugins=kong.folder({"turns.py": TEST_PLUGINS / "turns.py"}),
        config=declarative("turns"),
        env={"KONG_PYTHON_METRICS_LISTEN": "0.0.0.0:9542"},
        options=[f"--tmpfs={RUN}:size=512k,mode=1777"],
        ports=(8000, 9542),
        expected=[
            Expected("turns", "error", r"the worker ended|under way there", "the test kills its worker"),
            failed_events("turns"),
        ],
    )
    full.wait_until_serving(status=403)
    filled = full.exec("sh", "-c", f"cat /dev/zero >{RUN}/filler", check=False)
    assert "No space left on device" in filled.output
    assert full.request().status == 403
    full.wait_until_check_passes()

    master, worker = full.pids_of_server("turns")
    full.kill("KILL", worker)
    full.wait_until_serving(status=403)
    full.exec("supervisorctl", "restart", "plugins:turns")
    full.wait_until_serving(status=403)
    assert not {master, worker} & set(full.pids_of_server("turns"))

    full.exec("kong", "reload")
    full.wait_until_serving(status=403)
    full.wait_until_check_passes()
    metrics = full.request("/metrics", port=9542)
    assert 'kong_python_server_restarts_total{plugin="turns"} 1.0' in metrics.body.decode()
    assert full.stop() == 0
