"""`python -m sciprob` is the command line."""

import sys

from sciprob.cli import main

sys.exit(main())
