"""`python -m starman` is `starman-uv`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
