"""Problems as PyMC models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sciprob.errors import require
from sciprob.interop.log_density import LogDensity

if TYPE_CHECKING:
    from sciprob.problems.problem import Problem


def to_pymc(problem: Problem) -> Any:
    """A `pymc.Model` with the white coordinates of a problem as its variable `xi`.

        xi ~ N(0, I),   potential `likelihood` = log p(y | W(xi)),   m = W(xi),

    so that PyMC's gradient-based methods (NUTS, ADVI, `find_MAP`) work on it, at one forward and one adjoint solve a
    gradient. Further variables and potentials can be added within `with model:`. `LogDensity(problem).unknown(xi)`
    maps draws to the unknown. The operation runs in this process: sample with `cores=1`.

    Args:
        problem: A problem with data whose prior is whitened.

    Raises:
        MissingExtraError: If PyMC is not installed.
        UnsupportedProblemError: If the prior has no whitening.
        DataError: If the problem has no data.
    """
    pymc = require("pymc", extra="compare", purpose="a PyMC model")
    from sciprob.interop.pytensor_op import LogLikelihoodOp

    density = LogDensity(problem)
    with pymc.Model() as model:
        xi = pymc.Normal("xi", shape=density.dimension)
        pymc.Potential("likelihood", LogLikelihoodOp(density)(xi)[0])
    return model
