"""Hints for names that no plugin server has: names of Lua's PDK or of other languages' PDKs, and likely mistakes."""

from __future__ import annotations

import re

_RESPONSE_BODY = (
    "a response's body is changed in the phase response: read it by kong.service.response.get_raw_body() and answer by "
    "kong.response.exit(status, body, headers)"
)
_KEEP = "keep values in self, which is there for all requests of a configuration, or in a library such as cachetools"
_STORE = (
    "kong.client.get_consumer(), load_consumer(id), kong.router.get_route() and get_service() give the entities of the "
    "request; Kong's Admin API gives all others"
)
_CONFIGURATION = (
    "the plugin's own configuration is the argument of Plugin.__init__; Kong's is in the environment, as in "
    'os.environ["KONG_PREFIX"]'
)
_VERSION = "ask Kong's Admin API, whose GET / has the version"
_LATER = "start a thread in Plugin.__init__, or a threading.Timer"
_EVENTS = "Python has no access to the events of Kong's workers; use a store such as Redis to tell other processes"
_HINTS = {
    "kong.cache": _KEEP,
    "kong.core_cache": _KEEP,
    "kong.db": _STORE,
    "kong.dao": _STORE,
    "kong.singletons": _STORE,
    "kong.configuration": _CONFIGURATION,
    "kong.conf": _CONFIGURATION,
    "kong.config": _CONFIGURATION,
    "kong.env": 'read os.environ["NAME"]',
    "kong.version": _VERSION,
    "kong.version_num": _VERSION,
    "kong.pdk_version": "kong_pdk.__version__ is the version of this package",
    "kong.pdk_major_version": "kong_pdk.__version__ is the version of this package",
    "kong.worker_events": _EVENTS,
    "kong.cluster_events": _EVENTS,
    "kong.default_workspace": "the plugin's configuration does not depend on it; Kong's Admin API lists workspaces",
    "kong.timer": _LATER,
    "kong.async": _LATER,
    "kong.sleep": "call time.sleep(seconds)",
    "kong.tools": "use Python's standard library",
    "kong.utils": "use Python's standard library",
    "kong.json": "use Python's json",
    "kong.jwt": "use a library such as PyJWT",
    "kong.jwe": "use a library such as jwcrypto",
    "kong.http": "use a library such as requests or httpx",
    "kong.tracing": "use a library such as opentelemetry-sdk",
    "kong.websocket": "Kong's WebSocket phases are for Lua plugins alone",
    "kong.kong": "leave out the second kong: kong.request.get_header",
    "kong.ngx": "kong.nginx.get_var(name) gives a variable of nginx",
    "kong.consumer": "call kong.client.get_consumer()",
    "kong.route": "call kong.router.get_route()",
    "kong.exit": "call kong.response.exit(status, body, headers)",
    "kong.ctx.plugin": "keep values of a request by kong.ctx.shared.set(key, value) and get(key), under keys of the "
    "plugin's own; self has the values that all requests share",
    "kong.ctx.core": "call kong.ctx.shared.set(key, value) and get(key)",
    "kong.log.error": "call kong.log.err",
    "kong.log.exception": "call kong.log.err, or Python's logging.exception for the traceback",
    "kong.log.warning": "call kong.log.warn",
    "kong.log.critical": "call kong.log.crit",
    "kong.log.fatal": "call kong.log.crit",
    "kong.log.trace": "call kong.log.debug",
    "kong.log.log": "call kong.log(message)",
    "kong.response.set_body": _RESPONSE_BODY,
    "kong.response.get_body": _RESPONSE_BODY,
    "kong.response.set_raw_body": _RESPONSE_BODY,
    "kong.response.send": "call kong.response.exit(status, body, headers)",
    "kong.response.say": "call kong.response.exit(status, body, headers)",
    "kong.response.print": "call kong.response.exit(status, body, headers)",
    "kong.response.status": "call kong.response.get_status(), set_status(status) or exit(status, body, headers)",
    "kong.request.clear_query_arg": "call kong.service.request.clear_query_arg(name)",
    "kong.request.set_uri": "call kong.service.request.set_path(path)",
    "kong.request.set_query_arg": "call kong.service.request.set_query(args) with all of them",
    "kong.request.get_uri": "call kong.request.get_path() or get_path_with_query()",
    "kong.request.get_url": "put it together from kong.request.get_scheme(), get_host() and get_path_with_query()",
    "kong.request.get_client_ip": "call kong.client.get_ip() or get_forwarded_ip()",
    "kong.request.get_ip": "call kong.client.get_ip() or get_forwarded_ip()",
    "kong.request.get_query_args": "call kong.request.get_query()",
    "kong.request.get_uri_args": "call kong.request.get_query()",
    "kong.request.get_json": "call kong.request.get_body(), or json.loads of kong.request.get_raw_body()",
    "kong.service.get_id": 'call kong.router.get_service(), which has the "id"',
    "kong.service.get_name": 'call kong.router.get_service(), which has the "name"',
    "kong.service.set_header": "call kong.service.request.set_header(name, value)",
    "kong.service.response.exit": "call kong.response.exit(status, body, headers)",
    "kong.service.response.set_body": _RESPONSE_BODY,
    "kong.service.response.set_raw_body": _RESPONSE_BODY,
}
REFUSED = {"kong.response.get_raw_body": _RESPONSE_BODY}
"""Functions that Kong refuses in every phase of a plugin server, each with a hint what to use instead."""

_FUNCTIONS_OF_RULES = {
    "kong.service.request": {
        *("add_header", "clear_header", "clear_query_arg", "set_body", "set_header", "set_headers", "set_method"),
        *("set_path", "set_query", "set_raw_body", "set_raw_query", "set_scheme"),
    },
    "kong.response": {"add_header", "clear_header", "set_header", "set_headers", "set_status"},
    "kong.request": {
        *("get_body", "get_header", "get_headers", "get_host", "get_method", "get_path", "get_path_with_query"),
        *("get_port", "get_query", "get_query_arg", "get_raw_body", "get_raw_query", "get_scheme"),
    },
}
_RULES = (
    (re.compile(r"kong\.request\.((?:set|add|clear|remove|delete)_\w+)"), "kong.service.request"),
    (re.compile(r"kong\.service\.response\.((?:set|add|clear|remove|delete)_\w+)"), "kong.response"),
    (re.compile(r"kong\.service\.request\.(get_\w+)"), "kong.request"),
)


def hint(path: str) -> str | None:
    """Give a hint what to use instead of a name that no plugin server has.

    :param path: the dotted name.
    :return: None where Kong may have the name.
    """
    if path in _HINTS:
        return _HINTS[path]
    for pattern, part in _RULES:
        if found := pattern.fullmatch(path):
            functions = _FUNCTIONS_OF_RULES[part]
            name = re.sub("^(remove|delete)_", "clear_", found[1])
            return f"call {part}.{name}" if name in functions else f"{part} has {', '.join(sorted(functions))}"
    return None
