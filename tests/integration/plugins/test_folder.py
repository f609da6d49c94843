"""The folder of example plugins: each plugin is in kong.yml, and has a page with all of its fields."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from integration.plugins.nodes import PLUGINS, ROOT, copy_plugins
from kong_pdk.cli import main
from kong_pdk.plugin import Source, find, load

SOURCES, PROBLEMS = find(PLUGINS)
KONG_YML = ROOT / "docker" / "kong.yml"


@pytest.fixture(params=SOURCES, ids=[source.name for source in SOURCES])
def source(request: pytest.FixtureRequest) -> Source:
    found: Source = request.param
    return found


def test_every_file_is_a_plugin() -> None:
    assert PROBLEMS == []
    assert len(SOURCES) == 5


def test_kong_yml_is_valid_and_has_all_of_them(
    tmp_path: Path, run_dir: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copy_plugins([source.name for source in SOURCES], tmp_path / "plugins")
    assert main(["check", "--plugins", str(folder), str(KONG_YML)]) == 0, capsys.readouterr()

    document = yaml.safe_load(KONG_YML.read_text(encoding="utf-8"))
    routes = [route for service in document["services"] for route in service["routes"]]
    used = [plugin["name"] for holder in (document, *routes) for plugin in holder.get("plugins", ())]
    assert sorted(used) == [source.name for source in SOURCES]


def test_each_has_a_page_that_the_index_names(source: Source) -> None:
    index = (ROOT / "docs" / "plugins" / "README.md").read_text(encoding="utf-8")

    assert f"[{source.name}]({source.name}.md)" in index
    assert (ROOT / "docs" / "plugins" / f"{source.name}.md").is_file()


def test_each_page_has_every_field_of_the_configuration(source: Source) -> None:
    page = (ROOT / "docs" / "plugins" / f"{source.name}.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in page.splitlines() if line.startswith("|"))
    fields = [name for entry in load(source).schema for name in entry]

    assert [name for name in fields if not re.search(rf"`{name}(\.\w+)?`", table)] == []
