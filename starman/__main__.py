"""Runs `python -m starman` as the command `starman-uv`."""

import sys

from starman.cli import main

if __name__ == "__main__":
    sys.exit(main())
