"""The tests of the server within one process, with everything in that process on gevent's greenlets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests/unit/server"
PATCHED = "from gevent import monkey; monkey.patch_all(); import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
MODULES = [
    "test_events",
    "test_connections",
    "test_instances",
    "test_instance_store",
    "test_values",
    "test_interruptions",
]


def test_the_server_behaves_the_same_on_greenlets():
    files = [str(TESTS / f"{name}.py") for name in MODULES]
    command = [sys.executable, "-c", PATCHED, "-q", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
