"""Refuses every request; a request may ask it to end its process, to hang or to sleep."""

import os
import re
import time

import kong_pdk.pdk.plain as kong

version = "1.0.0"
priority = 20
lua_style = False


def obey(wish):
    if wish == "exit":
        os._exit(3)
    if wish == "crash":
        os.abort()
    if wish == "hang":
        re.match("(a+)+$", "a" * 60 + "!")
    if wish == "sleep":
        time.sleep(600)


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        obey(kong.request.get_header("x-access"))
        kong.response.exit(403, {"message": "refused"}, {"x-pid": str(os.getpid())})

    def log(self, kong: kong.kong):
        obey(kong.request.get_header("x-log"))
