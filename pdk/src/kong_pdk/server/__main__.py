"""``python -m kong_pdk.server``, which is the same as ``kong-python-pluginserver``."""

import os
import sys

from kong_pdk.masking import remember_environment
from kong_pdk.server.command_line import folder_main

remember_environment(os.environ)
sys.exit(folder_main())
