"""The interface file of the Kong at hand: where it is and what it names."""

from __future__ import annotations

from pathlib import Path

from kong_pdk.settings import INTERFACE_FILE
from kong_pdk.wire.errors import InterfaceError
from kong_pdk.wire.interface import Interface, read

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
