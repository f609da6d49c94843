"""The interface file of the installed Kong: reads it, chooses the protocol by it, and extends it.

``kong-python extend-interface`` appends our methods to the file, and keeps the original beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import stat
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from kong_pdk.exit_status import CONFIGURATION_STATUS
from kong_pdk.protocol import PROTOCOLS, Protocol
from kong_pdk.settings import INTERFACE_FILE, PROTOCOL
from kong_pdk.wire.interface import STOCK, Interface, extend, is_extended, read
from kong_pdk.wire.wire_errors import InterfaceError

_log = logging.getLogger(__name__)
PATH = Path(INTERFACE_FILE.default)
"""The file of Kong 3.9, which Kong reads at each start."""

_WHERE = f"Kong 3.9 has it at {PATH}"
ORIGINAL = ".orig"
"""The suffix of the original file."""


def load(path: Path | None = None) -> Interface | None:
    """Read an interface file.

    :param path: the file; None for :data:`PATH`.
    :return: None where there is no such file.
    :raises InterfaceError: the file cannot be read, or is not an interface file.
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


def interface() -> Interface:
    """Give the interface of the installed Kong; the stock interface where its file is missing or cannot be read.

    :raises SettingError: the variable that names the file has an invalid value.
    """
    file = INTERFACE_FILE.read(os.environ)
    try:
        found = load(file)
        if found is None and not INTERFACE_FILE.is_default(os.environ):
            raise InterfaceError(f"{file} does not exist; set {INTERFACE_FILE.name} to Kong's file or a copy of it")
    except InterfaceError as error:
        _log.error("%s; until then ProtoBuf:1 reaches only the methods of an unmodified Kong", error)
        return STOCK
    return found or STOCK


def protocol(option: str | None) -> Protocol:
    """Choose the protocol of a dump: the option wins over the variable, and the variable over the interface file.

    :param option: ``protobuf``, ``msgpack`` or None.
    :return: without option and variable ProtoBuf:1 where the file has our whole extension, so that every PDK function
        works; else MsgPack:1.
    :raises SettingError: a variable has an invalid value.
    """
    if option is None and os.environ.get(PROTOCOL.name, "").strip():
        option = PROTOCOL.read(os.environ)
    if option is not None:
        return PROTOCOLS[option]
    return "MsgPack:1" if interface().missing() else "ProtoBuf:1"


def main(argv: Sequence[str]) -> int:
    """Run ``kong-python extend-interface``: extend the file, or check whether it is extended.

    :return: 0, or 78 with a message on standard error where the file cannot be extended, or is not.
    """
    options = _parser().parse_args(list(argv))
    try:
        print(check_file(options.path) if options.check else extend_file(options.path))
    except InterfaceError as error:
        print(f"kong-python: {error}", file=sys.stderr)
        return CONFIGURATION_STATUS
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python extend-interface",
        description="Append our PDK methods to Kong's interface file. The lines of the file stay as they are, and the "
        f"original is kept beside it as FILE{ORIGINAL}. Kong reads the file when it starts.",
    )
    parser.add_argument(
        "path", metavar="FILE", nargs="?", type=Path, default=PATH,
        help=f"the interface file (default: {PATH})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where a method is missing")
    return parser


def check_file(path: Path) -> str:
    """Check that a file has all of our methods.

    :return: a message that it does.
    :raises InterfaceError: the file is missing, or lacks methods.
    """
    found = load(path)
    if found is None:
        raise _no_file(path)
    missing = found.missing()
    if missing:
        raise InterfaceError(
            f"{path} lacks {len(missing)} of our methods, {missing[0]} for one; "
            f"extend it: kong-python extend-interface {path}"
        )
    return f"{path} has all of our methods"


def extend_file(path: Path) -> str:
    """Extend an interface file atomically. A file that is extended already does not change.

    :return: a message about what was done.
    :raises InterfaceError: the file is missing, cannot be written, or is not the interface file of Kong 3.9.
    """
    file = path.resolve()
    text = _read(file, path)
    try:
        extended = extend(text)
    except InterfaceError as error:
        raise InterfaceError(f"{path} is not the interface file of Kong 3.9: {error}") from error
    if extended == text:
        return f"{path} has all of our methods already"
    original = file.with_name(file.name + ORIGINAL)
    try:
        # A file that an older version of ours extended is not an original, which that version has kept.
        if not is_extended(text):
            _write(original, text, file)
        _write(file, extended, file)
    except OSError as error:
        raise InterfaceError(
            f"{path} cannot be replaced ({error.strerror or error}); do it as root, in a Dockerfile before its USER"
        ) from error
    return f"{check_file(file)}; the original is {original}" if original.exists() else check_file(file)


def _read(file: Path, named: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        raise _no_file(named) from None
    except OSError as error:
        raise InterfaceError(f"{named} cannot be read ({error.strerror}); {_WHERE}, readable for everybody") from error


def _no_file(path: Path) -> InterfaceError:
    return InterfaceError(
        f"{path} does not exist; {_WHERE}: use a base image of it, such as kong:3.9, or name the file: "
        "kong-python extend-interface FILE"
    )


def _write(file: Path, text: str, like: Path) -> None:
    """Replace ``file`` atomically by a file with the owner and the mode of ``like``."""
    model = like.stat()
    descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as target:
            target.write(text.encode("utf-8", "surrogateescape"))
            target.flush()
            if (model.st_uid, model.st_gid) != (os.geteuid(), os.fstat(descriptor).st_gid):
                os.fchown(descriptor, model.st_uid, model.st_gid)
            os.fchmod(descriptor, stat.S_IMODE(model.st_mode))
            os.fsync(descriptor)
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
