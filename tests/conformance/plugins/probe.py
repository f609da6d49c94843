"""The probe that made the calls when the recordings were made, as a plugin of ours.

Its orders are in its configuration's ``note`` (streams and handshakes) or in the request's header ``x-probe``. It
writes what it got from each call to the file PROBE_NOTES, a line a call: case, phase, number of the call, an outcome,
value and error.
"""

import json
import os
from functools import partialmethod
from operator import attrgetter

NOTES = os.open(os.environ["PROBE_NOTES"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

Schema = ({"note": {"type": "string"}},)


def note(*what):
    os.write(NOTES, f"{what!a}\n".encode())


class Plugin:
    def __init__(self, config):
        note = config.get("note") or ""
        self.orders = json.loads(note) if '"case":' in note else None

    def run(self, kong, phase):
        orders = self.orders
        if orders is None:
            header, _ = kong.request.get_header("x-probe")
            orders = json.loads(header or "{}")
        for number, (method, args) in enumerate(orders.get(phase, [])):
            about = orders["case"], phase, number
            try:
                function = attrgetter(method.replace("/", ".").partition(".")[2])(kong)
                value, error = function(*map(argument, args))
            except Exception as error:
                note(*about, type(error).__name__, None, str(error))
                return
            except BaseException:  # Kong does not answer any more; the exception unwinds the handler.
                note(*about, "ended by Kong", None, None)
                raise
            note(*about, "value", value, error)

    certificate = partialmethod(run, phase="certificate")
    rewrite = partialmethod(run, phase="rewrite")
    access = partialmethod(run, phase="access")
    response = partialmethod(run, phase="response")
    preread = partialmethod(run, phase="preread")
    log = partialmethod(run, phase="log")


def argument(value):
    if isinstance(value, dict) and "$bytes" in value:
        return bytes.fromhex(value["$bytes"])
    if isinstance(value, dict):
        return {key: argument(item) for key, item in value.items()}
    return [argument(item) for item in value] if isinstance(value, list) else value
