"""`sciprob doctor`: what is installed, what works, and how to get the rest."""

from __future__ import annotations

import argparse
import importlib
import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from sciprob.cli.tables import table, write

Row = tuple[str, str, str]

_REQUIRED = (
    *("torch", "numpy", "scipy", "gpytorch", "linear_operator", "pyro-ppl", "meshio", "xarray", "h5netcdf", "h5py"),
    *("safetensors", "matplotlib", "tqdm", "jaxtyping", "tomli-w"),
)
_IMPORT_NAMES = {"pyro-ppl": "pyro", "tomli-w": "tomli_w", "arviz": "arviz", "astra-toolbox": "astra"}
_OPTIONAL = {
    "gmsh": ("mesh", "builds meshes from .geo files"),
    "pyvista": ("mesh", "shows 3-D meshes"),
    "arviz": ("arviz", "reads posterior.nc for MCMC diagnostics"),
    "astra-toolbox": ("compare", "peer of the X-ray operators in benchmarks"),
}


def run_doctor(_: argparse.Namespace) -> int:
    """Print one row per part; exit code 2 if a required one is missing."""
    rows: list[Row] = [_python(), *_required(), _cuda(), _threads(), _fenicsx(), _mpi(), *_optional(), *_assets()]
    write(table(rows, header=("part", "state", "version, or what to do")))
    return 2 if any(state == "missing" for _, state, _ in rows) else 0


def _python() -> Row:
    fine = sys.version_info >= (3, 12)
    advice = "" if fine else "; sciprob needs Python 3.12 or newer"
    return ("python", "ok" if fine else "missing", f"{platform.python_version()} on {platform.platform()}{advice}")


def _required() -> Iterator[Row]:
    for name in _REQUIRED:
        failure = _import_failure(_IMPORT_NAMES.get(name, name))
        if failure is None:
            yield (name, "ok", metadata.version(name))
        else:
            yield (name, "missing", f"run `pip install {name}` ({failure})")


def _optional() -> Iterator[Row]:
    for name, (extra, purpose) in _OPTIONAL.items():
        failure = _import_failure(_IMPORT_NAMES.get(name, name))
        if failure is None:
            yield (name, "ok", metadata.version(name))
        else:
            yield (name, "absent", f"optional, {purpose}: `pip install 'sciprob[{extra}]'` ({failure})")


def _cuda() -> Row:
    import torch

    if not torch.cuda.is_available():
        return ("CUDA", "absent", "no device; everything runs on the CPU")
    name, memory = torch.cuda.get_device_name(), torch.cuda.get_device_properties(0).total_memory / 2**30
    return ("CUDA", "ok", f"{name}, {memory:.0f} GiB, CUDA {torch.version.cuda}")


def _threads() -> Row:
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ("threads", "ok", f"{torch.get_num_threads()} of {cores} cores (OMP_NUM_THREADS sets it)")


def _fenicsx() -> Row:
    def version() -> str:
        from sciprob.engines.fenicsx_mesh import fenics

        fx = fenics()
        mumps = "with MUMPS" if fx.PETSc.Sys.hasExternalPackage("mumps") else "without MUMPS, so LU is slow"
        return f"{fx.dolfinx.__version__}, PETSc {'.'.join(map(str, fx.PETSc.Sys.getVersion()))} {mumps}"

    remedy = "finite elements: `pip install 'sciprob[fem]'` (Linux x86-64) or conda-forge's fenics-dolfinx"
    return _attempt("FEniCSx", version, remedy)


def _mpi() -> Row:
    def version() -> str:
        from sciprob.engines.fenicsx_mesh import fenics

        library = " ".join(fenics().MPI.Get_library_version().split("\n")[0].rstrip("\x00").split())
        beside = str(Path(sys.executable).parent)  # of the wheel, found even if the environment is not activated
        launcher = shutil.which("mpiexec") or shutil.which("mpiexec", path=beside)
        return f"{library}, {launcher or 'no mpiexec, so one process only'}"

    return _attempt("MPI", version, "parallel finite elements: comes with `pip install 'sciprob[fem]'`")


def _assets() -> Iterator[Row]:
    from sciprob.assets import folders

    for kind in ("problems", "meshes"):
        found = ", ".join(str(folder) for folder in folders(kind))
        yield (kind, "ok" if found else "missing", found or "the folder is not installed; reinstall sciprob")


def _attempt(name: str, version: Callable[[], str], remedy: str) -> Row:
    """A row from a check that may fail in any way a broken installation can."""
    try:
        return (name, "ok", version())
    except Exception as error:  # the row reports whatever it is
        return (name, "absent", f"optional, {remedy} ({type(error).__name__}: {' '.join(str(error).split())})")


def _import_failure(module: str) -> str | None:
    try:
        importlib.import_module(module)
    except Exception as error:  # shared libraries fail with OSError, old packages with anything
        return f"{type(error).__name__}: {' '.join(str(error).split())}"
    return None
