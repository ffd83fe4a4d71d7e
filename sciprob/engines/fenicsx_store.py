"""A small store of factorisations: recent ones by parameter, and those that linearisations hold.

MPI has a limited number of communicators (2048 in MPICH), MUMPS takes five for every matrix, and
objects shared by several processes have to be destroyed by all of them at once. So storage is
reused, never left to the garbage collector, and its amount is bounded.
"""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sciprob.engines.fenicsx_linear import Factorisation
from sciprob.engines.fenicsx_mesh import fenics
from sciprob.spaces.mesh import Floats

_MOST_HELD = 32
_MOST_ALIVE = 200  # in this process, by all engines; beyond, every engine makes do with what it has
_ALIVE: weakref.WeakSet[Factorisation] = weakref.WeakSet()


@dataclass(eq=False)
class Slot:
    """What is kept at one parameter: factorised Jacobian, state, and dF/dm there."""

    factorisation: Factorisation
    state: Floats | None = None
    coupling: Any = None
    at_state: bool = False  # whether the factorised matrix is the Jacobian at the state
    holders: int = 0  # linearisations that use it, so that it must not be overwritten


class SlotStore:
    """Slots by key; the one not used for longest makes room for a new key.

    All methods but `get` are collective: every process calls them in the same order.

    Args:
        size: How many recent slots to keep.
        make: Builds a new, empty factorisation.
        comm: mpi4py communicator.
    """

    def __init__(self, size: int, make: Callable[[], Factorisation], comm: Any) -> None:
        self._size = max(1, size)
        self._make = make
        self._comm = comm
        self._recent: OrderedDict[bytes, Slot] = OrderedDict()
        self._spare: list[Slot] = []
        self._held: list[tuple[weakref.ref[Any], Slot]] = []

    def get(self, key: bytes) -> Slot | None:
        """The slot of a key, now the most recently used, or None."""
        if key in self._recent:
            self._recent.move_to_end(key)
        return self._recent.get(key)

    def put(self, key: bytes, slot: Slot) -> None:
        """Store a slot under a key."""
        self._recent[key] = slot

    def new(self) -> Slot:
        """An empty slot, in old storage where there is some."""
        self._reclaim()
        crowded = self._crowded()
        while len(self._recent) >= self._size or (crowded and self._recent and not self._spare):
            _, old = self._recent.popitem(last=False)
            self.give_back(old)
        if not self._spare:
            factorisation = self._make()
            _ALIVE.add(factorisation)
            return Slot(factorisation)
        slot = self._spare.pop()
        slot.state, slot.coupling, slot.at_state = None, None, False
        return slot

    def give_back(self, slot: Slot) -> None:
        """Take a slot that is in no use any more; one that is held waits for its holders."""
        if slot.holders or any(slot is other for other in self._recent.values()):
            return
        if len(self._spare) < self._size:
            self._spare.append(slot)
        else:
            slot.factorisation.destroy()

    def hold(self, slot: Slot, holder: object) -> bool:
        """Keep a slot as it is for as long as `holder` lives; False if too many are held already."""
        self._reclaim()
        if self._crowded() or len(self._held) >= _MOST_HELD:
            return False
        slot.holders += 1
        self._held.append((weakref.ref(holder), slot))
        return True

    def _crowded(self) -> bool:
        """Whether some process has as many factorisations as it should."""
        crowded = len(_ALIVE) >= _MOST_ALIVE
        return bool(self._comm.allreduce(crowded, op=fenics().MPI.LOR)) if self._comm.size > 1 else crowded

    def _reclaim(self) -> None:
        """Take back the slots whose holders are gone on every process."""
        if not self._held:
            return
        gone = np.array([holder() is None for holder, _ in self._held], dtype=np.int8)
        if self._comm.size > 1:
            self._comm.Allreduce(fenics().MPI.IN_PLACE, gone, op=fenics().MPI.MIN)
        released = [slot for (_, slot), free in zip(self._held, gone, strict=True) if free]
        self._held = [entry for entry, free in zip(self._held, gone, strict=True) if not free]
        for slot in released:
            slot.holders -= 1
            self.give_back(slot)
