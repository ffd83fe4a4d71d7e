"""Conditioned processes as plain numbers and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, UnsupportedProblemError
from sciprob.priors.kernels import GaussianMixture, Matern, SquaredExponential, StationaryKernel, StudentMixture
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.factor_form import FactorConditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle
from sciprob.solvers.kronecker_gp.null_space import Polynomials

Described = tuple[dict[str, Any], dict[str, Tensor]]
_KERNELS: dict[str, Any] = {
    "GaussianMixture": GaussianMixture,
    "StudentMixture": StudentMixture,
    "SquaredExponential": SquaredExponential,
    "Matern": Matern,
}
_FACTOR_TENSORS = ("nodes", "scales", "vectors", "eigenvalues", "values")
_COLUMN_TENSORS = ("index", "std", "pure")
_TRIANGLE_TENSORS = ("root", "projected", "rest")


def describe_conditional(process: FactorConditional) -> Described:
    """Settings (JSON) and tensors from which `restore_conditional` builds an equal process.

    Raises:
        UnsupportedProblemError: If a kernel is not one of the package's.
    """
    axes, tensors = [], {"log_evidence": process.log_evidence, "chi_square": process.chi_square}
    for j, factors in enumerate(process.factors):
        kernel, parameters = describe_kernel(factors.kernel)
        null = factors.null_space
        null_space = {"count": null.count, "lower": null.lower, "upper": null.upper}
        axes.append({"kernel": kernel, "orders": list(factors.orders), "null_space": null_space})
        tensors |= {f"kernel_{j}.{name}": tensor for name, tensor in parameters.items()}
        tensors |= {f"factors_{j}.{name}": getattr(factors, name) for name in _FACTOR_TENSORS}
    tensors |= {f"columns.{name}": getattr(process.columns, name) for name in _COLUMN_TENSORS}
    tensors |= {f"triangle.{name}": getattr(process.triangle, name) for name in _TRIANGLE_TENSORS}
    settings = {
        "coordinates": list(process.coordinates),
        "count": process.count,
        "batch": list(process.batch),
        "shape": list(process.columns.shape),
        "axes": axes,
    }
    return settings, tensors


def restore_conditional(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FactorConditional:
    """Build a described process again.

    Raises:
        DataError: If a kernel has an unknown name.
    """
    factors = []
    for j, axis in enumerate(settings["axes"]):
        kernel = restore_kernel(axis["kernel"], _inside(f"kernel_{j}.", tensors))
        own = _inside(f"factors_{j}.", tensors)
        parts = {name: own[name] for name in _FACTOR_TENSORS}
        null_space = Polynomials(**axis["null_space"])
        factors.append(AxisFactors(kernel, orders=tuple(axis["orders"]), null_space=null_space, **parts))
    columns = Columns(tuple(settings["shape"]), *(tensors[f"columns.{name}"] for name in _COLUMN_TENSORS))
    triangle = Triangle(*(tensors[f"triangle.{name}"] for name in _TRIANGLE_TENSORS))
    return FactorConditional(
        tuple(settings["coordinates"]),
        tensors["log_evidence"],
        tensors["chi_square"],
        int(settings["count"]),
        torch.Size(settings["batch"]),
        tuple(factors),
        columns,
        triangle,
    )


def describe_kernel(kernel: StationaryKernel) -> Described:
    """Class, smoothness and parameters of a kernel.

    Raises:
        UnsupportedProblemError: If it is not one of the package's.
    """
    name = type(kernel).__name__
    if _KERNELS.get(name) is not type(kernel):
        message = f"a process with the kernel {name} cannot be saved; known kernels are {sorted(_KERNELS)}."
        raise UnsupportedProblemError(message)
    settings: dict[str, Any] = {"kind": name}
    if isinstance(kernel, (StudentMixture, Matern)):
        settings["smoothness"] = kernel.smoothness
    return settings, {name: p.detach() for name, p in kernel.named_parameters()}


def restore_kernel(settings: Mapping[str, Any], parameters: Mapping[str, Tensor]) -> StationaryKernel:
    """Build a described kernel again, with its parameters bit for bit.

    Raises:
        DataError: If its class is unknown.
    """
    kind = str(settings["kind"])
    if kind not in _KERNELS:
        message = f"unknown kernel {kind!r} in a saved file, known are {sorted(_KERNELS)}; update sciprob."
        raise DataError(message)
    smoothness = {"smoothness": settings["smoothness"]} if "smoothness" in settings else {}
    ones = torch.ones_like(next(iter(parameters.values())))
    count = 2 if kind in ("SquaredExponential", "Matern") else 3
    weight = {"weight": ones} if count == 2 else {}
    kernel: StationaryKernel = _KERNELS[kind](*[ones] * (1 if count == 2 else 3), **weight, **smoothness)
    with torch.no_grad():
        for name, parameter in kernel.named_parameters():
            parameter.copy_(parameters[name])
    return kernel


def _inside(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
