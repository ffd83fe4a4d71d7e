"""Training as published: Adam on the evidence lower bound, with new grids in every step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from sciprob.errors import ConfigError
from sciprob.problems.family import ProblemFamily
from sciprob.random import Streams
from sciprob.solvers.checks import at_least
from sciprob.solvers.rgnp.elbo import Draw, FieldRecords, data_log_likelihood, evidence_bound
from sciprob.solvers.rgnp.forward_map import NeuralGP
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.inverse_map import InverseMap
from sciprob.solvers.rgnp.network import NetworkShape

_DECAYS = (0.9, 0.999)
_SMALL = 1e-8


@dataclass(frozen=True)
class VariationalSettings:
    """What the published training needs to know; the defaults are those of its Poisson example.

    Args:
        network: Forward network.
        gicnet: Inverse network.
        rank: Factors of the forward map; 0 is the "diag" variant.
        inverse_rank: Factors of the inverse map.
        floor: Smallest variance of the forward map.
        inverse_floor: Smallest variance of the inverse map.
        train_inverse: Whether an inverse map is trained along, on samples of the forward map.
        stop_gradient: Whether the inverse term leaves the forward map alone.
        batch: Parameter draws per step.
        points: Points of each grid.
        residual_noise: eps, the noise of the virtual observations; its first value where it is learnt.
        learn_noise: Whether eps is learnt, for each equation; its optimum is the root mean squared residual. The
            bound hardly changes when eps and the diagonal s grow together, so both drift up to where s ends, at 1.
        data_weight: Weight of one record's average log likelihood against the bound of one parameter draw. The
            published loss has the number of records here, which in effect switches the physics off.
        data_batch: Records per step.
        rate: First learning rate of Adam.
        halvings: Number of times the rate is halved, at equal distances.
        steps: Steps planned.

    Raises:
        ConfigError: If a number is out of range.
    """

    network: NetworkShape = field(default_factory=lambda: NetworkShape(width=64, depth=4, activation="silu"))
    gicnet: GICShape = field(default_factory=GICShape)
    rank: int = 2
    inverse_rank: int = 0
    floor: float = 1e-4
    inverse_floor: float = 1e-4
    train_inverse: bool = True
    stop_gradient: bool = False
    batch: int = 50
    points: int = 30
    residual_noise: float = 0.01
    learn_noise: bool = False
    data_weight: float = 1.0
    data_batch: int = 50
    rate: float = 1e-3
    halvings: int = 5
    steps: int = 20_000

    name: ClassVar[str] = "rgnp"

    def __post_init__(self) -> None:
        at_least(self, 1, "batch", "points", "data_batch", "steps")
        at_least(self, 0, "rank", "inverse_rank", "data_weight", "halvings")
        if not (self.residual_noise > 0 and self.rate > 0):
            message = f"residual noise and rate should be positive, got {self.residual_noise} and {self.rate}."
            raise ConfigError(message)


@dataclass
class VariationalState:
    """Weights of all networks, moments of Adam, steps made.

    Args:
        weights: By name, `field.*`, `inverse.*` and `raw_noise`, eps = softplus(raw_noise) by equation.
        first: Running means of the gradients.
        second: Running means of their squares.
        step: Steps made.
    """

    weights: dict[str, Tensor]
    first: dict[str, Tensor]
    second: dict[str, Tensor]
    step: int = 0


class Variational:
    """The published trainer: `state = init(streams)`, then `state, figures = step(state, streams)`.

    A step depends on nothing but its arguments, so that training can be stopped, saved and resumed.

    Args:
        family: Equation, domain, parameters, condition.
        settings: See there.
        device: Of networks and draws; that of the streams.

    Source: Vadeboncoeur et al., Random grid neural processes, ICML 2023.
    """

    def __init__(
        self, family: ProblemFamily, settings: VariationalSettings, device: torch.device | str = "cpu"
    ) -> None:
        self.family, self.settings, self.device = family, settings, torch.device(device)
        self._objective = self._build(torch.Generator())

    def init(self, streams: Streams) -> VariationalState:
        """Fresh weights, from the stream `weights`."""
        seed = int(torch.randint(2**62, (), generator=streams["weights"], device=streams.device))
        objective = self._build(torch.Generator().manual_seed(seed))
        weights = {name: value.detach() for name, value in objective.named_parameters()}
        first, second = ({name: torch.zeros_like(value) for name, value in weights.items()} for _ in range(2))
        return VariationalState(weights, first, second)

    def step(
        self, state: VariationalState, streams: Streams, records: FieldRecords | None = None
    ) -> tuple[VariationalState, Mapping[str, Tensor]]:
        """One step of Adam on -mean bound - `data_weight` x mean log likelihood of records, if there are any.

        Returns:
            The new state, and figures: `bound`, `residual` (root mean square), `eps`, `inverse` (mean log density
            of the true z in unit scale), `data` (mean log likelihood of a record).
        """
        s, generator = self.settings, streams["training"]
        draw = Draw.of(self.family, s.batch, s.points, s.rank, generator)
        batch = None if records is None else records.batch(s.data_batch, generator)
        weights = {name: value.detach().requires_grad_() for name, value in state.weights.items()}
        with torch.enable_grad():
            loss, figures = functional_call(self._objective, weights, (draw, batch))
            gradients = torch.autograd.grad(loss, list(weights.values()), allow_unused=True, materialize_grads=True)
        return self._adam(state, dict(zip(weights, gradients, strict=True))), figures

    def forward_map(self, state: VariationalState) -> NeuralGP:
        """The law of fields, with the state's weights."""
        return self._loaded(state).field

    def inverse_map(self, state: VariationalState) -> InverseMap:
        """The law of parameters, to be fed with values of the network-space field n = (u - B) / D.

        Raises:
            ConfigError: If none was trained.
        """
        inverse = self._loaded(state).inverse
        if inverse is None:
            message = "no inverse map was trained; set `train_inverse`, and give the family an unknown."
            raise ConfigError(message)
        return inverse

    def eps(self, state: VariationalState) -> Tensor:
        """Noise of the virtual observations `(equations,)`."""
        return nn.functional.softplus(state.weights["raw_noise"])

    def _build(self, generator: torch.Generator) -> _Objective:
        return _Objective(self.family, self.settings, generator).to(self.device)

    def _loaded(self, state: VariationalState) -> _Objective:
        objective = self._build(torch.Generator())
        objective.load_state_dict(dict(state.weights), strict=False)  # buffers follow from the settings
        return objective

    def _adam(self, state: VariationalState, gradients: Mapping[str, Tensor]) -> VariationalState:
        """The step with bias correction, at a rate that is halved in stairs."""
        s, step = self.settings, state.step + 1
        rate = s.rate * 0.5 ** (state.step * (s.halvings + 1) // s.steps)
        decay, square_decay = _DECAYS
        new = VariationalState({}, {}, {}, step)
        for name, g in gradients.items():
            new.first[name] = decay * state.first[name] + (1 - decay) * g
            new.second[name] = square_decay * state.second[name] + (1 - square_decay) * g.square()
            scale = (new.second[name] / (1 - square_decay**step)).sqrt() + _SMALL
            new.weights[name] = state.weights[name] - rate / (1 - decay**step) * new.first[name] / scale
        return new


class _Objective(nn.Module):
    """All networks and the residual noise; called, it gives the loss of a batch."""

    inverse: InverseMap | None

    def __init__(self, family: ProblemFamily, settings: VariationalSettings, generator: torch.Generator) -> None:
        super().__init__()
        s = self.settings = settings
        self.field = NeuralGP(family, s.rank, s.floor, s.network, generator)
        self.inverse = None
        if s.train_inverse and family.unknown.size:
            self.inverse = InverseMap(family, family.n_fields, s.inverse_rank, s.inverse_floor, s.gicnet, generator)
        eps = torch.full((len(family.equations),), s.residual_noise, dtype=torch.float64)
        self.raw_noise = nn.Parameter(eps.expm1().log())  # softplus of it is eps, positive whatever a step does

    def forward(self, draw: Draw, records: FieldRecords | None) -> tuple[Tensor, dict[str, Tensor]]:
        s = self.settings
        eps = nn.functional.softplus(self.raw_noise if s.learn_noise else self.raw_noise.detach())
        bound = evidence_bound(self.field, self.inverse, draw, eps, stop_gradient=s.stop_gradient)
        loss = -bound.total.mean()
        figures = {"bound": -loss.detach(), "residual": bound.squares.mean().sqrt(), "eps": eps.detach().mean()}
        if self.inverse is not None:
            figures["inverse"] = bound.inverse.detach().mean()
        if records is not None:
            likelihood = data_log_likelihood(self.field, records).mean()
            loss = loss - s.data_weight * likelihood
            figures["data"] = likelihood.detach()
        return loss, figures
