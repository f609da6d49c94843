"""The number of examples: a bounded, repeatable run, or a long one with HYPOTHESIS_PROFILE=long (``make fuzz``)."""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.configuration import set_hypothesis_home_dir
from tried_inputs import count_examples, note_counts

set_hypothesis_home_dir(Path(__file__).parents[3] / ".cache" / "hypothesis")

_COMMON = {"database": None, "deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

settings.register_profile("bounded", max_examples=30, derandomize=True, **_COMMON)
settings.register_profile("long", max_examples=5_000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "bounded"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, object, object]:
    """Count the inputs of each test."""
    count_examples(item)
    try:
        return (yield)
    finally:
        note_counts(item)
