"""A directory of counters, and its metrics as Prometheus reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from kong_pdk.metrics import recorder
from kong_pdk.metrics.collector import PluginCollector
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

Value = Callable[..., float | None]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Make the directory."""
    made = tmp_path / "metrics"
    made.mkdir()
    return made


@pytest.fixture
def value(directory: Path) -> Value:
    """Give a function that gives the value of a sample at this moment: its name without the prefix, and its labels."""

    def read(name: str, answering: Mapping[str, bool] | None = None, **labels: str) -> float | None:
        text = generate_latest(PluginCollector(directory, lambda: answering or {})).decode()
        found = [
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == f"kong_python_{name}" and sample.labels == labels
        ]
        assert len(found) < 2, text
        return found[0] if found else None

    return read


@pytest.fixture(autouse=True)
def counting_ends() -> Iterator[None]:
    """Let no test count for another one."""
    yield
    recorder._recorders.clear()
