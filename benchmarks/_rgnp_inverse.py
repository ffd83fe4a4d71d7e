"""Inverse problems of `rgnp.py`: z from noisy values of true solutions."""

from __future__ import annotations

import time
from typing import Any

import torch
from _rgnp_cases import Case
from _rgnp_posteriors import Marginals, burgers_posterior, poisson_posterior
from torch import Tensor

from sciprob.problems.family_domain import Domain

SIGMA, COUNT = 0.01, 30
REFERENCES = {"poisson": poisson_posterior, "burgers": burgers_posterior}
COMPARED = ("30 points", "30 clustered", "30 on one side")  # with reference posteriors, where there are any
DESIGNS = ("1 point", "3 points", "300 points", "5000 points", "30 clustered", "30 on one side")
FLOWS = (
    "30 points",
    "200 points",
    "200 points with pressure",
    "2000 points with pressure",
    "30 clustered",
    "30 on one side",
)


def places(domain: Domain, design: str, generator: torch.Generator) -> Tensor:
    """Points of a design."""
    n = int(design.split()[0])
    points = domain.sample(n, generator)
    lower, upper = torch.tensor([domain.lower, domain.upper], dtype=torch.float64)
    if design.endswith("clustered"):  # within a tenth of the box about one point
        points = lower + (upper - lower) * (0.2 + 0.1 * (points - lower) / (upper - lower))
    elif design.endswith("side"):
        points[:, 0] = lower[0] + 0.3 * (points[:, 0] - lower[0])
    return points


def data(case: Case, points: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """z, w and noisy values of the true solution."""
    family = case.family
    z, w = family.unknown.sample(1, generator)[0], family.known.sample(1, generator)[0]
    clean = family.solve(z, w, points)
    return z, w, clean + SIGMA * torch.randn(clean.shape, generator=generator, dtype=torch.float64)


def amortised_posterior(
    model: Any, x: Tensor, y: Tensor, w: Tensor, generator: torch.Generator, fields: tuple[str, ...] | None = None
) -> Marginals:
    """Of the trained map, from some of the fields."""
    columns = [model.family.fields.index(name) for name in fields or model.family.fields]
    found = model.infer(x, y[:, columns], SIGMA, w, generator=generator, samples=1000, fields=fields)
    return Marginals.of(found.samples, found.weights)


def posterior_scores(name: str, case: Case, model: Any, sets: int, design: str) -> dict[str, float]:
    """Distances between the amortised and the reference posterior over several data sets of a design."""
    reference = REFERENCES[name]
    off, ratio, inside, inside_reference = [], [], [], []
    for seed in range(sets):
        generator = torch.Generator().manual_seed(100 + seed)
        x = places(case.family.domain, design, generator)
        z, w, y = data(case, x, generator)
        exact = reference(case.family.unknown, x, y[:, 0], SIGMA, float(w))
        found = amortised_posterior(model, x, y, w, generator)
        off.append((found.mean - exact.mean).abs() / exact.std)
        ratio.append(found.std / exact.std)
        inside.append((z >= found.low) & (z <= found.high))
        inside_reference.append((z >= exact.low) & (z <= exact.high))
    offs, ratios = torch.cat(off), torch.cat(ratio)
    return {
        "mean off in reference sd, median": float(offs.median()),
        "mean off in reference sd, 90 % quantile": float(offs.quantile(0.9)),
        "sd over reference sd, median": float(ratios.median()),
        "sd over reference sd, 5 % quantile": float(ratios.quantile(0.05)),
        "sd over reference sd, 95 % quantile": float(ratios.quantile(0.95)),
        "coverage of 90 % intervals": float(torch.cat(inside).double().mean()),
        "coverage of the reference's": float(torch.cat(inside_reference).double().mean()),
    }


def design_scores(case: Case, model: Any, design: str, sets: int) -> dict[str, float]:
    """Whether posteriors of another design are finite and honest; from all fields or from those that are scored."""
    inside, finite, spread, errors, seconds = [], [], [], [], []
    box = case.family.unknown
    prior_std = (torch.tensor(box.upper) - torch.tensor(box.lower)) / 12**0.5
    fields = None if design.endswith("pressure") else case.scored
    for seed in range(sets):
        generator = torch.Generator().manual_seed(500 + seed)
        x = places(case.family.domain, design, generator)
        z, w, y = data(case, x, generator)
        start = time.process_time()
        found = amortised_posterior(model, x, y, w, generator, fields)
        seconds.append(time.process_time() - start)
        finite.append(torch.isfinite(found.mean) & torch.isfinite(found.std))
        inside.append((z >= found.low) & (z <= found.high))
        spread.append(found.std / prior_std)
        errors.append((found.mean - z).square().sum() / z.square().sum())
    return {
        "finite": float(torch.cat(finite).double().mean()),
        "coverage of 90 % intervals": float(torch.cat(inside).double().mean()),
        "sd over prior sd, median": float(torch.cat(spread).median()),
        "NSE of z, mean": float(torch.stack(errors).mean()),
        "CPU s, median": float(torch.tensor(seconds).median()),
    }
