"""Models behind the UM-Bridge protocol as forward operators, and problems served by it.

UM-Bridge: Seelinger et al., JOSS 8(83), 4748, 2023. A model is a map of real vectors, reached by HTTP.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from sciprob.errors import ConfigError, ConvergenceError, MissingExtraError
from sciprob.operators.host import HostOperator
from sciprob.operators.host_protocols import Floats
from sciprob.problems.problem import Problem
from sciprob.spaces import Space


def remote_operator(url: str, model: str = "forward", *, requests: int = 1, **config: Any) -> HostOperator:
    """A model of an UM-Bridge server as a forward operator.

    Input and output vectors are laid end to end. The operator has the derivative actions that the server
    states; numbers travel as text, exactly.

    Args:
        url: Address of the server, `http://host:port`.
        model: Name of the model.
        requests: Samples of a batch that are sent at the same time; as many as the server can solve.
        config: Passed on to the model.

    Raises:
        MissingExtraError: If `umbridge` is not installed.
        ConfigError: If no server answers, or it has no such model.
    """
    return HostOperator(RemoteModel(url, model, requests=requests, config=config))


class RemoteModel:
    """The host solver of `remote_operator`.

    Args:
        url: Address of the server.
        model: Name of the model.
        requests: Samples sent at the same time.
        config: Passed on to the model.
    """

    def __init__(self, url: str, model: str, *, requests: int = 1, config: dict[str, Any] | None = None) -> None:
        client = _umbridge()
        try:
            offered = client.supported_models(url)
        except (OSError, ValueError) as error:
            message = f"no UM-Bridge server answers at {url}; start it, or check the address."
            raise ConfigError(message) from error
        if model not in offered:
            message = f"the server at {url} has the models {', '.join(offered)}, not `{model}`."
            raise ConfigError(message)
        self.model = client.HTTPModel(url, model)
        self.config = dict(config or {})
        self.requests = requests
        self._inputs = self.model.get_input_sizes(self.config)
        self._outputs = self.model.get_output_sizes(self.config)
        self.domain = Space((sum(self._inputs),), name="m")
        self.codomain = Space((sum(self._outputs),), name="y")
        # what the server lacks must be absent, since an operator offers what its solver has
        if self.model.supports_apply_jacobian():
            self.tangent = self._tangent
        if self.model.supports_gradient():
            self.adjoint = self._adjoint

    def solve(self, m: Floats) -> Floats:
        """Outputs for a batch of inputs."""
        return self._each(lambda i: np.concatenate(self.model(_parts(m[i], self._inputs), self.config)), len(m))

    def _tangent(self, m: Floats, u: Floats, dm: Floats) -> Floats:
        def row(i: int) -> Floats:
            parameters, directions = _parts(m[i], self._inputs), _parts(dm[i], self._inputs)
            blocks = [
                sum(np.asarray(self._jacobian(o, k, parameters, v)) for k, v in enumerate(directions))
                for o in range(len(self._outputs))
            ]
            return np.concatenate(blocks)

        return self._each(row, len(m))

    def _jacobian(self, output: int, entry: int, parameters: list[list[float]], vector: list[float]) -> Any:
        return self.model.apply_jacobian(output, entry, parameters, vector, self.config)

    def _adjoint(self, m: Floats, u: Floats, v: Floats) -> Floats:
        def row(i: int) -> Floats:
            parameters, weights = _parts(m[i], self._inputs), _parts(v[i], self._outputs)
            blocks = [
                sum(np.asarray(self.model.gradient(o, k, parameters, w, self.config)) for o, w in enumerate(weights))
                for k in range(len(self._inputs))
            ]
            return np.concatenate(blocks)

        return self._each(row, len(m))

    def _each(self, row: Any, count: int) -> Floats:
        def guarded(i: int) -> Floats:
            try:
                return np.asarray(row(i), dtype=np.float64)
            except Exception as error:  # the client raises bare exceptions
                message = f"the remote model `{self.model.name}` failed at sample {i}: {error}"
                raise ConvergenceError(message, sample=i) from error

        if self.requests == 1:
            return np.stack([guarded(i) for i in range(count)])
        with ThreadPoolExecutor(self.requests) as pool:
            return np.stack(list(pool.map(guarded, range(count))))


def serve(problem: Problem, port: int = 4242) -> None:
    """Serve a problem's operator (`forward`) and its log posterior density (`posterior`) by UM-Bridge, until stopped.

    `posterior` takes the white coordinates of the prior (`LogDensity`); it is there if problem and prior allow.

    Args:
        problem: The problem.
        port: Port to listen on.

    Raises:
        MissingExtraError: If `umbridge` is not installed.
    """
    umbridge = _umbridge()
    from sciprob.interop.served import models_of

    umbridge.serve_models(models_of(problem), port)


def _parts(vector: Floats, sizes: list[int]) -> list[list[float]]:
    return [part.tolist() for part in np.split(vector, np.cumsum(sizes)[:-1])]


def _umbridge() -> Any:
    try:
        import umbridge
    except ImportError as error:
        message = "remote models need umbridge; install it with `pip install 'sciprob[umbridge]'`."
        raise MissingExtraError(message) from error
    return umbridge
