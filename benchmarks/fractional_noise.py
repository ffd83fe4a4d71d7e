"""Fractional noise: samplers, Hurst estimators, Markov approximation and exact inference.

    python benchmarks/fractional_noise.py [--quick] [--json PATH]

The peer of the sampler is the package fbm (one path per call). `published grid` is the fixed one of Daems et al.,
ICLR 2024, with gamma from 1/20 to 20; `times grid` is `rates_for_times`. All in float64.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sciprob.errors import MissingExtraError
from sciprob.io.package_series import package_series
from sciprob.sde import (
    AffineSDE,
    DensePathPosterior,
    MarkovPathPosterior,
    PathData,
    hurst_likelihood,
    hurst_quadratic_variations,
    hurst_whittle,
    markov_noise,
    published_rates,
    rates_for_hurst,
    rates_for_times,
    sample_fbm,
    sample_fgn,
    sample_gaussian,
)
from sciprob.sde.kalman import kalman_filter, smooth
from sciprob.sde.maximise import maximise
from sciprob.sde.parallel_kalman import parallel_filter, parallel_smooth
from sciprob.sde.states import affine_states, noise_of

try:
    import fbm
except ImportError:
    fbm = None

ASYMPTOTIC = {0.05: 0.255, 0.2: 0.479, 0.5: 0.621, 0.8: 0.665, 0.95: 0.675}  # sd of H times sqrt(n), unknown scale


class Table:
    """Rows for the JSON file, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.versions["fbm"] = "present" if fbm else "absent"
        print(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
        print(f"{'case':34} {'method':22} {'metric':24} {'value':>11} unit")

    def add(self, case: str, method: str, metric: str, value: float | None, unit: str = "1") -> None:
        """One figure; None where the peer is absent."""
        seconds = value if unit == "s" else None
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": "cpu", "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:34} {method:22} {metric:24} {shown:>11} {unit}", flush=True)


