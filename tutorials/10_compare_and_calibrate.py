# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Compare and calibrate
#
# Two questions about a posterior. Is it the right one for these data? Another method, slower and exact in the limit,
# answers that. Are its intervals honest, on average over all data that might have come? Simulation answers that.
#
# The example: a tracer leaves a lake, $y(t) = a e^{-b t}$, and both numbers are unknown.

# %%
import os

import torch

import sciprob
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import ForwardOperator
from sciprob.operators.linear import DenseMap
from sciprob.plot.ranks import ranks_figure
from sciprob.plot.style import CHAINS, TRUTH, dress, legend, new_figure
from sciprob.priors import GaussianPrior
from sciprob.solvers.baselines.laplace import Laplace
from sciprob.solvers.baselines.nuts import NUTS
from sciprob.solvers.baselines.pcn import PCN
from sciprob.spaces import Space
from sciprob.studies import calibrate
from sciprob.studies.comparison import compare

quick = "SCIPROB_SMOKE" in os.environ  # the tests take fewer draws and simulations


class Decay(ForwardOperator):
    """(log a, log b) -> a exp(-b t) at some times."""

    def __init__(self, times: torch.Tensor) -> None:
        numbers = Space((2,), name="log_number", dims=("number",))
        super().__init__(numbers, Space((len(times),), name="tracer", dims=("time",), coords={"time": times}))
        self.register_buffer("times", times)

    def _apply_batched(self, m):
        amount, rate = m.exp().unbind(-1)
        return amount[:, None] * torch.exp(-rate[:, None] * self.times.to(m))


def lake(times: list[float], noise: float) -> sciprob.Problem:
    """Readings at some times."""
    operator = Decay(torch.tensor(times, dtype=torch.float64))
    root = DenseMap(0.7 * torch.eye(2, dtype=torch.float64), Space((2,), name="xi"), operator.domain)
    prior = GaussianPrior(torch.zeros(2, dtype=torch.float64), root)
    likelihood = Likelihood(operator, GaussianNoise(operator.codomain, noise))
    return sciprob.Problem("lake", prior, likelihood).simulate(torch.Generator().manual_seed(8))


# %% [markdown]
# ## Compare
# Twenty readings fix both numbers, the model is nearly linear over the width of the posterior, and `laplace` is as good
# as the chains. One precise reading fixes a combination: whoever believes in more tracer must believe in faster decay.
# The posterior is a thin banana, which a Gaussian at its most probable point cannot be.

# %%
solvers = {"laplace": Laplace(), "pcn": PCN(samples=300, thin=5, burn_in=300, inflation=1.5)}
if not quick:
    solvers["nuts"] = NUTS()
easy = compare(lake([0.2 * i for i in range(1, 21)], 0.02), solvers, referee="pcn", progress=False)
hard = compare(lake([2.0], 0.02), solvers, referee="pcn", progress=False)
for name, comparison in (("twenty readings", easy), ("one reading", hard)):
    for row in comparison.rows:
        print(
            f"{name}, {row['solver']:8}: mean off by {row['mean_difference']:.2f} std, "
            f"std ratio {row['std_ratio']:.2f}, sliced Wasserstein {row['sliced_wasserstein']:.2f}"
        )

# %% [markdown]
# The row of the referee holds the distance of two sets of its own draws: nothing can be closer than that.

# %%
rows = {name: {row["solver"]: row for row in c.rows} for name, c in (("easy", easy), ("hard", hard))}
assert abs(rows["easy"]["laplace"]["std_ratio"] - 1) < 0.1
assert rows["easy"]["laplace"]["mean_difference"] < 0.2
assert rows["hard"]["laplace"]["sliced_wasserstein"] > 3 * rows["hard"]["pcn"]["sliced_wasserstein"]
assert hard.posteriors["pcn"].meta["diagnostics"]["rhat_max"] < 1.05

