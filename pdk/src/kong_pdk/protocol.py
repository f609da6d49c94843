"""Facts on which Kong and every plugin server agree: phases, names of the protocols, the longest path of a socket.

It imports nothing of the project, so that every package may import it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

PHASES = ("certificate", "rewrite", "access", "response", "preread", "log")
"""The phases of a request or connection that a plugin server can handle, in the order in which Kong runs them."""

Protocol = Literal["MsgPack:1", "ProtoBuf:1"]
"""A protocol, by the name that a dump gives to Kong."""

PROTOCOLS: Mapping[str, Protocol] = {"msgpack": "MsgPack:1", "protobuf": "ProtoBuf:1"}
"""The protocols by the words of ``--protocol`` and ``KONG_PYTHON_PROTOCOL``."""

MAX_SOCKET_PATH = 107
"""Bytes of a unix socket's path: ``sockaddr_un`` holds 108, the final zero included."""
