"""Asks Kong itself, on its status listener, for a sign of life and whether it has a configuration to serve."""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import NamedTuple

from kong_pdk.image.kong_settings import Settings, read_conf
from kong_pdk.settings import KONG_PREFIX

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


def silence(environ: Mapping[str, str]) -> list[str]:
    """Ask Kong for a sign of life, ``GET /status``: any answer will do. Without a status listener, Kong is not asked.

    :return: a line that says that there is no answer; empty if there is one.
    """
    listener = find_listener(_status_listen(environ))
    if listener is None:
        return []
    answer = _ask(listener, "/status")
    return [answer] if isinstance(answer, str) else []


def unreadiness(environ: Mapping[str, str]) -> list[str]:
    """Ask Kong whether it has a configuration to serve, ``GET /status/ready``.

    :return: a line that says why it is not ready; empty if it is.
    """
    text = _status_listen(environ)
    listener = find_listener(text)
    if listener is None:
        value = text or "not set"
        return [f"kong: KONG_STATUS_LISTEN is {value}, so Kong cannot be asked whether it is ready; {_HINT}"]
    answer = _ask(listener, "/status/ready")
    if isinstance(answer, str):
        return [answer]
    status, body = answer
    return [] if status == 200 else [f"kong: is not ready, /status/ready answers {status}: {_message(body)}"]


def _status_listen(environ: Mapping[str, str]) -> str:
    """Give the setting of the Kong that runs, which knows its default; else what the user has set."""
    settings = Settings(environ, read_conf(()))
    prefix = Path((settings.get("prefix") or "").strip() or KONG_PREFIX)
    running = read_conf(("--conf", str(prefix / ".kong_env")))
    return (running.get("status_listen") or settings.get("status_listen") or "").strip()


def find_listener(text: str) -> Listener | None:
    """Choose an address from the value of ``status_listen``, if possible one without TLS."""
    listeners = []
    for entry in text.split(","):
        match = _ENTRY.fullmatch(entry.strip())
        if match and int(match["port"]) < 65536:
            host = match["host"].strip("[]")
            listeners.append(Listener(_LOCAL.get(host, host), int(match["port"]), "ssl" in match["flags"].split()))
    return min(listeners, key=lambda listener: listener.tls, default=None)


def _ask(listener: Listener, path: str) -> tuple[int, bytes] | str:
    """Give status and body of Kong's answer, or a line that says why there is none."""
    try:
        return _get(listener, path)
    except (OSError, HTTPException, UnicodeError) as error:
        where = f"[{listener.host}]" if ":" in listener.host else listener.host
        reason = str(error) or type(error).__name__
        return f"kong: its status listener does not answer on {where}:{listener.port}: {reason}"


def _get(listener: Listener, path: str) -> tuple[int, bytes]:
    connection: HTTPConnection
    if listener.tls:
        # Kong's own certificate is not in any trust store, and the connection does not leave the container.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        connection = HTTPSConnection(listener.host, listener.port, timeout=_SECONDS, context=context)
    else:
        connection = HTTPConnection(listener.host, listener.port, timeout=_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(4096)
    finally:
        connection.close()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip() or "nothing more"
