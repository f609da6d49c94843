"""Where hypothesis keeps its files."""

from __future__ import annotations

from pathlib import Path

from hypothesis.configuration import set_hypothesis_home_dir

set_hypothesis_home_dir(Path(__file__).parents[3] / ".cache" / "hypothesis")
