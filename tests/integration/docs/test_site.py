"""The documentation site: it builds without a warning, needs no network, and has every function."""

from __future__ import annotations

import csv
import importlib.util
import re
import subprocess
import sys
from html import unescape
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest
from kong_pdk import wire
from kong_pdk.wire.pdk_functions import METHODS

SITE = Path(__file__).parents[3] / "docs" / "site"
# Elements whose addresses a browser fetches by itself; it does not fetch those of <a>.
FETCHED = re.compile(r'<(?:script|link|img|iframe|source|video|audio|object|embed)\b[^>]*?(?:src|href|data)="([^"]*)"')
FETCHED_BY_STYLE = re.compile(r"(?:@import\s+|url\()\s*[\"']?([^\"')\s]+)")
ELSEWHERE = re.compile(r"(?:[a-z]+:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built once."""
    target = tmp_path_factory.mktemp("site") / "html"
    done = subprocess.run(
        [sys.executable, str(SITE / "build.py"), str(target)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return target


def table(name: str) -> list[dict[str, str]]:
    text = resources.files(wire).joinpath(name).read_text("utf-8")
    return list(csv.DictReader(text.splitlines(), delimiter="\t"))


def rows(site: Path) -> dict[str, list[str]]:
    """Give the table of functions: the cells behind each function's name."""
    page = (site / "docs" / "reference" / "functions.html").read_text("utf-8")
    found = {}
    for row in re.findall(r"<tr\b.*?</tr>", page, re.DOTALL):
        name, *cells = [
            unescape(re.sub(r"<[^>]+>", "", cell)).strip() for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)
        ]
        found[name.removesuffix("()")] = cells
    return found


def test_every_function_has_an_entry(site):
    """Every function of Kong's interface file, of our extension and of the table of phases."""
    reached = {method.function for method in METHODS.values()}
    reached |= {row.pop("function") for row in table("phases.tsv") if "ok" in row.values()}
    pages = (site / "docs" / "reference").glob("kong.*.html")
    entries = {name for page in pages for name in re.findall(r'id="(kong[a-z0-9_.]*)"', page.read_text("utf-8"))}
    assert reached - entries == set()
    assert reached - rows(site).keys() == set()


def test_the_table_has_the_phases_of_each_call(site):
    shown = rows(site)
    header = shown["function"]
    signs = {"ok": "✓", "refused": "refused", "": "?"}
    for row in table("phases.tsv"):
        name = row.pop("function")
        if name in shown:
            assert {phase: signs[verdict or ""] for phase, verdict in row.items()} == {
                phase: cell for phase, cell in zip(header, shown[name], strict=True) if phase in row
            }, name


def test_the_table_has_the_protocols_of_each_call(site):
    shown = rows(site)
    stock, extended = (shown["function"].index(column) for column in ("stock", "extended"))
    for row in table("methods.tsv"):
        cells = shown[row["method"].replace("/", ".")]
        assert cells[extended] == "✓"
        if row["interface"] == "stock":
            assert cells[stock] == "✓"
    assert (shown["kong.request.get_body"][stock], shown["kong.request.get_body"][extended]) == ("no", "✓")


def test_an_entry_has_its_docstring(site):
    page = unescape(re.sub(r"<[^>]+>", "", (site / "docs" / "reference" / "kong.response.html").read_text("utf-8")))
    entry = page[page.index("kong.response.exit(") :]
    for words in ("status", "Parameters:", "Phases:", "rewrite, access, response, preread", "Protocols:"):
        assert words in entry


def test_the_types_of_an_entry_link_to_their_description(site):
    reference = site / "docs" / "reference"
    entry = (reference / "kong.response.html").read_text("utf-8")
    (target,) = set(re.findall(r'href="values\.html#([^"]*HeaderValue)"', entry))
    assert f'id="{target}"' in (reference / "values.html").read_text("utf-8")


def test_a_browser_fetches_nothing_from_elsewhere(site):
    addresses = [found for page in site.rglob("*.html") for found in FETCHED.findall(page.read_text("utf-8"))]
    addresses += [
        found for sheet in site.rglob("*.css") for found in FETCHED_BY_STYLE.findall(sheet.read_text("utf-8"))
    ]
    assert len(addresses) > 100
    assert [address for address in addresses if ELSEWHERE.match(address)] == []


def test_pages_link_to_each_other(site):
    front = (site / "index.html").read_text("utf-8")
    for page in ("docs/plugin-author.html", "docs/reference/index.html", "docs/operator.html"):
        assert f'href="{page}"' in front
        assert (site / page).is_file()


@pytest.fixture
def pages() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pages", SITE / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_links_that_the_site_cannot_follow_are_text(pages, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "kong.yml").touch()
    (tmp_path / "README.md").write_text("[a page](docs/a.md#x), [`kong.yml`](kong.yml), [there](https://a.test/)\n")
    (tmp_path / "docs" / "a.md").write_text("[front](../README.md) `[code](nowhere)`\n```\n[code](nowhere)\n```\n")
    pages.copy(tmp_path, tmp_path / "site", "contents\n")
    assert (tmp_path / "site" / "index.md").read_text() == (
        "[a page](docs/a.md#x), `kong.yml`, [there](https://a.test/)\ncontents\n"
    )
    assert (tmp_path / "site" / "docs" / "a.md").read_text() == (
        "[front](../index.md) `[code](nowhere)`\n```\n[code](nowhere)\n```\n"
    )


def test_images_of_pages_are_copied(pages, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "flow.svg").write_text("<svg/>")
    (tmp_path / "README.md").write_text("![the flow](docs/flow.svg)\n")
    pages.copy(tmp_path, tmp_path / "site", "")
    assert (tmp_path / "site" / "index.md").read_text() == "![the flow](docs/flow.svg)\n"
    assert (tmp_path / "site" / "docs" / "flow.svg").read_text() == "<svg/>"


def test_a_broken_link_is_named(pages, tmp_path):
    (tmp_path / "README.md").write_text("[a](docs/a.md)\n")
    with pytest.raises(pages.BrokenLink, match=r"README\.md links to docs/a\.md"):
        pages.copy(tmp_path, tmp_path / "site", "")
