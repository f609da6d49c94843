"""Makes the calls that a file lists for a scenario and a phase, and writes down the handler's results."""

import pickle
from operator import attrgetter
from pathlib import Path

Schema = ({"folder": {"type": "string", "required": True}},)


def made(kong, function, args):
    try:
        return ("gave", *attrgetter(function.removeprefix("kong."))(kong)(*args))
    except Exception as error:
        return ("raised", type(error).__name__, str(error))


class Plugin:
    def __init__(self, config):
        self.folder = Path(config["folder"])
        self.orders = pickle.loads((self.folder / "orders").read_bytes())  # written by the test

    def _run(self, kong, phase):
        scenario, _ = kong.request.get_header("x-scenario")
        got = [made(kong, *call) for call in self.orders.get(scenario, {}).get(phase, [])]
        written = self.folder / f"{scenario}.{phase}.got"
        (self.folder / "unfinished").write_bytes(pickle.dumps(got))
        (self.folder / "unfinished").rename(written)

    def rewrite(self, kong):
        self._run(kong, "rewrite")

    def access(self, kong):
        self._run(kong, "access")

    def response(self, kong):
        self._run(kong, "response")

    def log(self, kong):
        self._run(kong, "log")
