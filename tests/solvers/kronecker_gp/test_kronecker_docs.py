"""What the page on Gaussian processes shows runs as shown."""

import math
import re
from pathlib import Path

import pytest
import torch

PAGE = Path(__file__).parents[3] / "docs" / "kronecker_gp.md"


def test_the_example_solves_its_equation():
    (block,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(compile(block, "docs/kronecker_gp.md", "exec"), names)

    def exact(x):  # -u'' = sin 150 x + cos 9 x, u(0) = 0, u'(1) = 0.3
        particular = torch.sin(150 * x) / 150**2 + (torch.cos(9 * x) - 1) / 81
        return particular + (0.3 - math.cos(150) / 150 + math.sin(9) / 9) * x

    x = torch.tensor([0.123, 0.9], dtype=torch.float64)
    u = names["u"]
    torch.testing.assert_close(u.mean, exact(x), rtol=0, atol=1e-7)
    assert (u.std > 0).all()
    assert u.std.max() < 1e-5
    assert names["posterior"].diagnostics()["diagnostics.held_out_residual"] < 1e-4
    assert names["posterior"].derivative("x").mean[-1] == pytest.approx(0.3, abs=1e-5)
