"""The layout of a counter file: an array of doubles, the same for all plugins."""

from __future__ import annotations

import zlib

from kong_pdk.protocol import PHASES
from kong_pdk.wire.pdk_functions import METHODS, functions

OK, ERROR, EXIT, ABORTED, REFUSED = range(5)
"""How an event ended: the index of its counter."""

OUTCOMES = ("ok", "error", "exit", "aborted", "refused")

BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""The upper bounds of the histogram's buckets, in seconds; a bucket for longer times follows."""

OTHER = "other"
FUNCTIONS = (*sorted({*(method.function for method in METHODS.values()), *functions()}), OTHER)
"""The PDK functions that are counted by name. Other names share a counter, so that a plugin cannot add series."""

# The header: the layout, the plugin's phases, and the processes that write and wrote the file.
FINGERPRINT, PHASE_SET, PID, PROCESS_START, MASTER_PID, STARTS, RESTARTS, _HEADER = range(8)

# The offsets in the block of a phase, which begins with its outcomes.
OUTCOME = 0
BUCKET = OUTCOME + len(OUTCOMES)
SECONDS = BUCKET + len(BOUNDS) + 1
WAITED = SECONDS + 1
CALLS = WAITED + 1
PHASE_SIZE = CALLS + len(FUNCTIONS)

BLOCKS = {phase: _HEADER + number * PHASE_SIZE for number, phase in enumerate(PHASES)}
"""The start of each phase's block."""

CALL_OFFSETS = {function: CALLS + number for number, function in enumerate(FUNCTIONS)}

SIZE = _HEADER + len(PHASES) * PHASE_SIZE
"""The number of doubles in a file."""

LAYOUT = float(zlib.crc32(repr((PHASES, OUTCOMES, BOUNDS, FUNCTIONS, SIZE)).encode()))
"""The fingerprint of this layout, the first number of each file, so that files of other layouts are not read."""
