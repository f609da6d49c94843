"""PDK functions that Kong has not, or that cannot be called over ProtoBuf:1, and what to do."""

from __future__ import annotations

import difflib

from kong_pdk.errors import AbsentError
from kong_pdk.pdk.kong import absent
from kong_pdk.wire.interface import EXTENDED
from kong_pdk.wire.pdk_functions import functions

_MSGPACK = "set KONG_PYTHON_PROTOCOL=msgpack (or --protocol msgpack)"
_EXTEND = "extend the file (kong-python extend-interface), and start Kong and this server again"
_KNOWN = frozenset(method.function for method in EXTENDED) | frozenset(functions())
_CALLABLE = sorted(_KNOWN - absent.REFUSED.keys())
_told: set[str] = set()
_OF_ENTERPRISE = frozenset({"kong.client.get_consumer_group", "kong.client.get_consumer_groups"})
_ONLY_IN_LUA = {
    "kong.client.tls.disable_http2_alpn": "it works in a phase that plugin servers do not have",
    "kong.service.set_target_retry_callback": "it takes a function of Lua",
    "kong.service.set_tls_cert_key": "it takes what only Lua can read",
    "kong.service.set_tls_verify_store": "it takes what only Lua can read",
    "kong.vault.init_worker": "it is Kong's own",
    "kong.vault.try": "it takes a function of Lua",
}


def why_unknown(function: str) -> str:
    """Give a sentence for the author of a plugin.

    :param function: dotted name.
    """
    if (hint := absent.hint(function)) is not None:
        return str(AbsentError(function, hint))
    if function in _ONLY_IN_LUA:
        return f"{function} cannot be called by a plugin server: {_ONLY_IN_LUA[function]}"
    if function in _KNOWN:
        return (
            f"{function} is not among the methods that Kong's interface file names, so it cannot be called over "
            f"ProtoBuf:1; {_EXTEND}, or {_MSGPACK}"
        )
    if function in _OF_ENTERPRISE:
        return f"{function} is a function of Kong Enterprise, which ProtoBuf:1 does not reach; there {_MSGPACK}"
    meant = _guess(function) or f"if a newer Kong has it, {_MSGPACK}"
    return f"Kong 3.9 has no function {function}; {meant}"


def unknown_message(function: str) -> str | None:
    """Give, once, a message about a function that Kong 3.9 does not have; None for the others.

    Over MsgPack:1 a newer Kong may have it, and others give nil.
    """
    if function in _KNOWN or function in _told:
        return None
    _told.add(function)
    if function in _OF_ENTERPRISE:
        return f"{function} is a function of Kong Enterprise: where Kong does not have it, the call gives None"
    meant = _guess(function) or "where Kong does not have it either, the call gives None"
    return f"Kong 3.9 has no function {function}; {meant}"


def _guess(function: str) -> str:
    guess = difflib.get_close_matches(function, _CALLABLE, n=1, cutoff=0.85)
    last = function.rpartition(".")[2]
    same = [known for known in _CALLABLE if "_" in last and known.endswith(f".{last}")]
    return f"did you mean {(guess or same)[0]}?" if guess or same else ""
