"""Small problems with answers in closed form are shared with the other solvers' tests."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))
