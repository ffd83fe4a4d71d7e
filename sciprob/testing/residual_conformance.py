"""A test suite for equations in strong form, to inherit from.

    class TestMyEquation(ResidualConformance):
        def make(self):
            return MyEquation(), {"viscosity": 0.1}

        def solution(self, x):                       # optional: an exact one, on coordinate jets
            return {"u": torch.exp(-x["t"]) * torch.sin(x["x"])}

Every inherited test is one promise of `sciprob.pde.PDE`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from sciprob.pde.coordinates import columns, coordinate_jets
from sciprob.pde.jet import Jet, Number
from sciprob.pde.linearise import linearised
from sciprob.pde.pde import PDE

Coefficient = Number | Callable[[Mapping[str, Jet]], Jet]
Setting = tuple[PDE, dict[str, Coefficient]]


class ResidualConformance:
    """Inherit, implement `make`, and pytest runs the contract against your equation.

    Attributes:
        bounds: Interval from which the coordinates of the points are drawn.
        tolerance: Largest residual of the exact solution, float64.
    """

    bounds: ClassVar[tuple[float, float]] = (0.1, 0.9)
    tolerance: ClassVar[float] = 1e-10

    def make(self) -> Setting:
        """The equation, and its parameters: numbers, or functions of the coordinate jets where they vary."""
        message = "`make` should return (equation, parameters)"
        raise NotImplementedError(message)

    def solution(self, x: Mapping[str, Jet]) -> Mapping[str, Jet] | None:
        """Fields of an exact solution, written on coordinate jets, or None."""
        return None

    def points(self, *batch: int, n: int = 7, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
        """Coordinates `(*batch, n)`, seeded."""
        pde, _ = self.make()
        low, high = self.bounds
        generator = torch.Generator().manual_seed(0)
        unit = torch.rand(*batch, n, len(pde.coordinates), generator=generator, dtype=torch.float64)
        return columns((low + (high - low) * unit).to(dtype), pde.coordinates)

    def fields(self, x: Mapping[str, Tensor], seed: int = 1) -> dict[str, Jet]:
        """Random jets with exactly the derivatives that the equation declares, and the value."""
        pde, _ = self.make()
        like = next(iter(x.values()))
        generator = torch.Generator().manual_seed(seed)
        return {
            field: Jet(
                {
                    name: torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)
                    for name in dict.fromkeys(("", *derivatives))
                }
            )
            for field, derivatives in pde.fields.items()
        }

    def parameters(self, x: Mapping[str, Tensor]) -> dict[str, Number | Jet]:
        """The parameters at points."""
        pde, given = self.make()
        jets = coordinate_jets(x, (*pde.derivatives, *pde.coordinates))
        return {name: value(jets) if callable(value) else value for name, value in given.items()}

    @pytest.mark.parametrize("batch", [(), (3,), (2, 3), (0,)])
    def test_batch_axes(self, batch: tuple[int, ...]) -> None:
        """Any leading axes; every residual is `(*batch, n)` and that of the sample alone."""
        pde, _ = self.make()
        x = self.points(*batch)
        u, p = self.fields(x), self.parameters(x)
        residuals = pde(x, u, p)
        assert tuple(residuals) == tuple(pde.equations)
        for name, residual in residuals.items():
            assert residual.shape == (*batch, 7)
            if len(batch) == 1 and batch[0]:
                last = pde(_at(x, -1), _jets_at(u, -1), _jets_at(p, -1))[name]
                assert torch.allclose(residual[-1], last, rtol=1e-13, atol=1e-13)

    def test_residuals_are_pointwise(self) -> None:
        """Points in another order give the residuals in that order."""
        pde, _ = self.make()
        x = self.points()
        u, p = self.fields(x), self.parameters(x)
        order = torch.tensor([3, 0, 6, 1, 5, 2, 4])
        turned = pde(_at(x, order), _jets_at(u, order), _jets_at(p, order))
        for name, residual in pde(x, u, p).items():
            assert torch.allclose(turned[name], residual[order], rtol=1e-13, atol=1e-13)

    def test_single_precision_stays_single(self) -> None:
        """Dtype follows the input."""
        pde, _ = self.make()
        x, single = self.points(), self.points(dtype=torch.float32)
        expected = pde(x, self.fields(x), self.parameters(x))
        for name, residual in pde(single, self.fields(single), self.parameters(single)).items():
            assert residual.dtype == torch.float32
            scale = 1 + expected[name].abs().max()
            assert (residual.double() - expected[name]).abs().max() < 1e-4 * scale

    def test_the_exact_solution_has_no_residual(self) -> None:
        """Zero for `solution`, and not for a multiple of it plus one, unless that solves the equation too."""
        pde, _ = self.make()
        x = self.points(n=50)
        u = self.solution(coordinate_jets(x, pde.derivatives))
        if u is None:
            pytest.skip("no exact solution is given")
        for name, residual in pde(x, u, self.parameters(x)).items():
            assert residual.abs().max() < self.tolerance, name

    def test_linear_part(self) -> None:
        """The remainder after linearisation falls with order two, or is zero, exactly if the equation is linear."""
        pde, _ = self.make()
        x = self.points()
        u, v, p = self.fields(x), self.fields(x, seed=2), self.parameters(x)
        value, terms = linearised(pde, x, u, p)
        remainders = []
        for h in (2.0**-6, 2.0**-7):
            moved = pde(x, {name: u[name] + h * v[name] for name in u}, p)
            total = 0.0
            for equation, by_field in terms.items():
                slope = [c * v[f][name] for f, inner in by_field.items() for name, c in inner.items()]
                change = moved[equation] - value[equation] - h * sum(slope)
                total += float(change.square().sum())
            remainders.append(total**0.5)
        if pde.linear:
            assert remainders[0] < 1e-11
        else:
            assert remainders[0] > 1e-9, "the equation is linear; say so by `linear = True`"
            assert 3.5 < remainders[0] / remainders[1] < 4.5


def _at(x: Mapping[str, Tensor], index: int | Tensor) -> dict[str, Tensor]:
    return {name: values[index] for name, values in x.items()}


def _jets_at(jets: Mapping[str, Any], index: int | Tensor) -> dict[str, Any]:
    """One sample or a choice of points of every jet; numbers as they are."""
    return {name: jet.map(lambda entry: entry[index]) if isinstance(jet, Jet) else jet for name, jet in jets.items()}
