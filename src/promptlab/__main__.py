"""`python -m promptlab`: the command line."""

import sys

from promptlab.cli import main

sys.exit(main())
