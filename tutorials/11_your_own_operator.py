# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Your own operator
#
# A valley filled with light sediment pulls less than the rock around it. A gravimeter is carried across; how deep
# is the valley under the fields? The package has no such equation. This tutorial writes it, tests it, and hands it
# to the solvers.

# %%
import os

import torch

import sciprob
from sciprob.likelihoods import GaussianNoise, Likelihood
from sciprob.operators import ForwardOperator
from sciprob.operators.parameterise import Exp
from sciprob.plot.style import DATA, POSTERIOR, TRUTH, dress, legend, new_figure
from sciprob.priors import GridMatern, TransformedPrior
from sciprob.solvers.baselines.pcn import PCN
from sciprob.spaces import GridSpace, Space
from sciprob.testing import adjoint_defect, taylor_orders

quick = "SCIPROB_SMOKE" in os.environ  # the tests take shorter chains

# %% [markdown]
# ## The physics
# A sheet of sediment at the horizontal distance $r$, from the surface down to the depth $d$, changes the downward pull
# of a gravimeter at the height $h$ above it by $G \Delta\rho \log\frac{r^2 + (h + d)^2}{r^2 + h^2} dr$. Over a column
# the integral is known: with $F(r, a) = r \log(r^2 + a^2) + 2 a \arctan(r / a)$ it is the difference of
# $F(r, h + d) - F(r, h)$ between its sides. All columns are added up.
#
# One method on one batch axis. Everything in it is torch, so that derivatives follow.


# %%
class Valley(ForwardOperator):
    """Depth (km) -> gravity anomaly (mGal) at the stations.

    Args:
        grid: Columns of sediment along the profile, km.
        stations: Where is measured, km.
        contrast: Density of the sediment less that of the rock, kg/m^3.
        height: Of the gravimeter, km.
    """

    def __init__(self, grid: GridSpace, stations: torch.Tensor, contrast: float = -400.0, height: float = 0.05) -> None:
        anomaly = Space((len(stations),), "anomaly", ("station",), "mGal", coords={"station": stations})
        super().__init__(grid, anomaly)
        self.height = height
        self.scale = 6.674e-11 * contrast * 1e3 * 1e5  # km to m, m/s^2 to mGal
        edges = torch.linspace(grid.lower[0], grid.upper[0], grid.shape[0] + 1, dtype=torch.float64)
        self.register_buffer("r", edges - stations[:, None])

    def _apply_batched(self, m):  # (B, columns) -> (B, stations)
        r, height = self.r.to(m), torch.full_like(m, self.height)
        return self.scale * (self._columns(r, height + m) - self._columns(r, height)).sum(-1)

    @staticmethod
    def _columns(r, a):
        """F(r, a) between the sides of each column, `(B, stations, columns)`."""
        a, left, right = a[:, None, :], r[:, :-1], r[:, 1:]
        logarithms = right * torch.log(right**2 + a**2) - left * torch.log(left**2 + a**2)
        return logarithms + 2 * a * (torch.atan(right / a) - torch.atan(left / a))


def columns(count: int) -> GridSpace:
    """The profile, 20 km long."""
    return GridSpace((count,), "depth", ("x",), "km", lower=(0.0,), upper=(20.0,), centring="cell")


stations = torch.linspace(1.0, 19.0, 19, dtype=torch.float64)
grid = columns(60)
valley = Valley(grid, stations)

# %% [markdown]
# ## Test it
# A wide layer of constant depth must pull as an infinite slab does, $2 \pi G \Delta\rho d$. And derivatives: the
# adjoint by a dot product, the tangent by the order of the Taylor remainder, which is two if it is right.

# %%
wide = GridSpace((8,), "depth", ("x",), "km", lower=(-2000.0,), upper=(2000.0,), centring="cell")
slab = Valley(wide, torch.zeros(1, dtype=torch.float64))(torch.full((8,), 0.5, dtype=torch.float64)).item()
expected = 2 * torch.pi * 6.674e-11 * -400 * 500 * 1e5
print(f"slab of 500 m: {slab:.3f} mGal, in the limit {expected:.3f}")
assert abs(slab / expected - 1) < 2e-4  # what lies beyond 2000 km

generator = torch.Generator().manual_seed(0)
depth = 0.5 + torch.rand(60, generator=generator, dtype=torch.float64)
direction, back = (torch.randn(n, generator=generator, dtype=torch.float64) for n in (60, 19))
print(f"adjoint off by {adjoint_defect(valley, depth, direction, back):.1e}")
assert adjoint_defect(valley, depth, direction, back) < 1e-13
assert all(abs(order - 2) < 0.05 for order in taylor_orders(valley, depth, direction))
assert valley(depth.expand(2, 3, 60)).shape == (2, 3, 19)  # any leading axes

# %% [markdown]
# `sciprob.testing.OperatorConformance` tests the whole contract under pytest: the page "Write an operator" shows it.

