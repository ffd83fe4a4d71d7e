"""Probabilistic scientific computing: prior x forward operator x likelihood -> posterior.

    import sciprob
    problem = sciprob.load_problem("darcy-sensors")
    posterior = sciprob.solve(problem, "laplace", seed=0)
    posterior.mean, posterior.std

Names are imported on first use, so that `import sciprob` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from sciprob.io.store import load_posterior
    from sciprob.problems.family import ProblemFamily
    from sciprob.problems.family_settings import load_family
    from sciprob.problems.problem import Problem
    from sciprob.problems.registry import load_problem
    from sciprob.solvers.driver import resume, solve
    from sciprob.solvers.fitting import fit, resume_fit
    from sciprob.solvers.rgnp.store import load_amortised

_HOMES = {
    "Problem": "sciprob.problems.problem",
    "ProblemFamily": "sciprob.problems.family",
    "fit": "sciprob.solvers.fitting",
    "load_amortised": "sciprob.solvers.rgnp.store",
    "load_family": "sciprob.problems.family_settings",
    "load_posterior": "sciprob.io.store",
    "load_problem": "sciprob.problems.registry",
    "resume": "sciprob.solvers.driver",
    "resume_fit": "sciprob.solvers.fitting",
    "solve": "sciprob.solvers.driver",
}
_PACKAGES = ("errors", "likelihoods", "metrics", "operators", "plot", "posteriors", "priors", "solvers", "spaces")

__all__ = [
    "Problem",
    "ProblemFamily",
    "__version__",
    "fit",
    "load_amortised",
    "load_family",
    "load_posterior",
    "load_problem",
    "resume",
    "resume_fit",
    "solve",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"sciprob.{name}")
    message = f"module 'sciprob' has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    return sorted({*__all__, *_PACKAGES})
