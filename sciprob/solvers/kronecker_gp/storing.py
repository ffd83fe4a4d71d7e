"""Conditioned processes as plain numbers and tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import DataError, UnsupportedProblemError
from sciprob.priors.kernels import GaussianMixture, Matern, SquaredExponential, StationaryKernel, StudentMixture
from sciprob.solvers.kronecker_gp.axis_modes import AxisModes
from sciprob.solvers.kronecker_gp.columns import Columns
from sciprob.solvers.kronecker_gp.factor_form import FactorConditional
from sciprob.solvers.kronecker_gp.factored import FactoredConditional
from sciprob.solvers.kronecker_gp.factors import AxisFactors
from sciprob.solvers.kronecker_gp.least_squares import Triangle
from sciprob.solvers.kronecker_gp.modal import ModalConditional
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
_MODE_TENSORS = ("line", "basis", "projection", "fit", "vectors", "inverse", "eigenvalues", "prior")
_COMPLEX_TENSORS = ("vectors", "inverse", "eigenvalues")


def describe_conditional(process: FactoredConditional) -> Described:
    """Settings (JSON) and tensors from which `restore_conditional` builds an equal process.

    Raises:
        UnsupportedProblemError: If a kernel, or the process itself, is not one of the package's.
    """
    axes, tensors = [], {"log_evidence": process.log_evidence, "chi_square": process.chi_square}
    for j, factors in enumerate(process.axes):
        kernel, parameters = describe_kernel(factors.kernel)
        axes.append({"kernel": kernel, "orders": list(factors.orders), "null_space": asdict(factors.null_space)})
        tensors |= {f"kernel_{j}.{name}": tensor for name, tensor in parameters.items()}
        tensors |= _tensors(factors, _FACTOR_TENSORS, f"factors_{j}.")
    settings = {
        "coordinates": list(process.coordinates),
        "count": process.count,
        "batch": list(process.batch),
        "axes": axes,
    }
    if isinstance(process, FactorConditional):
        own = {"kind": "factors", "shape": list(process.columns.shape)}
        tensors |= _tensors(process.columns, _COLUMN_TENSORS, "columns.")
        return settings | own, tensors | _tensors(process.triangle, _TRIANGLE_TENSORS, "triangle.")
    if isinstance(process, ModalConditional):
        for j, modes in enumerate(process.modes):
            tensors |= {name: _real(t) for name, t in _tensors(modes, _MODE_TENSORS, f"modes_{j}.").items()}
        return settings | {"kind": "modes"}, tensors | {"centre": process.centre, "spread": process.spread}
    message = f"a {type(process).__name__} cannot be saved; it should be a `FactorConditional` or `ModalConditional`."
    raise UnsupportedProblemError(message)


def restore_conditional(settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> FactoredConditional:
    """Build a described process again.

    Raises:
        DataError: If it, or a kernel, has an unknown name.
    """
    factors = tuple(_restore_factors(axis, j, tensors) for j, axis in enumerate(settings["axes"]))
    common = (
        tuple(settings["coordinates"]),
        tensors["log_evidence"],
        tensors["chi_square"],
        int(settings["count"]),
        torch.Size(settings["batch"]),
    )
    if settings["kind"] == "factors":
        columns = Columns(tuple(settings["shape"]), *(tensors[f"columns.{name}"] for name in _COLUMN_TENSORS))
        triangle = Triangle(*(tensors[f"triangle.{name}"] for name in _TRIANGLE_TENSORS))
        return FactorConditional(*common, factors, columns, triangle)
    if settings["kind"] == "modes":
        modes = []
        for j, own in enumerate(factors):
            parts = {name: tensors[f"modes_{j}.{name}"] for name in _MODE_TENSORS}
            parts |= {name: torch.view_as_complex(parts[name]) for name in _COMPLEX_TENSORS}
            modes.append(AxisModes(own, **parts))
        return ModalConditional(*common, tuple(modes), tensors["centre"], tensors["spread"])
    message = f"unknown kind of process {settings['kind']!r} in a saved file; update sciprob or save it again."
    raise DataError(message)


def _restore_factors(axis: Mapping[str, Any], j: int, tensors: Mapping[str, Tensor]) -> AxisFactors:
    kernel = restore_kernel(axis["kernel"], _inside(f"kernel_{j}.", tensors))
    parts = {name: tensors[f"factors_{j}.{name}"] for name in _FACTOR_TENSORS}
    return AxisFactors(kernel, orders=tuple(axis["orders"]), null_space=Polynomials(**axis["null_space"]), **parts)


def _tensors(owner: Any, names: tuple[str, ...], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: getattr(owner, name) for name in names}


def _real(tensor: Tensor) -> Tensor:
    return torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor


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
