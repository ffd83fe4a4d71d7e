"""`import sciprob` is light."""

import subprocess
import sys

import pytest

HEAVY = {"dolfinx", "pyro", "arviz", "matplotlib", "xarray", "gpytorch", "linear_operator", "gmsh", "pyvista"}


def run(code):
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=True).stdout.split()


def test_import_loads_nothing_heavy():
    code = f"import sys, sciprob, sciprob.operators; print(*sorted({HEAVY} & set(sys.modules)))"
    assert run(code) == []


def test_import_costs_no_more_than_torch_and_a_little():
    code = (
        "import time, torch; t = time.perf_counter();"
        "import sciprob, sciprob.operators, sciprob.solvers, sciprob.priors;"
        "print(time.perf_counter() - t)"
    )
    seconds = min(float(run(code)[0]) for _ in range(2))
    assert seconds < 0.3, f"{seconds:.2f} s beyond torch"


def test_public_names_exist():
    import sciprob

    for name in sciprob.__all__:
        assert getattr(sciprob, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        sciprob.nonsense  # noqa: B018
