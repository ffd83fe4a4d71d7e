"""The peer of `rgnp.py`: a physics-informed DeepONet of DeepXDE on the same families.

Branch: (z, w) in unit scale. Trunk: the point, scaled, with the same sines and cosines as the networks of this package.
Conditions are hard, by the same lift and distance; the residual is the same equation, on derivatives by
DeepXDE's fastest way (zero coordinate shift). Points and parameters are drawn once, as its data classes do.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import math
import os
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.pde import columns
from sciprob.pde.jet import Jet
from sciprob.problems.family import ProblemFamily

os.environ.setdefault("DDE_BACKEND", "pytorch")
try:
    import deepxde
except ImportError:
    deepxde = None

VERSION = importlib.metadata.version("deepxde") if deepxde else "absent"


class _Parameters(deepxde.data.function_spaces.FunctionSpace if deepxde else object):  # type: ignore[misc]
    """Parameters as "functions": at the sensors they are themselves in unit scale, elsewhere their row number."""

    def __init__(self, family: ProblemFamily, sensors: int) -> None:
        self.family, self.sensors = family, sensors
        self.z = self.w = torch.zeros(0)

    def random(self, size: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(1)
        self.z, self.w = self.family.unknown.sample(size, generator), self.family.known.sample(size, generator)
        return np.arange(size, dtype=np.float32)[:, None]

    def eval_one(self, feature: Any, x: Any) -> float:
        raise NotImplementedError

    def eval_batch(self, features: np.ndarray, xs: np.ndarray) -> np.ndarray:
        if len(xs) == self.sensors:
            return unit(self.family, self.z, self.w).numpy().astype(np.float32)
        return np.broadcast_to(features, (len(features), len(xs))).copy()


def unit(family: ProblemFamily, z: Tensor, w: Tensor) -> Tensor:
    """Both in unit scale, side by side."""
    return torch.cat([family.unknown.unit(z), family.known.unit(w)], dim=-1)


class DeepONet:
    """The trained operator.

    Args:
        family: What it learns.
        seconds: Processor seconds of training.
        functions: Parameter draws; `batch` of them per step.
        points: Collocation points.
        width: Width of both networks, four hidden layers each.
        harmonics: Sines and cosines per coordinate in the trunk.
    """

    def __init__(
        self,
        family: ProblemFamily,
        seconds: float,
        *,
        functions: int = 1000,
        batch: int = 50,
        points: int = 100,
        width: int = 64,
        harmonics: int = 4,
    ) -> None:
        deepxde.config.set_random_seed(0)
        self.family, self.harmonics = family, harmonics
        self.space = _Parameters(family, family.unknown.size + family.known.size)
        net = self._network(width)
        data = self._data(functions, batch, points)
        self.model = deepxde.zcs.Model(data, net)
        with contextlib.redirect_stdout(io.StringIO()):  # it prints what it does
            self.model.compile("adam", lr=1e-3)
            self._run(5, math.inf)  # the first steps import and compile
            start = time.process_time()
            self._run(20, math.inf)
            steps = max(50, int(20 * seconds / (time.process_time() - start)))
            self.model.compile("adam", lr=1e-3, decay=("step", max(1, steps // 6), 0.5))
            start = time.process_time()
            self._run(steps, start + seconds)
        self.seconds, self.steps = time.process_time() - start, self.model.train_state.step

    def _network(self, width: int) -> Any:
        family, hidden = self.family, [width] * 4
        d, fields = family.domain.dim * (1 + 2 * self.harmonics), family.n_fields
        net = deepxde.nn.DeepONetCartesianProd(
            [self.space.sensors, *hidden, width * fields],
            [d, *hidden, width],
            "tanh",
            "Glorot normal",
            num_outputs=fields,
            multi_output_strategy=None if fields == 1 else "split_branch",
        )
        net.apply_feature_transform(self._features)
        net.apply_output_transform(self._physical)
        return net

    def _data(self, functions: int, batch: int, points: int) -> Any:
        family = self.family
        anchors = family.domain.sample(points, torch.Generator().manual_seed(0)).numpy().astype(np.float32)
        lower, upper = list(family.domain.lower), list(family.domain.upper)
        geometry = deepxde.geometry.Hypercube(lower, upper)
        if len(lower) == 1:
            geometry = deepxde.geometry.Interval(lower[0], upper[0])
        pde = deepxde.data.PDE(geometry, self._residual, [], num_domain=0, anchors=anchors)
        self.points = torch.from_numpy(anchors)
        sensors = np.zeros((self.space.sensors, family.domain.dim), dtype=np.float32)
        return deepxde.zcs.PDEOperatorCartesianProd(pde, self.space, sensors, functions, batch_size=batch)

    def _features(self, x: Tensor) -> Tensor:
        scaled = self.family.domain.unit(x)
        angles = [math.pi / 2 * k * scaled for k in range(1, self.harmonics + 1)]
        return torch.cat([scaled, *map(torch.sin, angles), *map(torch.cos, angles)], dim=-1)

    def _physical(self, inputs: tuple[Tensor, Tensor], n: Tensor) -> Tensor:
        branch, x = inputs
        z, w = branch.split([self.family.unknown.size, self.family.known.size], dim=-1)
        z, w = self.family.unknown.from_unit(z), self.family.known.from_unit(w)
        lift, distance = self.family.lift_and_distance(x, z, w)
        return (lift + distance * n.reshape(lift.shape)).reshape(n.shape)

    def _residual(self, shifts: Any, u: Tensor, rows: Tensor) -> list[Tensor]:
        family, coordinates = self.family, self.family.pde.coordinates
        chosen = rows[:, 0].long()
        z, w = self.space.z[chosen].float(), self.space.w[chosen].float()
        jets = {}
        for i, (name, derivatives) in enumerate(family.pde.fields.items()):
            value = u if u.ndim == 2 else u[..., i]
            lazy = deepxde.zcs.LazyGrad(shifts, value)
            orders = {item: tuple(item.count(axis) for axis in coordinates) for item in derivatives}
            jets[name] = Jet({"": value, **{item: lazy.compute(order) for item, order in orders.items()}})
        found = family.residual_of(columns(self.points, coordinates), jets, family.parameters(z, w))
        weights = family.residual_weights(z, w)
        return [found[name] * weights[name] for name in family.equations]

    def _run(self, steps: int, deadline: float) -> None:
        class Stop(deepxde.callbacks.Callback):  # type: ignore[misc]
            def on_epoch_end(self) -> None:
                if time.process_time() > deadline:
                    self.model.stop_training = True

        self.model.train(iterations=steps, display_every=10**9, callbacks=[Stop()], verbose=0)

    def __call__(self, z: Tensor, w: Tensor, points: Tensor) -> Tensor:
        """The fields u `(cases, n, fields)` at points `(n, d)` for z and w `(cases, .)`."""
        branch = unit(self.family, z, w).numpy().astype(np.float32)
        found = torch.from_numpy(self.model.predict((branch, points.numpy().astype(np.float32)))).double()
        return found.reshape(len(z), len(points), self.family.n_fields)
