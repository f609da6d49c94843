"""Refuses every request, after a moment in which it is in flight.

Its import fails in the way that the file /tmp/broken names.
"""

import os
import time
from pathlib import Path

import kong_pdk.pdk.plain as kong

version = "1.0.0"
priority = 20
lua_style = False

BROKEN = Path("/tmp/broken")

if BROKEN.exists():
    if BROKEN.read_text().strip() == "abort":
        os.abort()
    raise RuntimeError("broken by a change")


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        time.sleep(0.02)
        kong.response.exit(403, {"message": "refused"})
