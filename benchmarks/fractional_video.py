"""Latent equations learned from videos of a bouncing ball: fractional noise with a learned H against Brownian motion.

    python benchmarks/fractional_video.py [--quick] [--noise NAME] [--seeds 0 1 2] [--latents 2] [--json PATH]

Same networks, data, steps and seeds for both; only the noise differs. `elbo` is the evidence lower bound of a new noisy
video, less the mean log density of the errors of its pixels: 0 would be a video known for certain.
Times are processor seconds of one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch

import sciprob
from sciprob.solvers.fbm_vi.video_solver import FractionalVideo

_DIAGNOSED = ("elbo", "elbo_error", "divergence", "hurst")


def entropy(problem: sciprob.Problem) -> float:
    """Mean log density of the errors of a whole video."""
    std = float(problem.likelihood.noise.std)
    return -problem.parameter.size * (math.log(2 * math.pi * std**2) + 1) / 2


def run(noise: str, seed: int, latents: int, steps: int | None) -> dict[str, Any]:
    """One training from scratch, and its figures."""
    problem = sciprob.load_problem("bouncing-ball")
    options = {} if steps is None else {"training_steps": steps, "validation": 2}
    start = time.process_time()
    posterior = sciprob.solve(
        problem, FractionalVideo(noise=noise, latents=latents, **options), seed=seed, progress=False
    )
    figures = posterior.meta["diagnostics"]
    found = {key: figures[key] for key in _DIAGNOSED}
    found["elbo"] -= entropy(problem)
    found |= {"psnr_seen": posterior.meta["psnr_seen"], "psnr_ahead": posterior.meta["psnr_ahead"]}
    found |= {"coverage_90": posterior.meta["coverage"]["0.9"], "time": time.process_time() - start}
    return {"noise": noise, "seed": seed, "latents": latents, "steps": figures["training_steps"]} | found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="20 steps of training")
    parser.add_argument("--noise", choices=("fractional", "brownian"), help="only this one")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--latents", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    print(f"torch {torch.__version__} with {torch.get_num_threads()} threads")
    rows = []
    for noise in (options.noise,) if options.noise else ("fractional", "brownian"):
        found = []
        for seed in options.seeds:
            found.append(run(noise, seed, options.latents, 20 if options.quick else None))
            shown = "  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found[-1].items())
            print(shown, flush=True)
        for key in (*_DIAGNOSED, "psnr_seen", "psnr_ahead") if len(found) > 1 else ():
            values = torch.tensor([row[key] for row in found], dtype=torch.float64)
            print(f"{noise:12} {key:12} mean {float(values.mean()):.4g}, spread {float(values.std()):.2g}", flush=True)
        rows += found
    if options.json:
        versions = {"python": platform.python_version(), "torch": torch.__version__}
        options.json.write_text(json.dumps([row | {"versions": versions} for row in rows], indent=1))


if __name__ == "__main__":
    main()
