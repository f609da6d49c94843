"""Refuses every request; one with the header X-Eat takes more and more memory."""

import kong_pdk.pdk.plain as kong

version = "1.0.0"
priority = 20
lua_style = False

# More than any test allows its container, and less than would hurt a machine whose engine knows no limits.
PORTIONS, SIZE = 512, 4 << 20


class Plugin:
    def __init__(self, config):
        self.eaten = []

    def access(self, kong: kong.kong):
        if kong.request.get_header("x-eat"):
            for _ in range(PORTIONS):
                self.eaten.append(b"x" * SIZE)
        kong.response.exit(403, {"message": "refused"})
