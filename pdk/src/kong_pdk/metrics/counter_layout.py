"""What is counted, and where each number stands in a file of counters: an array of doubles, alike for all plugins."""

from __future__ import annotations

import zlib

from kong_pdk.protocol import PHASES
from kong_pdk.wire.pdk_functions import METHODS, functions

OK, ERROR, EXIT, ABORTED = range(4)
"""How an event ended, by the place of its counter."""

OUTCOMES = ("ok", "error", "exit", "aborted")

BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histogram's buckets, in seconds; a bucket for what took longer comes behind."""

OTHER = "other"
FUNCTIONS = (*sorted({*(method.function for method in METHODS.values()), *functions()}), OTHER)
"""The PDK functions that are counted by name; the rest is one, so that no plugin makes series without end."""

# The process that writes, and those that wrote before it.
FINGERPRINT, PHASE_SET, PID, PROCESS_START, SERVER, STARTS, RESTARTS, _HEADER = range(8)

# Within the block of a phase. Its outcomes come first.
OUTCOME = 0
BUCKET = OUTCOME + len(OUTCOMES)
SECONDS = BUCKET + len(BOUNDS) + 1
WAITED = SECONDS + 1
CALLS = WAITED + 1
PHASE_SIZE = CALLS + len(FUNCTIONS)

BLOCKS = {phase: _HEADER + number * PHASE_SIZE for number, phase in enumerate(PHASES)}
"""Where the block of each phase begins."""

CALL_OFFSETS = {function: CALLS + number for number, function in enumerate(FUNCTIONS)}

SIZE = _HEADER + len(PHASES) * PHASE_SIZE
"""How many numbers there are."""

LAYOUT = float(zlib.crc32(repr((PHASES, OUTCOMES, BOUNDS, FUNCTIONS, SIZE)).encode()))
"""Stands first in each file: one of another version of this table is not to be read with this one."""
