"""States survive the disk exactly, and the NaN guard names what broke."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from sciprob.errors import ConfigError, NonFiniteError
from sciprob.random import Streams
from sciprob.solvers.checkpoint import load_checkpoint, save_checkpoint
from sciprob.solvers.state import check_finite, settle


@dataclass
class Inner:
    value: Any = None


@dataclass
class State:
    a: Any = None
    b: Any = None
    inner: Inner = field(default_factory=Inner)


class Solver:
    """Only its module matters."""


def round_trip(state: State, tmp_path: Path, streams: Streams | None = None) -> Any:
    path = tmp_path / "checkpoint" / "state.safetensors"
    save_checkpoint(path, state, streams or Streams(0), {"steps": 7, "seconds": 0.1})
    loaded, counters = load_checkpoint(path, Solver(), Streams(0))
    assert counters == {"steps": 7, "seconds": 0.1}
    return loaded


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64, torch.bool, torch.bfloat16])
def test_tensors_of_all_types_come_back(dtype: torch.dtype, tmp_path: Path) -> None:
    state = State(torch.randn(3, 4).to(dtype), torch.zeros((), dtype=dtype), Inner(torch.zeros(0, 2, dtype=dtype)))
    loaded = round_trip(state, tmp_path)
    for old, new in ((state.a, loaded.a), (state.b, loaded.b), (state.inner.value, loaded.inner.value)):
        assert new.dtype == old.dtype
        assert new.shape == old.shape
        assert torch.equal(new, old)


def test_complex_and_shared_and_strided_tensors(tmp_path: Path) -> None:
    x = torch.randn(4, 3, dtype=torch.float64)
    state = State(torch.complex(x, -x), [x, x.T, x[1:]], Inner({"same": x}))
    loaded = round_trip(state, tmp_path)
    assert torch.equal(loaded.a, state.a)
    assert all(torch.equal(new, old) for new, old in zip(loaded.b, state.b, strict=True))
    assert torch.equal(loaded.inner.value["same"], x)


def test_plain_values_come_back_with_their_types(tmp_path: Path) -> None:
    values = (1, True, None, "word", 0.1, [1, (2.5, "x")], {"k": [None]}, float("inf"), 10**30)
    loaded = round_trip(State(values, {}, Inner([])), tmp_path)
    assert loaded.a == values
    assert [type(v) for v in loaded.a] == [type(v) for v in values]
    assert loaded.b == {}
    assert loaded.inner.value == []


def test_streams_continue(tmp_path: Path) -> None:
    streams = Streams(5)
    torch.randn(3, generator=streams["a"])
    save_checkpoint(tmp_path / "c", State(), streams, {})
    expected = torch.randn(3, generator=streams["a"])
    fresh = Streams(5)
    load_checkpoint(tmp_path / "c", Solver(), fresh)
    assert torch.equal(torch.randn(3, generator=fresh["a"]), expected)


@pytest.mark.parametrize(
    ("state", "entry"),
    [(State(object()), "state.a"), (State([1, {2}]), r"state.b?a?\[1\]"), (State({1: 2}), "state.a")],
)
def test_what_is_not_plain_is_named(state: State, entry: str, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match=f"`{entry}` is a .* cannot be checkpointed"):
        save_checkpoint(tmp_path / "c", state, Streams(0), {})


def test_foreign_and_damaged_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c"
    save_checkpoint(path, State(), Streams(0), {})

    class Elsewhere:
        pass

    Elsewhere.__module__ = "dataclasses"
    with pytest.raises(ConfigError, match="state class `State` is not defined in dataclasses"):
        load_checkpoint(path, Elsewhere(), Streams(0))
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(ConfigError, match="not a readable checkpoint"):
        load_checkpoint(path, Solver(), Streams(0))


def test_what_a_killed_writer_left_is_cleared(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint" / "state.safetensors"
    left = path.parent / f".{path.name}.part" / ".tmpXYZ"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half a file")
    save_checkpoint(path, State(), Streams(0), {})
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_changed_state_class_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_checkpoint(tmp_path / "c", State(), Streams(0), {})
    changed = dataclasses.make_dataclass("State", [("a", Any), ("c", Any)])
    monkeypatch.setitem(globals(), "State", changed)
    with pytest.raises(ConfigError, match="`State` differs in b, c, inner"):
        load_checkpoint(tmp_path / "c", Solver(), Streams(0))


def test_settle_packs_views_and_keeps_packed_tensors() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    packed = torch.randn(2)
    state = State(x.T, [x[1:], packed], Inner((x[:, 0],)))
    settle(state)
    for tensor in (state.a, state.b[0], state.inner.value[0]):
        assert tensor.is_contiguous()
        assert tensor.storage_offset() == 0
        assert not tensor.requires_grad
    assert torch.equal(state.a, x.T)
    assert state.b[1].data_ptr() == packed.data_ptr()


def test_nan_guard_names_the_entry() -> None:
    check_finite(State(torch.tensor([1.0, torch.inf, -torch.inf]), 2.0), 1)
    bad = torch.zeros(2, 3)
    bad[1, 2] = torch.nan
    with pytest.raises(NonFiniteError, match=r"`state.inner.value.x` at \(1, 2\) became NaN in step 4"):
        check_finite(State(inner=Inner({"x": bad})), 4)
    with pytest.raises(NonFiniteError, match=r"`state.b\[1\]` became NaN in step 2"):
        check_finite(State(b=[1, float("nan")]), 2)
