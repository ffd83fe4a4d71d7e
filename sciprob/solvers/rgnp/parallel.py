"""What processes that train together tell each other; with one process, nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from lightning_fabric import Fabric


@dataclass(frozen=True)
class Processes:
    """Collectives of a launched Lightning Fabric, over samples that the processes share.

    All of them draw the same samples, and each works on its own part. The numbers are those of one process up to the
    order of sums.

    Args:
        fabric: After `launch()`; None for one process.
    """

    fabric: Fabric | None = None

    @property
    def count(self) -> int:
        """Number of processes."""
        return 1 if self.fabric is None else self.fabric.world_size

    def part(self, n: int) -> slice:
        """Which of n samples are this process's; the numbers of two processes differ by at most one."""
        if self.fabric is None:
            return slice(0, n)
        rank = self.fabric.global_rank
        return slice(rank * n // self.count, (rank + 1) * n // self.count)

    def gather(self, own: Tensor, n: int) -> Tensor:
        """All n rows in their order, from each process's `own (part, ...)`; no gradient passes.

        `n` counts samples, of which each may have several rows.
        """
        if self.fabric is None or self.count == 1:
            return own
        ends = [(rank + 1) * n // self.count for rank in range(self.count)]
        sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
        each = len(own) // sizes[self.fabric.global_rank]
        padded = own.new_zeros(each * max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        found = self.fabric.all_gather(padded)
        assert isinstance(found, Tensor)
        return torch.cat([part[: each * size] for part, size in zip(found, sizes, strict=True)])

    def sum(self, own: Tensor) -> Tensor:
        """The sum over processes."""
        if self.fabric is None or self.count == 1:
            return own
        found = self.fabric.all_reduce(own, reduce_op="sum")
        assert isinstance(found, Tensor)
        return found

    def gram(self, own: Tensor, n: int) -> Tensor:
        """J J^T, float64, of J with the rows `own (part, P)`: each process sums over its own part of the columns."""
        if self.fabric is None or self.count == 1:
            return (own @ own.mT).double()
        rows = self.gather(own, n)
        columns = rows[:, self.part(rows.shape[-1])]
        return self.sum((columns @ columns.mT).double())

    def agreed(self, value: Tensor) -> Tensor:
        """The value of the first process, so that rounding cannot lead the others elsewhere."""
        if self.fabric is None or self.count == 1:
            return value
        torch.distributed.broadcast(value, 0)
        return value


ALONE = Processes()
