"""Builds the documentation site: ``python docs/site/build.py FOLDER``. Any warning is a failure."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pages
import reference
from sphinx.cmd.build import build_main

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]

_CONTENTS = """
```{toctree}
:hidden:

docs/plugin-author
docs/reference/index
docs/operator
docs/failures
docs/security
docs/plugins/README
docs/kubernetes
docker/examples/README
docs/from-kong-pdk
docs/architecture
CONTRIBUTING
pdk/README
docker/embedded/README
docker/host/README
CHANGELOG
```

```{toctree}
:hidden:
:glob:
:caption: Example plugins

docs/plugins/py-*
```
"""


def build(target: Path) -> int:
    """Build the site into a folder.

    :return: the exit status; 0 if there was no warning.
    """
    with tempfile.TemporaryDirectory(prefix="kong-python-docs-") as temporary:
        source = Path(temporary) / "source"
        pages.copy(REPOSITORY, source, _CONTENTS)
        reference.write(source / "docs" / "reference")
        options = ["-q", "-W", "--keep-going", "-j", "auto", "-d", str(Path(temporary) / "doctrees")]
        return build_main([*options, "-b", "html", "-c", str(HERE), str(source), str(target)])


def main(argv: Sequence[str]) -> int:
    if len(argv) != 1:
        print("usage: docs/site/build.py FOLDER", file=sys.stderr)
        return 2
    try:
        return build(Path(argv[0]))
    except pages.BrokenLink as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
