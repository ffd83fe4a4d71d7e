"""What `kronecker_gp.py` compares with: a physics-informed network with random Fourier features, from DeepXDE.

Inputs are sines and cosines of random frequencies on four scales, relative to the largest frequency that the
published Gaussian process is told as well (Wang, Wang, Perdikaris, CMAME 384, 2021). In 1-D the network sees
the nodes of the other methods, in 2-D 2000 random points, drawn anew every 50 steps. Equation and boundary are
scaled to order one; the boundary has weight 100.
"""

from __future__ import annotations

import contextlib
import io
import os
import time
from importlib.util import find_spec

import numpy as np
import torch
from _kronecker_cases import PI2, Case

PRESENT = find_spec("deepxde") is not None
SCALES = (0.05, 0.25, 0.5, 1.0)


def pinn(case: Case, seconds: float) -> tuple[np.ndarray, int]:
    """The solution on the test lines after that many processor seconds of Adam, and the number of steps."""
    os.environ.setdefault("DDE_BACKEND", "pytorch")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        import deepxde as dde

        dde.config.set_random_seed(0)
        model = dde.Model(_data(dde, case), _network(dde, case))
        model.compile("adam", lr=1e-3, loss_weights=[1.0] + [100.0] * len(model.data.bcs))
        callbacks = [_timer(dde, seconds)]
        if case.dims > 1:
            callbacks.append(dde.callbacks.PDEPointResampler(period=50))
        _, state = model.train(iterations=10**9, callbacks=callbacks, display_every=10**9, verbose=0)
        mesh = np.meshgrid(*case.test_lines(), indexing="ij")
        points = np.stack([axis.ravel() for axis in mesh], 1)
        u = np.concatenate([model.predict(block) for block in np.array_split(points, 1 + len(points) // 20000)])
    return u.reshape(mesh[0].shape).astype(float), state.iteration


def _timer(dde, seconds: float):
    class ProcessorTimer(dde.callbacks.Callback):
        def on_train_begin(self):
            self.start = time.process_time()

        def on_epoch_end(self):
            self.model.stop_training = time.process_time() - self.start > seconds

    return ProcessorTimer()


def _data(dde, case: Case):
    if case.dims == 1:
        geometry = dde.geometry.Interval(0, case.upper)
        nodes = np.linspace(0, case.upper, case.nodes)[1:-1, None]
        counts = {"num_domain": 0, "num_boundary": 2, "anchors": nodes}
    else:
        geometry = dde.geometry.Hypercube([0.0] * case.dims, [case.upper] * case.dims)
        counts = {"num_domain": 2000, "num_boundary": 800}
    lines = (np.linspace(0, case.upper, 200),) * case.dims
    scale = case.speed or float(np.sqrt(np.mean(case.source(*lines) ** 2)))

    def equation(x, u):
        if case.equation == "advection":
            return (dde.grad.jacobian(u, x, j=1) + case.speed * dde.grad.jacobian(u, x, j=0)) / scale
        total = sum(dde.grad.hessian(u, x, i=axis, j=axis) for axis in range(case.dims))
        if case.equation == "allen-cahn":
            total = total + u * (u**2 - 1)
        return (total - case.source_at(*x.detach().unbind(1))[:, None]) / scale

    def known(x, on_boundary):
        return on_boundary and (case.equation != "advection" or min(x) < 1e-12)

    def exact(x):
        return case.exact(*torch.as_tensor(x).unbind(1))[:, None].numpy()

    return dde.data.PDE(geometry, equation, dde.icbc.DirichletBC(geometry, exact, known), **counts)


def _network(dde, case: Case):
    generator = torch.Generator().manual_seed(0)
    frequencies = [PI2 * scale * case.largest * torch.randn(case.dims, 25, generator=generator) for scale in SCALES]
    matrix = torch.cat(frequencies, 1)
    network = dde.nn.FNN([2 * matrix.shape[1], 100, 100, 1], "tanh", "Glorot normal")

    def features(x):
        phase = x @ matrix
        return torch.cat([torch.sin(phase), torch.cos(phase)], 1)

    network.apply_feature_transform(features)
    return network
