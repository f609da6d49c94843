"""Type checkers on uses of the PDK: the files of tests/typing, the example plugins, and the plugins of the pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
USES = sorted((ROOT / "tests/typing").glob("*.py"))
PLUGINS = sorted([*ROOT.glob("plugins/*.py"), *ROOT.glob("plugins/*/plugin.py")])
CHECKED = [*USES, *PLUGINS]
PAGES = sorted(ROOT.glob("docs/*.md"))
MARK = "# error"

Place = tuple[Path, int]


def _mypy(files: list[Path], folder: Path) -> dict[Place, str]:
    """Give mypy's errors by file and line."""
    # Plugins in folders of their own are all called plugin.py: mypy needs another name for each, and finds the modules
    # beside them by MYPYPATH.
    originals = {}
    for file in files:
        if file.name == "plugin.py":
            copy = folder / f"{file.parent.name.replace('-', '_')}.py"
            copy.write_bytes(file.read_bytes())
            originals[copy] = file
        else:
            originals[file] = file
    beside = {str(file.parent) for file in files if file.name == "plugin.py"}
    command = [
        sys.executable, "-m", "mypy", "--output", "json", "--python-version", "3.10", "--follow-imports", "silent",
        "--check-untyped-defs", "--cache-dir", os.devnull, "--config-file", os.devnull, *map(str, originals),
    ]  # fmt: skip
    found: dict[Place, str] = {}
    for line in _run(command, MYPYPATH=":".join(sorted(beside))).splitlines():
        error = json.loads(line)
        if error["severity"] == "error" and error["code"] not in ("import-untyped", "import-not-found"):
            found[(originals[ROOT / error["file"]], error["line"])] = error["message"]
    return found


def _pyright(files: list[Path], folder: Path) -> dict[Place, str]:
    """Give pyright's errors by file and line."""
    project = folder / "pyrightconfig.json"
    # The defaults of Microsoft's pyright; packages without types are not checked here.
    options = {"typeCheckingMode": "standard", "pythonVersion": "3.10", "reportMissingModuleSource": "none"}
    project.write_text(json.dumps({**options, "include": [str(file) for file in files]}))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", str(project)]
    report = json.loads(_run(command))
    assert report["summary"]["filesAnalyzed"] >= len(files), report["summary"]
    return {
        (Path(error["file"]), error["range"]["start"]["line"] + 1): error["message"]
        for error in report["generalDiagnostics"]
        if error["severity"] == "error" and error.get("rule") != "reportMissingImports"
    }


def _run(command: list[str], **variables: str) -> str:
    environment = {**os.environ, **variables}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


def _on_pages(folder: Path) -> list[Path]:
    """Write the plugins of the pages that import the types into files."""
    files = []
    for page in PAGES:
        for number, text in enumerate(re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)):
            if "import kong_pdk.pdk" in text:
                files.append(folder / f"{page.stem.replace('-', '_')}_{number}.py")
                files[-1].write_text(text)
    return files


@pytest.fixture(scope="module", params=[_mypy, _pyright], ids=["mypy", "pyright"])
def errors(request, tmp_path_factory) -> dict[Place, str]:
    folder = tmp_path_factory.mktemp("types")
    found: dict[Place, str] = request.param([*CHECKED, *_on_pages(folder)], folder)
    return found


@pytest.mark.parametrize("file", CHECKED, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_type_checker_refuses_only_the_marked_lines(file, errors):
    marked = {number for number, line in enumerate(file.read_text().splitlines(), 1) if line.endswith(MARK)}
    found = {line: message for (where, line), message in errors.items() if where == file}
    assert set(found) == marked, {line: found.get(line, "passes") for line in set(found) ^ marked}


def test_the_plugins_on_the_pages_have_no_mistakes(errors, tmp_path):
    assert len(_on_pages(tmp_path)) >= 2
    assert {place: message for place, message in errors.items() if place[0] not in CHECKED} == {}


def test_all_styles_have_uses_that_must_be_refused():
    marks = Counter(file.name for file in USES for line in file.read_text().splitlines() if line.endswith(MARK))
    assert set(marks) == {"lua_style.py", "plain_style.py", "async_style.py", "async_plain_style.py"}
