"""Errors and warnings: one tree under `SciprobError`, each also a built-in.

Every message is one sentence: what was expected, what came, what to do.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class SciprobError(Exception):
    """Base of all errors raised on purpose by the package."""


class ShapeError(SciprobError, ValueError):
    """A tensor does not fit the space it should live in."""


class ConfigError(SciprobError, ValueError):
    """A problem file, solver setting or command-line value is not valid."""


class DataError(SciprobError, ValueError):
    """A measurement file or data tensor is not usable; the message names the row or entry."""


class NonFiniteError(SciprobError, ArithmeticError):
    """A computation produced NaN or infinity."""


class UnsupportedProblemError(SciprobError, ValueError):
    """A method needs something that the problem, operator or space does not offer."""


class MissingExtraError(SciprobError, ImportError):
    """An optional dependency is not installed."""


class ConvergenceError(SciprobError, RuntimeError):
    """An iterative solve failed.

    Attributes:
        sample: Index of the failing sample in the flattened batch, or None.
        history: Residual norms of the iteration, possibly empty.
    """

    def __init__(self, message: str, *, sample: int | None = None, history: tuple[float, ...] = ()) -> None:
        super().__init__(message)
        self.sample = sample
        self.history = history


class SciprobWarning(UserWarning):
    """Base of all warnings of the package."""


class HostTransferWarning(SciprobWarning):
    """Tensors on an accelerator are copied to the host for a CPU engine."""


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which extra installs it.

    Raises:
        MissingExtraError: If the import fails.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"{purpose} needs `{module}`, which is not installed; run `pip install 'sciprob[{extra}]'`."
        raise MissingExtraError(message) from error
