"""From relative to absolute uncertainty: a law of the standard deviation and a conformal factor, from few solves."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sciprob.errors import DataError

_TWO_SIGMA = 0.9545  # probability of |e| < 2 sd for a normal e
_FEWEST = 8  # reference solutions from which exponents are fitted
_STEEPEST, _STEP = 2.0, 0.05  # largest exponent of the shape, and how finely it is sought


@dataclass(frozen=True)
class ErrorScale:
    r"""Standard deviation by field, a power law of what is known without a reference.

        sd(x) = kappa S (X / S)^b (s(x) / S)^p / |(s / S)^p|,

    s(x) the Laplace standard deviation, |.| the root mean square over the domain, S = |s|, X the expected error of the
    member (`linearised_error`). So kappa X^b S^(1 - b) is the size of the deviation. b = 0 and p = 1 is one
    temperature for all members; b = 1 trusts the expected error; p says how much more errors change over the
    domain than s does. By default sd has the size X and the shape of s.

    All have one entry for each field, or one for all.

    Args:
        factors: kappa.
        correction: b, in [0, 1].
        shape: p, in [0, 2].
    """

    factors: tuple[float, ...] = (1.0,)
    correction: tuple[float, ...] = (1.0,)
    shape: tuple[float, ...] = (1.0,)

    def ratio(self, std: Tensor, domain: Tensor, expected: Tensor) -> Tensor:
        """The ratio sd / s `(*batch, n, fields)`; zero where s is.

        Args:
            std: s `(*batch, n, fields)`.
            domain: s at points that stand for the domain, `(*batch, m, fields)`.
            expected: X `(*batch, fields)`.
        """
        factors, b, p = (std.new_tensor(part) for part in (self.factors, self.correction, self.shape))
        typical = domain.square().mean(-2).sqrt()
        size = factors * (expected / typical) ** b / _shape_norm(domain / typical.unsqueeze(-2), p)
        relative = (std / typical.unsqueeze(-2)) ** (p - 1)
        return torch.where(std > 0, size.unsqueeze(-2) * relative, 0.0)

    @classmethod
    def fit(cls, errors: Tensor, std: Tensor, domain: Tensor, expected: Tensor) -> ErrorScale:
        """From errors against reference solutions, field by field.

        b is the slope of log rms error - log S over log X - log S, by least squares over members; p maximises the
        likelihood of e ~ N(0, sd^2). kappa is the geometric mean of the value that makes
        (e / sd)^2 one on average and that for which 95.45 % of all |e| are below 2 sd: they are equal for normal
        errors, and neither coverage nor spread is bought with the other where errors are not. With fewer than 8
        members kappa alone is fitted.

        Args:
            errors: e `(members, n, fields)`, reference minus mean.
            std: s, the same shape.
            domain: s at points that stand for the domain, `(members, m, fields)`.
            expected: X `(members, fields)`.

        Raises:
            DataError: If a field is prescribed at all points, or an error is not finite.
        """
        if not bool(torch.isfinite(errors).all()):
            message = "reference solutions should be finite, got NaN or infinity; check the reference solver."
            raise DataError(message)
        parts = [_fit_field(*(part[..., f] for part in (errors, std, domain, expected))) for f in range(std.shape[-1])]
        factors, b, p = zip(*parts, strict=True)
        return cls(factors, b, p)


def _fit_field(errors: Tensor, std: Tensor, domain: Tensor, expected: Tensor) -> tuple[float, float, float]:
    """The kappa, b and p of one field."""
    free = std > 0
    if not bool(free.any()):
        message = "calibration needs reference values at points where the field is not prescribed; got none."
        raise DataError(message)

    def scores(b: float, p: float) -> tuple[Tensor, Tensor]:
        law = ErrorScale(correction=(b,), shape=(p,))
        sd = std.unsqueeze(-1) * law.ratio(std.unsqueeze(-1), domain.unsqueeze(-1), expected.unsqueeze(-1))
        return (errors / sd[..., 0]).abs()[free], sd[..., 0][free]

    def loss(b: float, p: float) -> float:
        found, sd = scores(b, p)
        return float(found.square().mean().log() / 2 + sd.log().mean())

    b = p = 1.0
    if len(errors) >= _FEWEST:
        typical = domain.square().mean(-1).sqrt()
        rms = ((errors * free).square().sum(-1) / free.sum(-1)).sqrt().clamp_min(torch.finfo(std.dtype).tiny)
        b = _slope((expected / typical).log(), (rms / typical).log())
        p = min((i * _STEP for i in range(round(_STEEPEST / _STEP) + 1)), key=lambda p: loss(b, p))
    found, _ = scores(b, p)
    return factor_of(found), b, p


def factor_of(scores: Tensor) -> float:
    """The kappa for |e| / sd `(n,)`: between what makes their mean square one and what makes 95.45 % less than two."""
    return float((scores.square().mean().sqrt() * torch.quantile(scores, _TWO_SIGMA) / 2).sqrt())


def _shape_norm(relative: Tensor, p: Tensor) -> Tensor:
    """Root mean square of the p-th powers, over the last but one axis."""
    return (relative**p).square().mean(-2).sqrt()


def _slope(x: Tensor, y: Tensor) -> float:
    """Of the least-squares line, within [0, 1]; 1 where x is constant."""
    x, y = x - x.mean(), y - y.mean()
    square = float(x.square().sum())
    return min(max(float((x * y).sum()) / square, 0.0), 1.0) if square > 1e-12 * len(x) else 1.0


def field_scores(errors: Tensor, std: Tensor, level: float) -> Tensor:
    """By case the smallest c with |e| <= c sd for a share `level` of its entries, `(cases,)`.

    Args:
        errors: `(cases, n, fields)`.
        std: Calibrated standard deviations.
        level: In (0, 1).
    """
    return torch.stack([torch.quantile(_scores(e, s), level) for e, s in zip(errors, std, strict=True)])


def conformal_factor(scores: Tensor, confidence: float) -> float:
    """The ceil((k + 1) confidence)-th smallest of k scores.

    A new score is below it with a probability of at least `confidence`, if it is exchangeable with the
    k others, whatever their distribution.

    Args:
        scores: `(k,)`.
        confidence: In (0, 1).

    Raises:
        DataError: If k is too small for the confidence; names the smallest k.

    Source: Vovk, Gammerman, Shafer, Algorithmic Learning in a Random World, 2005.
    """
    rank = math.ceil(round((len(scores) + 1) * confidence, 9))  # 10 * 0.7 is 7, not 7.000000000000001
    if rank > len(scores):
        needed = math.ceil(round(confidence / (1 - confidence), 9))
        message = f"a confidence of {confidence:g} needs at least {needed} reference solutions, got {len(scores)}."
        raise DataError(message)
    return float(scores.sort().values[rank - 1])


def _scores(errors: Tensor, std: Tensor) -> Tensor:
    """|e| / sd where sd > 0, flat."""
    free = std > 0
    return (errors[free] / std[free]).abs()
