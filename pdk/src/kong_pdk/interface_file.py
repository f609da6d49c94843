"""The interface file of the Kong at hand: where it is, what it names, and which protocol suits it."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from kong_pdk.settings import INTERFACE_FILE, PROTOCOL
from kong_pdk.wire.interface import STOCK, Interface, read
from kong_pdk.wire.wire_errors import InterfaceError

PATH = Path(INTERFACE_FILE.default)
"""Where Kong 3.9 has it, and reads it at each start."""


def load(path: Path | None = None) -> Interface | None:
    """Read an interface file.

    :param path: the file; :data:`PATH` where None.
    :return: None where there is no such file.
    :raises InterfaceError: it cannot be read, or is none.
    """
    file = path or PATH
    try:
        text = file.read_text("utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InterfaceError(f"{file} cannot be read ({error.strerror}); make it readable for everybody") from error
    try:
        return read(text)
    except InterfaceError as error:
        raise InterfaceError(f"{file} is not Kong's interface file: {error}") from error


_log = logging.getLogger(__name__)
Protocol = Literal["MsgPack:1", "ProtoBuf:1"]
PROTOCOLS: Mapping[str, Protocol] = {"msgpack": "MsgPack:1", "protobuf": "ProtoBuf:1"}


def interface() -> Interface:
    """Give the interface of the Kong at hand: an unmodified one's where there is no file, or none that can be read.

    :raises SettingError: the variable that names the file has no meaning.
    """
    file = INTERFACE_FILE.read(os.environ)
    try:
        found = load(file)
        if found is None and not INTERFACE_FILE.is_default(os.environ):
            raise InterfaceError(f"{file} is not there; have {INTERFACE_FILE.name} name Kong's file or a copy")
    except InterfaceError as error:
        _log.error("%s; until then ProtoBuf:1 reaches what an unmodified Kong names", error)
        return STOCK
    return found or STOCK


def protocol(option: str | None) -> Protocol:
    """Decide what a dump asks Kong to speak: the option wins over the variable, and that over the interface file.

    :param option: ``protobuf``, ``msgpack`` or None.
    :return: ProtoBuf:1 where the file has all of our extension, so that every PDK function works; else MsgPack:1.
    :raises SettingError: a variable has no meaning.
    """
    if option is None and os.environ.get(PROTOCOL.name, "").strip():
        option = PROTOCOL.read(os.environ)
    if option is not None:
        return PROTOCOLS[option]
    return "MsgPack:1" if interface().missing() else "ProtoBuf:1"
