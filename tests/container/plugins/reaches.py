"""Answers with the results of functions that Kong's own interface file lacks, or has with less exact messages."""

import kong_pdk.pdk.kong as kong

version = "1.0.0"
priority = 30
lua_style = False


class Plugin:
    def __init__(self, config):
        self.config = config

    def access(self, kong: kong.kong):
        if kong.request.get_query_arg("error"):
            kong.response.error(404, "nothing for Python", {"x-reaches": "error"})
        kong.response.exit(
            200,
            {
                "body": kong.request.get_body(),
                "flag": kong.request.get_query_arg("flag"),
                "empty": kong.request.get_header("x-empty"),
                "absent": kong.request.get_header("x-absent"),
                "secret": kong.vault.get("{vault://env/reaches-secret}"),
                "route": kong.router.get_route(),
            },
        )

    def log(self, kong: kong.kong):
        kong.log.notice("reaches: ", kong.request.get_header("x-empty"), "|", kong.router.get_route()["name"])
