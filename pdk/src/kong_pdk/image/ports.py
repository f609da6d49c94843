"""Keeps the metrics off Kong's ports: what serves them starts first, and Kong would not start for want of a port."""

from __future__ import annotations

from collections.abc import Iterator

from kong_pdk.image.settings import Settings
from kong_pdk.settings import Address

_LISTENERS = {
    "proxy_listen": "0.0.0.0:8000, 0.0.0.0:8443",
    "admin_listen": "127.0.0.1:8001, 127.0.0.1:8444",
    "admin_gui_listen": "0.0.0.0:8002, 0.0.0.0:8445",
    "status_listen": "127.0.0.1:8007",
    "stream_listen": "off",
}
"""Kong's options that name ports, with Kong's defaults."""

_EVERYWHERE = frozenset({"0.0.0.0", "::"})


def option_of(address: Address, settings: Settings) -> str | None:
    """Name the option of Kong that has it listen on this address too; None where there is none."""
    for option, default in _LISTENERS.items():
        value = settings.get(option)
        if any(_meet(address, other) for other in _addresses(default if value is None else value)):
            return option
    return None


def _addresses(value: str) -> Iterator[Address]:
    """Give the addresses of a listener's option: ``0.0.0.0:8000 reuseport, [::]:8443 ssl``; Kong judges the rest."""
    for entry in value.split(","):
        host, _, port = (entry.split() or [""])[0].rpartition(":")
        if host and port.isascii() and port.isdecimal():
            yield Address(host.strip("[]"), int(port))


def _meet(one: Address, other: Address) -> bool:
    return one.port == other.port and (one.host == other.host or not _EVERYWHERE.isdisjoint((one.host, other.host)))
