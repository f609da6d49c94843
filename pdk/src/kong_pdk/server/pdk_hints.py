"""Error messages for PDK functions that Kong does not have, or that cannot be called over ProtoBuf:1."""

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
    "kong.service.set_target_retry_callback": "its argument is a Lua function",
    "kong.service.set_tls_cert_key": "its arguments are objects that only Lua can make",
    "kong.service.set_tls_verify_store": "its argument is an object that only Lua can make",
    "kong.vault.init_worker": "Kong calls it itself, when a worker starts",
    "kong.vault.try": "its argument is a Lua function",
}


def why_unknown(function: str) -> str:
    """Tell the author of a plugin why a function cannot be called, and what to do.

    :param function: dotted name, of a function that the interface does not have.
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
    """Give a message about a function that Kong 3.9 does not have, the first time that it is called; else None.

    Over MsgPack:1 such a call is sent: a newer Kong may have the function, any other Kong returns nil.

    :param function: dotted name.
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
