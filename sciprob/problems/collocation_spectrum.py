r"""What source, boundary and initial data of an equation say about the spectrum of its solution.

For constant coefficients |u^(s)| = |f^(s)| / |symbol(s)|. Tones of the source along each axis are paired over the
axes and divided by the symbol of the mean operator. Tones of data on a side continue into the box along the zeros of
the symbol: (s, omega = -c s) for advection, the circle |s| = k / (2 pi) for Helmholtz' equation.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sciprob.pde.functionals import Functionals, TensorPoints
from sciprob.priors.kernels.spectrum import spectral_peaks
from sciprob.priors.kernels.tones import Samples

_SAMPLES = 16  # fewer show no spectrum
_SEPARATION = 0.6  # in 1 / L: closer tones are one, slower ones are trend

_ZERO = 0.02  # of the sum of moduli of the symbol's terms: below, waves pass
_STEPS = 64  # per 1 / L in the search for zeros


@dataclass
class Tones:
    """Power of the solution along one axis, by frequency in cycles per unit; frequency 0 is all that is slow.

    Args:
        length: L of the axis.
        step: Distance of its points.
    """

    length: float
    step: float
    power: dict[float, float] = field(default_factory=dict)

    def add(self, frequency: float, power: float) -> None:
        """Enter a tone; one near a known tone adds to it."""
        frequency = frequency if frequency >= _SEPARATION / self.length else 0.0
        known = [other for other in self.power if abs(other - frequency) < _SEPARATION / self.length]
        nearest = min(known, key=lambda other: abs(other - frequency), default=frequency)
        self.power[nearest] = self.power.get(nearest, 0.0) + power

    def merge(self, other: Tones) -> None:
        """Take over tones of another witness of the same solution: the stronger word counts, they do not add."""
        for frequency, power in other.power.items():
            known = [own for own in self.power if abs(own - frequency) < _SEPARATION / self.length]
            nearest = min(known, key=lambda own: abs(own - frequency), default=frequency)
            self.power[nearest] = max(self.power.get(nearest, 0.0), power)

    @property
    def total(self) -> float:
        """Sum of all power."""
        return sum(self.power.values())


@dataclass(frozen=True, eq=False)
class Symbol:
    """sum_a c_a prod_j (2 pi i s_j)^(a_j) of the mean coefficients c of some rows.

    Args:
        orders: `(terms, d)`.
        coefficients: `(terms,)`.
        width: What frequencies of a field on the box are uncertain by, 1 / (2 L) per axis, `(d,)`.
    """

    orders: Tensor
    coefficients: Tensor
    width: Tensor

    @classmethod
    def of(cls, rows: Functionals, axes: Sequence[Tones]) -> Symbol:
        """The symbol of rows."""
        like = rows.values
        orders = like.new_tensor([rows.orders(name) for name in rows.terms]).reshape(-1, len(axes))
        means = [coefficient.mean() for coefficient in rows.terms.values()]
        coefficients = torch.stack(means) if means else like.new_zeros(0)
        return cls(orders, coefficients, like.new_tensor([0.5 / axis.length for axis in axes]))

    def __call__(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """|symbol| and the sum of the moduli of its terms at frequencies `(n, d)`, `(n,)` each."""
        moduli = ((2 * math.pi * s[:, None, :]) ** self.orders).prod(-1)
        terms = self.coefficients * moduli * torch.exp(0.5j * math.pi * self.orders.sum(-1))
        return terms.sum(-1).abs(), terms.abs().sum(-1)

    def square(self, s: Tensor) -> float:
        """Square of |symbol| at one frequency `(d,)`, averaged over `width` around it, for the best of its signs.

        The average keeps resonances and the frequency 0 finite: -(pi / L)^2 is the Laplacian's first eigenvalue.
        """
        d = len(s)
        offsets = s.new_tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=d))) * self.width
        values = [self(offsets + s * sign)[0].square().mean() for sign in _signs(s)]
        return float(torch.stack(values).min())

    def zeros(self, s: Tensor, axis: int, axes: Sequence[Tones]) -> list[float]:
        """Frequencies along `axis` at which waves with the frequencies `s` along the other axes pass."""
        count = int(_STEPS * axes[axis].length * 0.5 / axes[axis].step)
        grid = torch.arange(count, device=s.device).to(s) / (_STEPS * axes[axis].length)
        found: list[float] = []
        for sign in _signs(s):
            points = (s * sign).expand(count, -1).clone()
            points[:, axis] = grid * sign[axis]
            size, terms = self(points)
            low = (size[1:-1] <= size[:-2]) & (size[1:-1] < size[2:]) & (size[1:-1] < _ZERO * terms[1:-1])
            found += grid[1:-1][low].tolist()
        return found


def tones_of_source(rows: Functionals, symbol: Symbol, axes: Sequence[Tones], count: int) -> None:
    """Enter what the source says; waves that the boundary adds to the particular solution too."""
    for s, power in _product_tones(rows, axes, count):
        if power == 0:
            continue
        solution = power / max(symbol.square(s), torch.finfo(torch.float64).tiny)
        for axis, tones in enumerate(axes):
            tones.add(float(s[axis]), solution)
            for zero in symbol.zeros(s, axis, axes):
                tones.add(zero, solution)


def tones_of_side(rows: Functionals, side: int, symbol: Symbol, axes: Sequence[Tones], count: int) -> None:
    """Enter what the data on a side of the box, normal to the axis `side`, say about all axes."""
    weights = Symbol.of(rows, axes)
    for s, power in _product_tones(rows, axes, count):
        solution = power / max(weights.square(s), torch.finfo(torch.float64).tiny)
        for axis, tones in enumerate(axes):
            for frequency in symbol.zeros(s, side, axes) if axis == side else [float(s[axis])]:
                tones.add(frequency, solution)


def _product_tones(rows: Functionals, axes: Sequence[Tones], count: int) -> Iterator[tuple[Tensor, float]]:
    """Frequencies `(d,)` and power of the products of tones that the values contain, trends among them."""
    values = rows.values
    d = len(rows.shape)
    values = values.reshape(-1, *rows.shape)
    if not values.numel():
        return
    assert isinstance(rows.points, TensorPoints)
    frequencies = [_peaks(values.movedim(i + 1, -1), axes[i].step, count) for i in range(d)]
    coefficients = values
    for i in range(d):
        coefficients = torch.tensordot(coefficients, _analysis(values, i + 1, axes[i].step, frequencies[i]), ([1], [1]))
    power = coefficients.square().mean(0)
    for i in range(d):
        power = torch.stack([part.sum(0) for part in _groups(power.movedim(i, 0), len(frequencies[i]))]).movedim(0, i)
    for index in itertools.product(*(range(n) for n in power.shape)):
        s = torch.stack([frequencies[i][k - 1] if k else values.new_zeros(()) for i, k in enumerate(index)])
        yield s, float(power[index])


def _peaks(rows: Tensor, step: float, count: int) -> Tensor:
    return spectral_peaks(rows, step, count=count).frequencies if rows.shape[-1] >= _SAMPLES else rows.new_zeros(0)


def _analysis(values: Tensor, axis: int, step: float, frequencies: Tensor) -> Tensor:
    """Matrix from values along an axis to coefficients of a trend, then of cosines and sines, `(trend + 2 k, n)`."""
    n = values.shape[axis]
    if n < _SAMPLES:  # the mean stands for the trend
        return values.new_full((1, n), 1 / n)
    samples = Samples(values.new_zeros(1, n), step)
    inverse: Tensor = torch.linalg.pinv(samples.basis(frequencies), rtol=1e-10)
    return inverse * samples.window


def _groups(power: Tensor, tones: int) -> list[Tensor]:
    """Rows of the trend, then pairs of cosine and sine."""
    trend = len(power) - 2 * tones
    cosines, sines = power[trend : trend + tones], power[trend + tones :]
    return [power[:trend], *(torch.stack(pair) for pair in zip(cosines, sines, strict=True))]


def _signs(s: Tensor) -> list[Tensor]:
    """Relative signs of the components: both senses of a product of standing waves."""
    choices = [(1.0,), *[(1.0, -1.0)] * (len(s) - 1)]
    return [s.new_tensor(sign) for sign in itertools.product(*choices)]