def best_time(action: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return min(times[1:])


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bench_sampling(table: Table, repeats: int) -> None:
    n, count = 1024, 32
    case, source = f"{count} paths of {n} steps, H = 0.3", generator(0)

    def ours() -> None:
        sample_fbm(n, 0.3, generator=source, shape=(count,), normalisation="unit")

    def theirs() -> None:
        for _ in range(count):
            fbm.FBM(n, 0.3, length=n, method="daviesharte").fbm()

    table.add(case, "sciprob circulant", "time", best_time(ours, repeats), "s")
    table.add(case, "fbm daviesharte", "time", best_time(theirs, repeats) if fbm else None, "s")


def bench_path_error(table: Table) -> None:
    for kind in ("I", "II"):
        for h in (0.1, 0.3, 0.7, 0.9):
            grids = {
                "published grid, K = 5": published_rates(5),
                "published grid, K = 20": published_rates(20),
                "rule, K = 10": rates_for_hurst(h, horizon=1.0, count=10, kind=kind),
                "times grid, 256 steps": rates_for_times(horizon=1.0, resolution=1 / 256, kind=kind),
            }
            for name, rates in grids.items():
                noise = markov_noise(h, rates, horizon=1.0, kind=kind, normalisation="unit")
                table.add(f"type {kind}, H = {h}", name, "relative path error", float(noise.path_error))


def bench_learned_index(table: Table, n: int) -> None:
    """Maximum of the evidence in H, scale and noise known, on paths of the exact process."""
    times = torch.arange(1, n + 1, dtype=torch.float64) / n
    grids = {
        "published grid, K = 5": published_rates(5),
        "times grid": rates_for_times(horizon=1.0, resolution=1 / n, kind="I"),
    }
    for h in (0.15, 0.3, 0.7, 0.9):
        path = sample_gaussian(AffineSDE(h).covariance(times, times), generator=generator(4))
        data = PathData(times, path + 0.02 * torch.randn(n, dtype=torch.float64, generator=generator(5)), 0.02)

        def exact(p: Tensor, data: PathData = data) -> Tensor:
            return DensePathPosterior(AffineSDE(p[..., 0]), data).log_evidence

        best, value = index_of(exact, h)
        table.add(f"learned from {n} values, H = {h}", "exact", "H", best)
        for name, rates in grids.items():

            def markov(p: Tensor, rates: Tensor = rates, data: PathData = data) -> Tensor:
                return MarkovPathPosterior(AffineSDE(p[..., 0]), data, rates).log_evidence

            found, evidence = index_of(markov, h)
            table.add(f"learned from {n} values, H = {h}", name, "H - exact H", found - best)
            table.add(f"learned from {n} values, H = {h}", name, "evidence lost", value - evidence, "nats")


def index_of(function: Callable[[Tensor], Tensor], start: float) -> tuple[float, float]:
    low, high = torch.tensor([0.02], dtype=torch.float64), torch.tensor([0.98], dtype=torch.float64)
    best, value, _ = maximise(function, torch.tensor([start], dtype=torch.float64), low, high, tolerance=1e-5)
    return float(best), float(value)


def bench_hurst(table: Table, n: int, count: int) -> None:
    for h, asymptotic in ASYMPTOTIC.items():
        x = sample_fgn(n, h, generator=generator(1), shape=(count,), normalisation="unit")
        for estimator in (hurst_likelihood, hurst_whittle, hurst_quadratic_variations):
            estimate = estimator(x, observed="increments")
            low, high = estimate.interval(0.9)
            valid = ~estimate.hurst.isnan()
            case, name = f"{count} series of {n}, H = {h}", estimator.__name__
            table.add(case, name, "bias", float(estimate.hurst[valid].mean()) - h)
            deviation = float(estimate.hurst[valid].std()) * math.sqrt(n)
            table.add(case, name, "sd over asymptotic sd", deviation / asymptotic)
            table.add(case, name, "coverage of 90 %", float(((low <= h) & (h <= high)).double().mean()))


def bench_coverage(table: Table, count: int) -> None:
    """Fractional Ornstein-Uhlenbeck from 0, theta = 1, 40 times, every fourth seen with error 0.05."""
    times = 2 * torch.arange(1, 41, dtype=torch.float64) / 40
    seen = torch.arange(3, 40, 4)
    for h in (0.1, 0.25, 0.7, 0.9):
        sde = AffineSDE(h, reversion=1.0)
        paths = sample_gaussian(sde.covariance(times, times), generator=generator(2), shape=(count,))
        error = torch.randn(count, len(seen), dtype=torch.float64, generator=generator(3))
        data = PathData(times[seen], paths[:, seen] + 0.05 * error, 0.05)
        grid = rates_for_times(horizon=2.0, resolution=0.05, kind="I")
        posteriors = {
            "exact": DensePathPosterior(sde, data),
            "times grid": MarkovPathPosterior(sde, data, grid),
            "published grid, K = 5": MarkovPathPosterior(sde, data, published_rates(5)),
        }
        for name, posterior in posteriors.items():
            mean, std = posterior.at(times)
            inside = ((paths - mean).abs() <= 1.6449 * std).double().mean()
            table.add(f"path bands, H = {h}, {count} paths", name, "coverage of 90 %", float(inside))


def bench_cost(table: Table, repeats: int, lengths: tuple[int, ...]) -> None:
    for n in lengths:
        times = torch.arange(1, n + 1, dtype=torch.float64) / n
        data, rates = PathData(times, times.sin(), 0.1), rates_for_times(horizon=1.0, resolution=1 / n, kind="I")
        dense = best_time(lambda data=data: DensePathPosterior(AffineSDE(0.3), data).log_evidence, repeats)
        markov = best_time(
            lambda data=data, r=rates: MarkovPathPosterior(AffineSDE(0.3), data, r).log_evidence, repeats
        )
        table.add(f"evidence of {n} values", "dense", "time", dense, "s")
        table.add(f"evidence of {n} values", f"Markov, K = {len(rates)}", "time", markov, "s")


def bench_scan(table: Table, repeats: int, lengths: tuple[int, ...]) -> None:
    """Filter and smoother of one path: step by step, and by associative scans."""
    for n in lengths:
        times = torch.arange(1, n + 1, dtype=torch.float64) / n
        rates = rates_for_times(horizon=1.0, resolution=1 / n, kind="I")
        sde = AffineSDE(0.3, reversion=1.0)
        model = affine_states(sde, noise_of(sde, rates, 1.0), times)
        values = times.sin()
        noise, seen = torch.full((n,), 0.01, dtype=torch.float64), list(range(n))

        def loop(model=model, values=values, noise=noise, seen=seen) -> None:
            smooth(model, kalman_filter(model, values, noise, seen))

        def scans(model=model, values=values, noise=noise, seen=seen) -> None:
            parallel_smooth(parallel_filter(model, values, noise, seen))

        case = f"filter and smoother, {n} values, {len(rates) + 1} states"
        table.add(case, "loop over time", "time", best_time(loop, repeats), "s")
        table.add(case, "associative scan", "time", best_time(scans, repeats), "s")


def bench_volatility(table: Table) -> None:
    """Rolling forecasts, 1 to 20 days ahead, of days after those that H and scale come from."""
    for name in ("sp500", "nasdaq"):
        try:
            x = package_series(name)[-4500:]
        except MissingExtraError:
            table.add(f"forecasts of {name} log volatility", "fractional", "coverage of 90 %", None)
            continue
        past, window, ahead = x[:2000], 250, 20
        estimate = hurst_likelihood(past, observed="levels", mean="zero")
        table.add(f"forecasts of {name} log volatility", "exact likelihood", "H", float(estimate.hurst))
        origins = range(2000, len(x) - ahead, 10)
        before, after = (torch.stack([x[o + a : o + b] for o in origins]) for a, b in ((-window, 0), (0, ahead)))
        level = before.mean(-1, keepdim=True)
        data = PathData(torch.arange(window, dtype=torch.float64), before - level, 1e-3)
        days = torch.arange(window, window + ahead, dtype=torch.float64)
        half = torch.tensor(0.5, dtype=torch.float64)
        for method, h, scale in (
            ("fractional", estimate.hurst, estimate.scale),
            ("Brownian", half, past.diff().std()),
        ):
            mean, std = DensePathPosterior(AffineSDE(h, scale=scale, initial_std=10.0), data).at(days)
            z = (after - mean - level) / std
            case = f"forecasts of {name} log volatility, {len(origins)} origins"
            table.add(case, method, "coverage of 90 %", float((z.abs() <= 1.6449).double().mean()))
            density = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
            score = std * (z * (2 * torch.special.ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
            table.add(case, method, "CRPS", float(score.mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="shorter series, fewer replicates")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    table, quick = Table(), options.quick
    bench_sampling(table, 2 if quick else 10)
    bench_path_error(table)
    bench_learned_index(table, 64 if quick else 256)
    bench_coverage(table, 100 if quick else 400)
    bench_cost(table, 2 if quick else 5, (256,) if quick else (256, 1024, 4096))
    bench_scan(table, 2 if quick else 5, (256,) if quick else (256, 1024, 4096))
    bench_volatility(table)
    bench_hurst(table, 128 if quick else 1024, 100 if quick else 400)
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
