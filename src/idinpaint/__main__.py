"""`python -m idinpaint`."""

import sys

from idinpaint.cli import main

if __name__ == "__main__":
    sys.exit(main())