# %% [markdown]
# ## Calibrate
# Truths from the prior, data from the likelihood, a posterior for each, and the rank of the truth among its draws:
# if the method is right, every rank is equally likely. A problem whose exact posterior is cheap shows what a pass
# and what a fail looks like: a straight line with Gaussian prior, solved by `gaussian`.

# %%
times = torch.linspace(0.0, 1.0, 6, dtype=torch.float64)
matrix = torch.stack([torch.ones_like(times), times], 1)
numbers = Space((2,), name="number", dims=("number",))
line = DenseMap(matrix, numbers, Space((6,), name="reading", dims=("time",)))
prior = GaussianPrior(
    torch.zeros(2, dtype=torch.float64), DenseMap(torch.eye(2, dtype=torch.float64), numbers, numbers)
)


def line_with(assumed: float, real: float = 0.3) -> sciprob.Problem:
    """Readings have errors of `real`, and the problem is told `assumed`."""

    def simulator(generator: torch.Generator):
        truth = prior.sample(generator=generator)
        return truth, GaussianNoise(line.codomain, real).sample(line(truth), generator=generator)

    noise = GaussianNoise(line.codomain, assumed)
    problem = sciprob.Problem("line", prior, Likelihood(line, noise), simulator=simulator)
    return problem.simulate(torch.Generator().manual_seed(0))


count = 100 if quick else 200
tried = {assumed: calibrate(line_with(assumed), "gaussian", simulations=count, truths="simulator", progress=False)
         for assumed in (0.3, 0.15, 0.6)}  # fmt: skip
for assumed, result in tried.items():
    held = result.coverage(0.9)
    print(f"told {assumed}, true 0.3: {result.verdict}; 90 % intervals hold {held:.2f} of the truths")
assert tried[0.3].verdict.startswith("calibrated")
assert tried[0.15].verdict.startswith("over-confident")
assert tried[0.6].verdict.startswith("under-confident")

# %% [markdown]
# Now the bent one. Averaged over all data that its prior makes likely, is `laplace` honest for one precise reading?

# %%
bent = calibrate(lake([2.0], 0.02), "laplace", simulations=20 if quick else 300, progress=False)
print(f"laplace on one precise reading: {bent.verdict}")

# %% [markdown]
# The shape of a posterior may be wrong while its intervals hold as often as they say: comparison and calibration
# answer different questions, and few simulations see only large faults.

# %%
figure = new_figure(10.0, 7.0)
panels = figure.subplots(2, 2)
for axes, (title, comparison) in zip(panels[0], (("twenty readings", easy), ("one reading", hard)), strict=True):
    for colour, (name, posterior) in zip(CHAINS, comparison.posteriors.items(), strict=False):
        points = posterior.sample((300,), generator=torch.Generator().manual_seed(0))
        axes.scatter(*points.T, s=5, alpha=0.5, color=colour, label=name, linewidth=0)
    axes.plot(*comparison.problem.truth, "*", color=TRUTH, markersize=12, label="truth")
    dress(axes, title, "log a", "log b")
legend(panels[0, 1])
for axes, (assumed, result) in zip(panels[1], [(a, tried[a]) for a in (0.3, 0.15)], strict=True):
    ranks = torch.cat([r for n, r in result.ranks.items() if n.startswith("entry")])
    axes.hist(ranks.numpy(), bins=20, range=(0, result.draws), color=CHAINS[0], alpha=0.7)
    axes.axhline(len(ranks) / 20, color=TRUTH, linewidth=1)
    dress(axes, f"told {assumed}, true 0.3: {result.verdict.split(':')[0].split(',')[0]}", "rank of the truth", "count")
figure.savefig("compare_and_calibrate.png")
figure = ranks_figure(bent.ranks, bent.draws, "laplace on one precise reading")

# %% [markdown]
# ## What to try next
# - `sciprob compare darcy-sensors --solvers laplace,nuts --referee pcn --out comparison`, and open `report.html`.
# - `sciprob calibrate poisson-source --truths simulator`: tests the mesh as well as the method.
# - A prior that is too narrow, or a mean that is off: which ranks show it?
# - `calibrate` on your own problem before you believe its bands.
