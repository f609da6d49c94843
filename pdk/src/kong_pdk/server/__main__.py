"""``python -m kong_pdk.server``: what ``kong-python-pluginserver`` runs."""

import sys

from kong_pdk.server.command_line import folder_main

sys.exit(folder_main())
