"""The tests of ``tests/unit/server``, with everything in their process on gevent's greenlets."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
TESTS = ROOT / "tests/unit/server"
PATCHED = "from gevent import monkey; monkey.patch_all(); import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))"
# A master has no greenlets: it forks its workers before gevent is loaded.
ON_THREADS_ALONE = {TESTS / "test_worker_process.py"}


def test_the_server_behaves_the_same_on_greenlets():
    files = sorted({*TESTS.glob("test_*.py")} - ON_THREADS_ALONE)
    command = [sys.executable, "-c", PATCHED, "-q", *map(str, files)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
