"""The hand-written pages of the site. Links to files that are no pages of the site become plain text."""

from __future__ import annotations

import os
import re
import shutil
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

# The expression matches code, too, so that a link in it is left as it is.
_LINK_OR_CODE = re.compile(
    r"^(?P<fence>```|~~~).*?^(?P=fence)\s*?$|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)|`[^`\n]*`",
    re.DOTALL | re.MULTILINE,
)


class BrokenLink(Exception):
    """A page links to a file that does not exist; the message has the page and the link."""


def copy(repository: Path, site: Path, contents: str) -> list[Path]:
    """Copy the pages and their images to the same paths below ``site``; the front page becomes its index.

    :param contents: the table of contents, which is appended to the front page.
    :return: the paths of the pages in the repository.
    :raises BrokenLink: a relative link leads to a file that does not exist.
    """
    pages = [file.relative_to(repository) for pattern in PAGES for file in sorted(repository.glob(pattern))]
    for page in pages:
        text, images = _with_links(repository, page, set(pages))
        for image in images:
            (site / image).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(repository / image, site / image)
        target = site / (_INDEX if page == FRONT else page)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + contents if page == FRONT else text, encoding="utf-8")
    return pages


def _with_links(repository: Path, page: Path, pages: set[Path]) -> tuple[str, list[Path]]:
    """Give the text of a page without links that the site cannot follow, and the images in it."""
    images = []

    def replace(match: re.Match[str]) -> str:
        target = (match["target"] or "").partition("#")[0]
        if not target or re.match(r"[a-z]+:", target):
            return match.group()
        file = Path(os.path.normpath(page.parent / target))
        if not (repository / file).exists():
            raise BrokenLink(f"{page} links to {match['target']}, which does not exist; fix the link")
        if match["image"]:
            images.append(file)
            return match.group()
        if file == FRONT:
            return f"[{match['text']}]({os.path.relpath(_INDEX, page.parent)})"
        return match.group() if file in pages else str(match["text"])

    return _LINK_OR_CODE.sub(replace, (repository / page).read_text(encoding="utf-8")), images
