"""What the packages of plugins must leave to the PDK: versions that it can use of what it imports beside them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

_DISTRIBUTION = "kong-python"

IMPORTED = frozenset({"gevent", "msgpack", "protobuf"})
"""Those of the PDK's dependencies that a plugin server imports. A plugin may have any version of the others."""

# The extras of a requirement are left out: a constraint has none.
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^\]]*\])?\s*([^;]*)(;.*)?")


@cache
def constraints() -> str:
    """Give the lines of a constraints file for pip: the versions that the PDK's own metadata asks for."""
    lines = {line for name, line in _requirements(_DISTRIBUTION) if name in IMPORTED}
    pending = sorted(IMPORTED)
    seen = set(pending)
    while pending:
        for name, line in _requirements(pending.pop()):
            lines.add(line)
            if name not in seen:
                seen.add(name)
                pending.append(name)
    return "".join(f"{line}\n" for line in sorted(lines))


def normalized(name: str) -> str:
    """Give the form in which names of packages are compared: ``Foo_Bar`` and ``foo.bar`` are one."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(distribution: str) -> Iterator[tuple[str, str]]:
    """Give the name and the constraint of each requirement of an installed distribution, those of extras left out."""
    from importlib import metadata

    try:
        requirements = metadata.requires(distribution) or ()
    except metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        found = _REQUIREMENT.match(requirement)
        if found and not re.search(r"\bextra\s*==", found[3] or ""):
            name, versions, marker = found[1], found[2].strip().strip("()"), found[3] or ""
            yield normalized(name), f"{name}{versions}{marker}"
