"""What each prior is trained with: family, network, training; settings may be changed by dotted keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sciprob.config import did_you_mean, from_mapping, override, to_mapping
from sciprob.errors import ConfigError
from sciprob.priors.diffusion.training import Training
from sciprob.priors.diffusion.unet import UNetShape
from sciprob.priors.families import make_family


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a trained prior, besides the seed.

    Args:
        family: The fields, a `Family`.
        network: The U-Net.
        training: Steps and noise levels.
        control_variate: Let the network learn what the Gaussian of the same mean and covariance leaves over.
        draws: Fields from which mean and covariance are estimated.
        low_modes: Cosine modes along each axis of bounded fields whose full covariance is estimated.
    """

    family: Any
    network: UNetShape
    training: Training
    control_variate: bool = False
    draws: int = 2048
    low_modes: int = 0

    @property
    def periodic(self) -> bool:
        """Whether the fields lie on a torus."""
        return bool(self.family.space.centring == "periodic")

    def table(self) -> dict[str, Any]:
        """As plain values; `recipe_from` builds an equal one."""
        return {
            "family": {"name": self.family.name, **to_mapping(self.family)},
            "network": to_mapping(self.network),
            "training": to_mapping(self.training),
            "control_variate": self.control_variate,
            "draws": self.draws,
            "low_modes": self.low_modes,
        }


_RECIPES: dict[str, dict[str, Any]] = {
    "holes": {
        "network": {"width": 64, "factors": [1, 2, 2, 2], "stem": 4, "coordinates": True},
        "training": {"steps": 24000, "noisings": 2, "batch": 16, "rate": 1.5e-3, "log_level": 0.2, "log_spread": 1.7},
        "low_modes": 20,
    },
    "ellipses": {
        "network": {"width": 32, "factors": [1, 2, 4], "stem": 2, "coordinates": True},
        "training": {"steps": 5000, "batch": 16, "noisings": 2, "log_level": -0.3, "log_spread": 1.6},
        "low_modes": 20,
    },
    "vorticity": {
        "network": {"width": 48, "factors": [1, 2, 2], "stem": 4, "padding": "circular", "coordinates": True},
        "training": {"steps": 5000, "batch": 16, "log_level": -0.8, "log_spread": 1.5},
        "control_variate": True,
    },
    "darcy": {
        "network": {"width": 48, "factors": [1, 2, 2], "stem": 4, "padding": "reflect"},
        "training": {"steps": 2000, "batch": 16, "log_level": 0.0, "log_spread": 1.6},
        "control_variate": True,
        "low_modes": 8,
    },
    "gaussian-field": {
        "network": {"width": 32, "factors": [1, 2, 2], "stem": 2, "padding": "circular"},
        "training": {"steps": 2000, "batch": 16, "log_level": -0.3, "log_spread": 1.6},
    },
}


def recipe_names() -> list[str]:
    """Names of all recipes."""
    return sorted(_RECIPES)


def make_recipe(name: str, overrides: Mapping[str, Any] | None = None) -> Recipe:
    """The recipe of a prior.

    Args:
        name: One of `recipe_names()`.
        overrides: Settings by dotted key, such as `training.steps` or `family.pixels`.

    Raises:
        ConfigError: For an unknown name, key or value; names the nearest valid one.
    """
    if name not in _RECIPES:
        message = f"there is no prior `{name}` to train; {did_you_mean(name, _RECIPES)}"
        raise ConfigError(message)
    table: dict[str, Any] = {"family": {"name": name}, **_RECIPES[name]}
    for key, value in (overrides or {}).items():
        table = override(table, key, value)
    return recipe_from(table, f"prior `{name}`")


def recipe_from(table: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of a table.

    Raises:
        ConfigError: For an unknown key or value.
    """
    table = dict(table)
    built = make_family(table.pop("family", {}), f"[family] of {where}")
    return from_mapping(Recipe, {**table, "family": built}, where)
