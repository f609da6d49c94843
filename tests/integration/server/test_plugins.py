"""What plugins do to the process that serves them: it goes on, stays reachable, and ends when told to."""

from __future__ import annotations

import pytest
from fake_kong import Closed, ProtobufKong

# ProtoBuf:1 meets both engines, and MsgPack:1 only gevent: nothing here depends on the protocol.
pytestmark = pytest.mark.parametrize("mode", ["threads", "gevent", "gevent-processes"])

FORKS = """
import multiprocessing
import time

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
        process.start()
        process.terminate()
        process.join()
        kong.response.set_header("x-child", str(process.exitcode))
"""


def test_a_process_that_a_plugin_forks_can_be_stopped_alone(serve, connect):
    served = serve(FORKS)
    kong = connect(served)
    instance = kong.start("probe")
    for _ in range(2):
        assert kong.event(instance, "access")
        assert kong.made[-1] == ("kong.response.set_header", ["x-child", "-15"])
    served.stop()


KEEPS_A_CHILD = """
import multiprocessing
import time

class Plugin:
    def __init__(self, config):
        multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True).start()
        raise ValueError("no")

    def access(self, kong):
        pass
"""


def test_a_process_that_a_plugin_forks_holds_no_connection_of_kong(serve):
    kong = ProtobufKong(serve(KEEPS_A_CHILD).socket)
    with pytest.raises(Closed):  # a copy in the child would keep it open
        kong.start("probe")
    kong.close()


LEAVES_A_THREAD = """
import threading
import time

def forever():
    while True:
        time.sleep(1)

threading.Thread(target=forever).start()

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        pass
"""


def test_a_thread_that_never_ends_does_not_keep_the_server_running(serve):
    assert serve(LEAVES_A_THREAD).stop() == 0


DISABLES_LOGGERS = """
import logging.config

class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        raise ValueError("broken on purpose")

logging.config.dictConfig({"version": 1, "root": {"handlers": ["h"]}, "handlers": {"h": {"class": "%s"}}})
"""


@pytest.mark.parametrize("handler", ["logging.NullHandler", "logging.StreamHandler"])
def test_a_plugin_that_configures_logging_hides_no_errors(serve, connect, handler):
    served = serve(DISABLES_LOGGERS % handler)
    kong = connect(served)
    assert not kong.event(kong.start("probe"), "access", {})
    said = served.wait_for_log("[error] probe: the access handler raised ValueError: broken on purpose")
    assert said.count("the access handler raised") == 1


PRINTS = """
class Plugin:
    def __init__(self, config):
        pass

    def access(self, kong):
        print("the header is", kong.request.get_header("x"))
        print("it is", kong.request.get_header("x")[0])
"""


def test_a_plugin_may_print_what_a_client_sends(serve, connect):
    served = serve(PRINTS, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0", PYTHONIOENCODING="ascii:strict")
    kong = connect(served)
    instance = kong.start("probe")
    assert kong.event(instance, "access", {"kong.request.get_header": b"caf\xe9".decode("utf-8", "surrogateescape")})
    assert kong.event(instance, "access", {"kong.request.get_header": "\u20ac"})
    served.wait_for_log(r"it is caf\udce9")  # at once, not when the buffer is full
    served.wait_for_log(r"it is \u20ac")
