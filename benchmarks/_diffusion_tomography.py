"""Phantoms from few views and few degrees: learned prior against classical reconstructions and competitors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from _diffusion_table import Table, cpu_time, mean
from torch import Tensor

import sciprob
from sciprob.metrics.images import psnr, ssim
from sciprob.metrics.scores import coverage, crps
from sciprob.operators.xray import FilteredBackProjection
from sciprob.problems.problem import Problem
from sciprob.problems.registry import load_problem

try:
    from skimage.restoration import denoise_tv_chambolle
except ImportError:
    denoise_tv_chambolle = None

SPARSE = {f"{n} views": ("tomography-sparse", {"scan.views": n}) for n in (8, 16, 32)}
LIMITED = {
    f"{a} degrees": ("tomography-limited", {"scan.span_degrees": float(a), "scan.views": 15}) for a in (90, 60, 30)
}
TV_WEIGHTS = (0.05, 0.1, 0.2, 0.4)  # in units of the noise; the best one on another phantom is used
GAUSSIAN = {"prior.kind": "gaussian", "prior.weights": ""}
LEVELS = (0.5, 0.9)


@dataclass
class Scores:
    """Figures of one method over the phantoms of one case."""

    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **figures: float) -> None:
        """Those of one phantom."""
        for key, value in figures.items():
            self.values.setdefault(key, []).append(value)


def image_scores(estimate: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR and SSIM; attenuations span [0, 1]."""
    return {"PSNR": psnr(estimate, truth, 1.0), "SSIM": ssim(estimate, truth, 1.0)}


def total_variation(problem: Problem, weight: float, steps: int = 150) -> Tensor:
    """Minimiser of |A m - y|^2 / 2 + weight TV(m), m >= 0, by accelerated proximal gradients with scikit-image's prox.

    The weight is in units of the noise's variance over a pixel, so that one value serves all scans.
    """
    operator, data = problem.operator, problem.observed
    bound = largest_singular_value(operator) ** 2
    scale = weight * float(problem.likelihood.noise.std.mean()) * bound**0.5
    image = momentum = torch.zeros(operator.domain.shape, dtype=data.dtype)
    t = 1.0
    for _ in range(steps):
        step = momentum - operator.T(operator(momentum) - data) / bound
        fresh = denoise_tv_chambolle(step.numpy(), weight=scale / bound, eps=1e-5, max_num_iter=60)
        after = torch.from_numpy(np.ascontiguousarray(fresh)).to(data).clamp_min(0)
        t, before = (1 + (1 + 4 * t * t) ** 0.5) / 2, t
        momentum = after + (before - 1) / t * (after - image)
        image = after
    return image


def largest_singular_value(operator: Any, steps: int = 30) -> float:
    """By power iteration."""
    x = torch.ones(operator.domain.shape, dtype=torch.float64)
    for _ in range(steps):
        x = x / x.norm()
        x = operator.T(operator(x))
    return float(x.norm().sqrt())


def best_weight(name: str, settings: dict[str, Any]) -> float:
    """The weight with the best PSNR on one phantom that is not scored."""
    problem = load_problem(name, settings | GAUSSIAN | {"seed": 1000})
    return max(TV_WEIGHTS, key=lambda weight: psnr(total_variation(problem, weight), problem.truth, 1.0))


def bench_case(
    table: Table, case: str, name: str, settings: dict[str, Any], methods: dict[str, Callable[[], Any]], phantoms: int
) -> None:
    """All methods on the same phantoms."""
    scores: dict[str, Scores] = {}
    weight = best_weight(name, settings) if denoise_tv_chambolle else None
    for seed in range(phantoms):
        plain = load_problem(name, settings | GAUSSIAN | {"seed": seed})
        truth, noise = plain.truth, plain.observed
        fbp = FilteredBackProjection(plain.operator)(noise).clamp_min(0)
        scores.setdefault("FBP", Scores()).add(**image_scores(fbp, truth), CRPS=float((fbp - truth).abs().mean()))
        if weight is not None:
            with cpu_time() as watch:
                image = total_variation(plain, weight)
            error = float((image - truth).abs().mean())
            scores.setdefault("TV", Scores()).add(**image_scores(image, truth), CRPS=error, cpu=watch.seconds)
        add_posterior(scores, "gaussian", plain, "gaussian", truth, seed)
        learned = load_problem(name, settings | {"seed": seed})
        for method, make in methods.items():
            add_posterior(scores, method, learned, make(), truth, seed)
    for method, found in scores.items():
        for key, values in found.values.items():
            table.add(case, method, key, mean(values), "s" if key == "cpu" else "dB" if key == "PSNR" else "1")


def add_posterior(
    scores: dict[str, Scores], method: str, problem: Problem, solver: Any, truth: Tensor, seed: int
) -> None:
    """Image likeness of the mean, calibration of pixels, and cost."""
    try:
        with cpu_time() as watch:
            posterior = sciprob.solve(problem, solver, seed=seed, progress=False, device="cpu")
    except sciprob.errors.SciprobError as error:
        print(f"  {method} failed: {error}")
        return
    inside = coverage(posterior, truth, LEVELS)
    figures = image_scores(posterior.mean.to(truth), truth) | {"CRPS": float(crps(posterior, truth).mean())}
    figures |= {f"coverage {level}": value for level, value in inside.items()}
    body = truth > 0
    for level in LEVELS:  # air is easy: what is in the body by itself
        low, high = (posterior.quantile((1 + sign * level) / 2).to(truth) for sign in (-1, 1))
        figures[f"coverage {level} in the body"] = float(((low <= truth) & (truth <= high))[body].double().mean())
    figures |= {"cpu": watch.seconds}
    diagnostics = posterior.meta.get("diagnostics", {})
    for key in ("network_calls", "network_evaluations", "ess"):
        if key in diagnostics:
            figures[key] = float(diagnostics[key])
    scores.setdefault(method, Scores()).add(**figures)
