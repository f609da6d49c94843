"""The interface file of the Kong at hand: where it is, what it names, which protocol suits it, and its extension.

``kong-python extend-interface`` gives the file our methods; the original stays beside it.
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


_WHERE = f"Kong 3.9 has it at {PATH}"
ORIGINAL = ".orig"
"""What the name of the original ends with."""


def main(argv: Sequence[str]) -> int:
    """Extend the file, or look whether it is extended.

    :return: 0, or 78 where it cannot be done, or is not: the sentence goes to standard error.
    """
    options = _parser().parse_args(list(argv))
    try:
        print(check(options.path) if options.check else extend_file(options.path))
    except InterfaceError as error:
        print(f"kong-python: {error}", file=sys.stderr)
        return CONFIGURATION_STATUS
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="kong-python extend-interface",
        description="Append our PDK methods to Kong's interface file. What stands there stays as it is, and the "
        f"original is kept beside it as FILE{ORIGINAL}. Kong reads the file when it starts.",
    )
    parser.add_argument(
        "path", metavar="FILE", nargs="?", type=Path, default=PATH,
        help=f"the interface file (default: {PATH})",
    )  # fmt: skip
    parser.add_argument("--check", action="store_true", help="change nothing, and fail where a method is missing")
    return parser


def check(path: Path) -> str:
    """Give the sentence that all of our methods are there. Raises InterfaceError where some are not."""
    interface = load(path)
    if interface is None:
        raise _no_file(path)
    missing = interface.missing()
    if missing:
        raise InterfaceError(
            f"{path} lacks {len(missing)} of our methods, {missing[0]} for one; "
            f"extend it: kong-python extend-interface {path}"
        )
    return f"{path} has all of our methods"


def extend_file(path: Path) -> str:
    """Extend an interface file in one step, whoever reads it meanwhile; a second time changes nothing.

    :return: a sentence that says what was done.
    :raises InterfaceError: it is not there, cannot be written, or is not what we know.
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
        # A text of ours is no original: an older version of ours extended it, and its original is there already.
        if not is_extended(text):
            _write(original, text, file)
        _write(file, extended, file)
    except OSError as error:
        raise InterfaceError(
            f"{path} cannot be replaced ({error.strerror or error}); do it as root, in a Dockerfile before its USER"
        ) from error
    return f"{check(file)}; {original} is what it was" if original.exists() else check(file)


def _read(file: Path, named: Path) -> str:
    try:
        return file.read_bytes().decode("utf-8", "surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        raise _no_file(named) from None
    except OSError as error:
        raise InterfaceError(f"{named} cannot be read ({error.strerror}); {_WHERE}, a file for everybody") from error


def _no_file(path: Path) -> InterfaceError:
    return InterfaceError(
        f"{path} is not there; {_WHERE}: use a base image of it, such as kong:3.9, or name the file: "
        "kong-python extend-interface FILE"
    )


def _write(file: Path, text: str, like: Path) -> None:
    """Replace ``file`` at once by one with the owner and the mode of ``like``."""
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
