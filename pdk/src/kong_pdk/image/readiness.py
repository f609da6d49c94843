"""Asks Kong's status listener whether Kong has a configuration to serve: ``GET /status/ready``."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple

from kong_pdk.image.kong_settings import Settings, read_conf

_PATH = "/status/ready"
_SECONDS = 5.0
_HINT = "set it to an address, such as 0.0.0.0:8100"
_ENTRY = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[^\s:\[\]]+):(?P<port>\d{1,5})(?P<flags>(\s+\S+)*)")
# The local address of a listener on all addresses.
_LOCAL = {"0.0.0.0": "127.0.0.1", "::": "::1"}


class Listener(NamedTuple):
    """An address of Kong's status listener, as seen from inside the container."""

    host: str
    port: int
    tls: bool


def problems(environ: Mapping[str, str]) -> list[str]:
    """Ask Kong whether it is ready.

    :return: a line that says why it is not ready; empty if it is.
    """
    text = (Settings(environ, read_conf(())).get("status_listen") or "").strip()
    listener = find_listener(text)
    if listener is None:
        return [
            f"kong: KONG_STATUS_LISTEN is {text or 'not set'}, so Kong cannot be asked whether it is ready; {_HINT}"
        ]
    try:
        status, body = _get(listener)
    except (OSError, HTTPException, UnicodeError) as error:
        where = f"[{listener.host}]" if ":" in listener.host else listener.host
        return [
            f"kong: its status listener does not answer on {where}:{listener.port}: {error or type(error).__name__}"
        ]
    return [] if status == 200 else [f"kong: is not ready, {_PATH} answers {status}: {_message(body)}"]


def find_listener(text: str) -> Listener | None:
    """Choose an address from the value of ``status_listen``, if possible one without TLS."""
    listeners = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match and int(match["port"]) < 65536:
            host = match["host"].strip("[]")
            listeners.append(Listener(_LOCAL.get(host, host), int(match["port"]), "ssl" in match["flags"].split()))
    return min(listeners, key=lambda listener: listener.tls, default=None)


def _get(listener: Listener) -> tuple[int, bytes]:
    connection: HTTPConnection
    if listener.tls:
        # Kong's own certificate is not in any trust store, and the connection does not leave the container.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(listener.host, listener.port, timeout=_SECONDS, context=context)
    else:
        connection = HTTPConnection(listener.host, listener.port, timeout=_SECONDS)
    try:
        connection.request("GET", _PATH)
        response = connection.getresponse()
        return response.status, response.read(4096)
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "nothing more"
