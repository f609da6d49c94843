"""Packages made on the spot, so that pip can install something without an index."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path


def wheel(name: str, version: str = "1.0", *, needs: tuple[str, ...] = (), **modules: str) -> tuple[str, bytes]:
    """Make a wheel of pure Python: the name of its file, and its content.

    :param needs: what it requires.
    :param modules: the source of each module; without any there is one of the package's name, which has VERSION.
    """
    stem = f"{name.replace('-', '_')}-{version}"
    about = "".join(f"Requires-Dist: {each}\n" for each in needs)
    files = {f"{module}.py": source for module, source in modules.items()}
    files = files or {f"{name.replace('-', '_')}.py": f"VERSION = {version!r}\n"}
    files[f"{stem}.dist-info/METADATA"] = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{about}"
    files[f"{stem}.dist-info/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{stem}.dist-info/RECORD"] = ""
    return f"{stem}-py3-none-any.whl", archive(files)


def archive(files: Mapping[str, str]) -> bytes:
    """Make a zip file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return content.getvalue()


def write(folder: Path, *wheels: tuple[str, bytes]) -> Path:
    """Write wheels into a folder that pip can be pointed to."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in wheels:
        (folder / name).write_bytes(content)
    return folder
