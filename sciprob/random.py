"""Named random streams from one root seed."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


class Streams:
    """Independent `torch.Generator`s by name, all derived from one root seed.

    The seed of stream `name` is a hash of (seed, name), so what one stream draws never depends on
    which other streams exist or in which order they are asked for.

    Args:
        seed: Root seed, any integer.
        device: Device of the generators.
    """

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = int(seed)
        self.device = torch.device(device)
        self._generators: dict[str, torch.Generator] = {}

    def __getitem__(self, name: str) -> torch.Generator:
        if name not in self._generators:
            digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
            generator = torch.Generator(self.device)
            generator.manual_seed(int.from_bytes(digest[:8], "little") >> 1)
            self._generators[name] = generator
        return self._generators[name]

    def state_dict(self) -> dict[str, Tensor]:
        """States of all streams used so far, as byte tensors."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, states: dict[str, Tensor]) -> None:
        """Set the streams to saved states."""
        for name, state in states.items():
            self[name].set_state(state.cpu())


def randn(shape: tuple[int, ...], like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal tensor with the dtype and device of `like`, drawn on the generator's device."""
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
