"""An observation map as tensors and plain words, for the files of the amortised map it belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sciprob.config import from_mapping, to_mapping
from sciprob.errors import ConfigError
from sciprob.problems.family import ProblemFamily
from sciprob.solvers.rgnp.gicnet import GICShape
from sciprob.solvers.rgnp.observation_map import ObservationMap, ObservationSettings

_PREFIX = "inverse."


def pack_observation_map(model: ObservationMap) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Its tensors, under names that start with `inverse.`, and what it is built from."""
    inverse = model.inverse
    words = {"shape": to_mapping(inverse.network.shape), "rank": inverse.rank, "floor": inverse.floor}
    return {_PREFIX + name: tensor for name, tensor in model.state_dict().items()}, words


def unpack_observation_map(
    tensors: Mapping[str, Tensor], words: Mapping[str, Any], family: ProblemFamily, where: str
) -> ObservationMap:
    """The map again, on the device of its tensors, for the family it was trained on.

    Args:
        tensors: Those of `pack_observation_map`, others may be among them.
        words: Its words.
        family: Equation, domain, parameters.
        where: What to call the place of the words in messages.

    Raises:
        ConfigError: If the tensors do not fit family and words.
    """
    own = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items() if name.startswith(_PREFIX)}
    shape = from_mapping(GICShape, words["shape"], where)
    settings = ObservationSettings(shape=shape, rank=words["rank"], floor=words["floor"])
    model = ObservationMap(family, torch.ones(family.n_fields, dtype=torch.float64), settings, torch.Generator())
    try:
        model.load_state_dict(own)
    except RuntimeError as error:
        message = f"the inverse map of {where} does not fit the family `{family.name}`; load it with its own family."
        raise ConfigError(message) from error
    return model.requires_grad_(requires_grad=False)
