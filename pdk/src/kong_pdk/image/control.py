"""``kong-python supervisorctl``: supervisor's own command, pointed at this container's supervisord."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from supervisor import supervisorctl

from kong_pdk.image.run_directory import locate


def main(argv: Sequence[str]) -> int:
    """Run supervisorctl; it ends the process with its own exit status."""
    arguments = list(argv)
    conf = locate(os.environ).supervisord_conf
    if not arguments[:1] or arguments[0] not in ("-c", "--configuration", "-s", "--serverurl", "-h", "--help"):
        if not conf.exists():
            print(f"kong-python: {conf} does not exist: no supervisord was started here by this user", file=sys.stderr)
            return 1
        arguments = ["-c", str(conf), *arguments]
    supervisorctl.main(arguments)
    return 0
