import pytest
import torch

import sciprob
from sciprob.interop import from_deepinv, to_deepinv
from sciprob.spaces import Space
from sciprob.testing import OperatorConformance

# deepinv imports much and warns while it does so
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def deepinv():
    return pytest.importorskip("deepinv")


@pytest.fixture(scope="module")
def radon():
    return sciprob.load_problem("tomography-phantom", {"pixels": 16, "scan.views": 9, "scan.bins": 24}).operator


def test_deepinv_computes_its_norm_and_its_proximal_step_with_our_map(deepinv, radon):
    physics, dense = to_deepinv(radon, noise_std=0.1), radon.to_dense()
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    y = physics.A(x)
    assert y.shape == (2, 1, *radon.codomain.shape)
    norm = float(physics.compute_sqnorm(x[:1], max_iter=200, tol=1e-10, verbose=False))
    assert norm == pytest.approx(float(torch.linalg.matrix_norm(dense, 2)) ** 2, rel=1e-4)
    step = physics.prox_l2(torch.zeros_like(x), y, 0.5)
    exact = torch.linalg.solve(dense.T @ dense + 2 * torch.eye(256, dtype=torch.float64), dense.T @ y.flatten(1).T)
    torch.testing.assert_close(step.flatten(1), exact.T, rtol=0, atol=2e-3)
    noise = physics(x) - y
    assert float(noise.std()) == pytest.approx(0.1, rel=0.1)


class TestInpaintingOfDeepinv(OperatorConformance):
    def make(self):
        deepinv = pytest.importorskip("deepinv")
        mask = (self.noise((1, 6, 5)) > -0.2).to(torch.float64)
        return from_deepinv(
            deepinv.physics.Inpainting((1, 6, 5), mask=mask).to(torch.float64), Space((6, 5))
        ), self.noise((6, 5))


def test_there_and_back_is_the_same_map(deepinv, radon):
    again = from_deepinv(to_deepinv(radon), radon.domain)
    m = torch.randn(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(again(m).flatten(2), radon(m).flatten(2), rtol=0, atol=1e-13)
    torch.testing.assert_close(again.T(again(m)), radon.T(radon(m)), rtol=0, atol=1e-12)
