"""``python -m kong_pdk.gateway.command``: the ``kong`` command."""

import sys

from kong_pdk.gateway.command.main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
