"""Saved posteriors come back bit for bit, and damage is noticed."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.io.store import load_posterior, save_posterior
from sciprob.operators.linear import DenseMap, DiagonalMap, LinearMap
from sciprob.operators.low_rank import LowRankRoot
from sciprob.operators.parameterise import Bounded
from sciprob.posteriors import Ensemble, GaussianPosterior, SamplerPosterior, TransformedPosterior
from sciprob.spaces import GridSpace, Space
from sciprob.spaces.fe import FESpace
from sciprob.spaces.mesh import Mesh


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def square_mesh() -> Mesh:
    points = np.array([[0, 0], [1, 0], [1, 1], [0, 1], [0.5, 0.4]], dtype=float)
    cells = np.array([[0, 1, 4], [1, 2, 4], [2, 3, 4], [3, 0, 4]])
    return Mesh(points, cells, facets=np.array([[0, 1]]), facet_tags=np.array([7]), names={"bottom": (1, 7)})


SPACES = {
    "plain": Space((3, 2), "s", ("a", "b"), "K", {"a": torch.arange(3.0)}),
    "grid": GridSpace((3, 4), "image", ("y", "x"), "1/m", lower=(-1.0, 0.0), upper=(1.0, 2.0), centring="cell"),
    "p1": FESpace(square_mesh(), 1, name="log_conductivity"),
    "p2": FESpace(square_mesh(), 2, name="u", unit="m"),
}


def gaussian(space: Space) -> GaussianPosterior:
    prior_root = DenseMap(randn(space.size, 7, seed=1), domain=Space((7,)), codomain=space)
    vectors = torch.linalg.qr(randn(7, 3, seed=2))[0].T.contiguous()
    root = LowRankRoot(prior_root, vectors, torch.tensor([5.0, 1.0, 0.2], dtype=torch.float64))
    meta = {"seed": 0, "seconds": 0.1 + 0.2, "status": "CONVERGED", "coverage": {"0.9": 0.5}}
    return GaussianPosterior(space, mean=randn(*space.shape, seed=3), root=root, meta=meta)


def same_space(a: Space, b: Space) -> None:
    assert type(a) is type(b)
    assert (a.name, a.dims, a.unit, a.shape) == (b.name, b.dims, b.unit, b.shape)
    assert a == b
    assert list(a.coords) == list(b.coords)
    for name in a.coords:
        assert torch.equal(a.coords[name], b.coords[name])


def same_numbers(a, b) -> None:
    draws = [p.sample((2, 3), generator=torch.Generator().manual_seed(9)) for p in (a, b)]
    assert torch.equal(*draws)
    assert torch.equal(a.mean, b.mean)
    assert torch.equal(a.std, b.std)
    levels = torch.tensor([0.05, 0.6])
    assert torch.equal(a.quantile(levels), b.quantile(levels))
    assert a.meta == b.meta


@pytest.mark.parametrize("name", SPACES)
def test_gaussian_comes_back_bit_for_bit(name, tmp_path):
    posterior = gaussian(SPACES[name])
    loaded = load_posterior(save_posterior(posterior, tmp_path / "posterior"))
    assert isinstance(loaded, GaussianPosterior)
    same_space(loaded.space, posterior.space)
    same_numbers(loaded, posterior)
    same_numbers(load_posterior(tmp_path), posterior)  # a run folder
    if isinstance(posterior.space, FESpace):
        assert loaded.space.mesh.names == {"bottom": (1, 7)}
        points = torch.tensor([[0.3, 0.3]], dtype=torch.float64)
        assert torch.equal(loaded.at(points).std, posterior.at(points).std)


def test_the_other_classes(tmp_path):
    space = Space((4,))
    base = gaussian(space)
    draws = GaussianPosterior(space, mean=base.mean, draws=randn(9, 4), variance=torch.rand(4))
    chains = Ensemble(space, randn(12, 4).float(), chains=3)
    weighted = Ensemble(space, randn(12, 4), log_weights=randn(12))
    bounded = TransformedPosterior(base, Bounded(space, lower=-1.0, upper=3.0), Space((4,), "kappa"), {"seed": 4})
    for i, posterior in enumerate([draws, chains, weighted, bounded]):
        loaded = load_posterior(posterior.save(tmp_path / str(i)))
        assert type(loaded) is type(posterior)
        same_space(loaded.space, posterior.space)
        same_numbers(loaded, posterior)
    assert load_posterior(tmp_path / "1").chains == 3
    assert load_posterior(tmp_path / "1").mean.dtype == torch.float32


def test_sampler_is_saved_as_its_draws(tmp_path):
    posterior = SamplerPosterior(Space((2,)), lambda s, g: torch.randn(*s, 2, generator=g), 50, seed=3)
    loaded = load_posterior(posterior.save(tmp_path))
    assert isinstance(loaded, Ensemble)
    assert torch.equal(loaded.samples, posterior.stored.samples)
    assert "SamplerPosterior" in (tmp_path / "manifest.json").read_text()


def test_a_fresh_process_finds_the_roots(tmp_path):
    posterior = gaussian(Space((4,)))
    posterior.save(tmp_path)
    code = (
        "import sys, torch; from sciprob.io.store import load_posterior; p = load_posterior(sys.argv[1]);"
        "print(p.sample((), generator=torch.Generator().manual_seed(1)).numpy().tobytes().hex())"
    )
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True, env=env
    )
    drawn = posterior.sample((), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(torch.from_numpy(np.frombuffer(bytes.fromhex(out.stdout)).copy()), drawn)


def test_saving_again_replaces(tmp_path):
    gaussian(Space((4,))).save(tmp_path)
    second = Ensemble(Space((2,)), randn(5, 2))
    second.save(tmp_path)
    same_numbers(load_posterior(tmp_path), second)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]


def test_interrupted_writing_keeps_the_old_posterior(tmp_path, monkeypatch):
    first = gaussian(Space((4,)))
    first.save(tmp_path)
    import sciprob.io.store as store

    def fail(path, data):
        if path.suffix == ".json":
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr(store, "_replace", fail)
    with pytest.raises(KeyboardInterrupt):
        Ensemble(Space((2,)), randn(5, 2)).save(tmp_path)
    same_numbers(load_posterior(tmp_path), first)


def test_damage_is_one_sentence(tmp_path):
    with pytest.raises(DataError, match="no saved posterior"):
        load_posterior(tmp_path / "nothing")
    gaussian(Space((4,))).save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    tensors = tmp_path / manifest["tensors"]
    data = bytearray(tensors.read_bytes())
    data[-3] ^= 1
    tensors.write_bytes(data)
    with pytest.raises(DataError, match="damaged, its sha256"):
        load_posterior(tmp_path)
    tensors.unlink()
    with pytest.raises(DataError, match="lacks the tensor file"):
        load_posterior(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"version": 99}))
    with pytest.raises(DataError, match="format version 99"):
        load_posterior(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="not JSON"):
        load_posterior(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    with pytest.raises(DataError, match="does not describe a posterior"):
        load_posterior(tmp_path)


def test_what_cannot_be_saved_says_so(tmp_path):
    class Mine(LinearMap):
        def _apply_batched(self, m):
            return m

    space = Space((3,))
    with pytest.raises(UnsupportedProblemError, match="Mine cannot be saved"):
        GaussianPosterior(space, mean=randn(3), root=Mine(space, space)).save(tmp_path)
    ok = GaussianPosterior(space, mean=randn(3), root=DiagonalMap(torch.ones(3)), meta={"a": {"b": object()}})
    with pytest.raises(ConfigError, match=r"meta\.a\.b"):
        ok.save(tmp_path)
    assert not (tmp_path / "manifest.json").exists()


def test_unknown_kind_of_root(tmp_path):
    gaussian(Space((4,))).save(tmp_path)
    path = tmp_path / "manifest.json"
    path.write_text(path.read_text().replace("low-rank-root", "strange-root"))
    with pytest.raises(ConfigError, match="strange-root"):
        load_posterior(tmp_path)
