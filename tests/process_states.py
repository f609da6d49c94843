"""The state of a process, as Linux shows it in ``/proc``."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from waiting import wait_for


def _state(stat: Path) -> str:
    return stat.read_text().rpartition(")")[2].split()[0]


def is_alive(pid: int) -> bool:
    """Tell whether a process exists and is no zombie."""
    try:
        return _state(Path(f"/proc/{pid}/stat")) != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def pause(pid: int) -> None:
    """Send SIGSTOP and wait until no thread of the process runs: the signal alone takes effect a moment later."""
    os.kill(pid, signal.SIGSTOP)
    tasks = Path(f"/proc/{pid}/task")
    wait_for(lambda: {_state(stat) for stat in tasks.glob("*/stat")} == {"T"}, lambda: f"process {pid} still runs")
