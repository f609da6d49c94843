"""The programs of the package, as pip installed them beside this Python."""

from __future__ import annotations

import sys
from pathlib import Path

KONG_PYTHON = str(Path(sys.executable).with_name("kong-python"))
PLUGINSERVER = str(Path(sys.executable).with_name("kong-python-pluginserver"))
