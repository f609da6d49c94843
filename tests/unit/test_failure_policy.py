"""What becomes of a failure: the plugin's module wins over the environment."""

from __future__ import annotations

import math
from typing import NamedTuple

import pytest
from kong_pdk.failure_policy import FailurePolicy, announcements, policy_of
from kong_pdk.settings import SettingError


class Asked(NamedTuple):
    """What a plugin's module asks for."""

    name: str = "py-a"
    timeout: float | None = None
    on_error: str | None = None


@pytest.mark.parametrize(
    ("asked", "environment", "policy"),
    [
        (Asked(), {}, FailurePolicy(30.0, False)),
        (Asked(), {"TIMEOUT": "0.5"}, FailurePolicy(0.5, False)),
        (Asked(), {"TIMEOUT": "0"}, FailurePolicy(math.inf, False)),
        (Asked(timeout=2.0), {"TIMEOUT": "0.5"}, FailurePolicy(2.0, False)),
        (Asked(), {"ON_ERROR": "open"}, FailurePolicy(30.0, True)),
        (Asked(), {"ON_ERROR": "open:py-b, py-a"}, FailurePolicy(30.0, True)),
        (Asked(), {"ON_ERROR": "open:py-b"}, FailurePolicy(30.0, False)),
        (Asked(on_error="open"), {}, FailurePolicy(30.0, True)),
        (Asked(on_error="closed"), {"ON_ERROR": "open"}, FailurePolicy(30.0, False)),
    ],
)
def test_policy(asked, environment, policy):
    assert policy_of(asked, {f"KONG_PYTHON_{name}": value for name, value in environment.items()}) == policy


@pytest.mark.parametrize(
    ("name", "value"),
    [("TIMEOUT", "-1"), ("TIMEOUT", "1e3"), ("TIMEOUT", "soon"), ("TIMEOUT", "99999")]
    + [("ON_ERROR", value) for value in ("opened", "open:", "closed:py-a", ":py-a")],
)
def test_invalid_settings_are_named(name, value):
    with pytest.raises(SettingError, match=f"KONG_PYTHON_{name} is '{value}'; set it to"):
        policy_of(Asked(), {f"KONG_PYTHON_{name}": value})


def test_what_is_not_usual_is_said():
    asked = [Asked(), Asked("py-b", 2.5), Asked("py-c", math.inf, "open"), Asked("py-d")]
    assert announcements(asked, {"KONG_PYTHON_ON_ERROR": "open:py-d"}) == [
        "py-b: a handler may take 2.5 s (timeout in its module)",
        "py-c fails open: when it fails, the request goes on without it (on_error in its module)",
        "py-c: a handler may take as long as it likes (timeout in its module)",
        "py-d fails open: when it fails, the request goes on without it (KONG_PYTHON_ON_ERROR)",
    ]
