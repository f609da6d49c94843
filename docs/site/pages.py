"""The pages that people wrote, as they go into the site: only links to what is no page of it become plain text."""

from __future__ import annotations

import os
import re
from pathlib import Path

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "pdk/README.md",
    "docs/*.md",
    "docs/plugins/*.md",
    "docker/*/README.md",
)
FRONT = Path("README.md")
_INDEX = Path("index.md")

# Code comes with the links, so that what looks like one in it is passed over.
_LINK_OR_CODE = re.compile(
    r"^(?P<fence>```|~~~).*?^(?P=fence)\s*?$|\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)|`[^`\n]*`",
    re.DOTALL | re.MULTILINE,
)


class BrokenLink(Exception):
    """A page links to what is not there; the message says which page and where to."""


def copy(repository: Path, site: Path, contents: str) -> list[Path]:
    """Lay the pages out below ``site`` as they lie in the repository, the front page as its index.

    :param contents: what goes behind the front page, its table of contents.
    :return: the pages, as they lie in the repository.
    :raises BrokenLink: a relative link leads nowhere.
    """
    pages = [file.relative_to(repository) for pattern in PAGES for file in sorted(repository.glob(pattern))]
    for page in pages:
        text = _with_links(repository, page, set(pages))
        target = site / (_INDEX if page == FRONT else page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + contents if page == FRONT else text, encoding="utf-8")
    return pages


def _with_links(repository: Path, page: Path, pages: set[Path]) -> str:
    """Give the text of a page without links that the site cannot follow."""

    def replace(found: re.Match[str]) -> str:
        target = (found["target"] or "").partition("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            return found.group()
        file = Path(os.path.normpath(page.parent / target))
        if not (repository / file).exists():
            raise BrokenLink(f"{page} links to {found['target']}, which is not there; mend the link")
        if file == FRONT:
            return f"[{found['text']}]({os.path.relpath(_INDEX, page.parent)})"
        return found.group() if file in pages else str(found["text"])

    return _LINK_OR_CODE.sub(replace, (repository / page).read_text(encoding="utf-8"))
