"""Every tutorial runs, and its own assertions hold."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCANS = Path(os.environ.get("SCIPROB_DATA") or Path(__file__).parents[2] / "shared" / "data" / "htc2022")
TUTORIALS = sorted((Path(__file__).parents[1] / "tutorials").glob("*.py"))


@pytest.mark.parametrize("path", TUTORIALS, ids=lambda path: path.stem)
def test_tutorial(path, tmp_path):
    environment = os.environ | {"SCIPROB_SMOKE": "1", "MPLBACKEND": "agg"}
    if SCANS.is_dir():
        environment["SCIPROB_DATA"] = str(SCANS)
    command = [sys.executable, str(path)]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr[-3000:]
