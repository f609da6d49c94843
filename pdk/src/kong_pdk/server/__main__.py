"""``python -m kong_pdk.server``, which is the same as ``kong-python-pluginserver``."""

import sys

from kong_pdk.server.command_line import folder_main

sys.exit(folder_main())