# %% [markdown]
# ## A problem of it
# A depth is positive, so its logarithm is the Gaussian field: about half a kilometre, within a factor of three
# either way, changing over some kilometres. The truth lives on columns a quarter as wide.


# %%
def prior_on(space: GridSpace) -> TransformedPrior:
    """Depth before the survey."""
    latent = GridMatern(space, std=0.6, length=3.0, smoothness=2.5, mean=-0.7)
    return TransformedPrior(latent, Exp(space, space))


fine = columns(240)


def survey(seed: int) -> tuple[sciprob.Problem, torch.Tensor]:
    """A problem with data from a valley of the prior, and that valley on narrow columns."""
    valley_there = prior_on(fine).sample(generator=torch.Generator().manual_seed(seed))
    noise = GaussianNoise(valley.codomain, 0.3)
    clean = Valley(fine, stations)(valley_there)
    data = noise.sample(clean, generator=torch.Generator().manual_seed(seed + 100))
    truth = valley_there.reshape(60, 4).mean(1)
    return sciprob.Problem("valley", prior_on(grid), Likelihood(valley, noise), data=data, truth=truth), valley_there


problem, truth = survey(11)

# %% [markdown]
# ## Every solver
# `laplace` uses the derivatives that torch found, `pcn` checks it by chains.

# %%
posterior = sciprob.solve(problem, "laplace", progress=False)
chains = PCN(samples=150, thin=4, burn_in=200) if quick else PCN(samples=1000)
referee = sciprob.solve(problem, chains, seed=1, progress=False)
low, high = posterior.interval(0.9)
distance = ((posterior.quantile(0.5) - referee.quantile(0.5)).abs() / referee.std).mean().item()
print(f"relative error {posterior.meta['relative_error']:.2f}")
print(f"laplace and pcn differ by {distance:.2f} standard deviations in the median")
assert posterior.meta["relative_error"] < 0.3
assert distance < 0.3
assert (low > 0).all()

# %% [markdown]
# Are the bands honest? One smooth valley lies inside them, or outside, for kilometres at a time, so that its share says
# little. Eight surveys say more (and `sciprob.studies.calibrate` says it with a test).

# %%
shares = [sciprob.solve(survey(seed)[0], "laplace", progress=False).meta["coverage"]["0.9"] for seed in range(8)]
print("90 % bands hold", *(f"{share:.2f}" for share in shares), f"of eight valleys, {sum(shares) / 8:.2f} on average")
assert sum(shares) / 8 > 0.75

# %% [markdown]
# ## What the survey decides
# A question is a function of the field, and draws answer it with its uncertainty: how deep is the deepest place,
# and how much sediment is there per metre of valley?

# %%
draws = posterior.sample((2000,), generator=torch.Generator().manual_seed(2))
before = problem.prior.sample((2000,), generator=torch.Generator().manual_seed(3))
area, area_before = (x.sum(1) * grid.spacing[0] for x in (draws, before))
true_area = problem.truth.sum() * grid.spacing[0]
print(f"deepest place {draws.max(1).values.mean():.2f} +- {draws.max(1).values.std():.2f} km, true {truth.max():.2f}")
print(f"cross-section {area.mean():.1f} +- {area.std():.1f} km^2, true {true_area:.1f}; before {area_before.std():.1f}")
assert area.std() < 0.3 * area_before.std()
assert (area.mean() - true_area).abs() < 4 * area.std()

# %%
figure = new_figure(8.0, 6.0)
above, under = figure.subplots(2, 1, sharex=True)
predicted = posterior.push(valley, generator=torch.Generator().manual_seed(4))
above.fill_between(stations, *predicted.interval(0.9), color=POSTERIOR, alpha=0.3, lw=0, label="posterior, 90 %")
above.errorbar(stations, problem.data, 0.3, fmt="o", ms=3, color=DATA, label="readings")
dress(above, "gravity anomaly", "", "mGal")
legend(above)
x = grid.axis(0)
under.fill_between(x, low, high, color=POSTERIOR, alpha=0.25, lw=0, label="laplace, 90 %")
under.plot(x, posterior.quantile(0.5), color=POSTERIOR, label="laplace, median")
under.plot(x, referee.quantile(0.5), ":", color=DATA, label="pcn, median")
under.plot(fine.axis(0), truth, "--", color=TRUTH, lw=1, label="truth")
under.invert_yaxis()
dress(under, "depth of the valley", "km", "km")
legend(under)
figure.savefig("valley.png")

# %% [markdown]
# ## What to try next
# - The contrast of density as a second unknown: a `ProductSpace`. Depth and contrast are hard to tell apart.
# - Rougher rock, `smoothness=0.5`: the pull at the surface blurs it, and bands get wide.
# - A kind for TOML files, so that `sciprob solve valley.toml --data survey.csv` works: the page "Write a problem".
# - A code that is not torch: `HostOperator` on the page "Write an operator".
