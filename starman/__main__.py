"""`python -m starman` is `starman-uv`."""

import sys

from starman.cli import main

if __name__ == "__main__":
    sys.exit(main())
