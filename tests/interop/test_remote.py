import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import sciprob
from sciprob.errors import ConfigError, ConvergenceError
from sciprob.interop import LogDensity, RemoteModel, remote_operator
from sciprob.operators.base import Capability
from sciprob.testing.checks import adjoint_defect

pytest.importorskip("umbridge")
SETTINGS = {"grid.inversion": 8, "grid.data": 8, "sensors.count": 9}


@pytest.fixture(scope="module")
def address():
    """A server in a process of its own, as a user would start it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "sciprob", "serve", "darcy-grid", "--port", str(port)]
    for key, value in SETTINGS.items():
        command += ["--set", f"{key}={value}"]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert server.poll() is None, server.stderr.read()
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.communicate(timeout=20)


@pytest.fixture(scope="module")
def problem():
    return sciprob.load_problem("darcy-grid", SETTINGS)


def test_values_and_both_derivatives_arrive_unchanged(address, problem):
    remote, local = remote_operator(address, requests=2), problem.operator
    assert {Capability.JVP, Capability.VJP} <= remote.capabilities
    m = problem.prior.sample((2,), generator=torch.Generator().manual_seed(0))
    flat, exact = m.flatten(1), local(m)
    assert torch.equal(remote(flat), torch.stack([local(x) for x in m]).flatten(1))  # text keeps every digit
    v = torch.ones_like(exact)
    torch.testing.assert_close(remote.vjp(flat, v.flatten(1))[1], local.vjp(m, v)[1].flatten(1), rtol=1e-9, atol=1e-12)
    assert adjoint_defect(remote, flat[0], flat[1], v.flatten(1)[0]) < 1e-10
    torch.testing.assert_close(remote.jvp(flat, flat)[1], local.jvp(m, m)[1].flatten(1), rtol=1e-9, atol=1e-12)


def test_the_posterior_is_served_in_white_coordinates(address, problem):
    density = LogDensity(problem)
    xi = density.start(1, torch.Generator().manual_seed(1))
    remote = RemoteModel(address, "posterior")
    value, gradient = density.value_and_gradient(xi)
    assert remote.solve(xi)[0, 0] == pytest.approx(value[0], rel=1e-12)
    np.testing.assert_allclose(remote.adjoint(xi, np.zeros((1, 1)), np.ones((1, 1))), gradient, rtol=1e-9, atol=1e-9)


def test_mistakes_are_named(address):
    with pytest.raises(ConfigError, match="has the models forward, posterior, not `heat`"):
        remote_operator(address, "heat")
    with pytest.raises(ConfigError, match="no UM-Bridge server answers"):
        remote_operator("http://127.0.0.1:9")


def test_a_failure_at_the_far_end_names_the_sample(address):
    model = RemoteModel(address, "forward")
    model.model.url = "http://127.0.0.1:9"
    with pytest.raises(ConvergenceError, match="failed at sample 0"):
        model.solve(np.zeros((1, model.domain.size)))
