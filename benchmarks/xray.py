"""X-ray projectors on the CPU (and GPU, where there is one): speed and accuracy beside ASTRA.

    python benchmarks/xray.py [--quick] [--json PATH]

One geometry for all: 256 x 256 pixels, 180 views, 363 bins, float32. A time is the best of several
runs that alternate between the methods, for the whole batch; ASTRA works on one image at a time and
in one thread, ours in torch's threads (OMP_NUM_THREADS=1 compares one with one). On the CPU ASTRA
has Joseph's kernel for parallel beams and the line kernel for fans.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sciprob.operators.xray import Ellipses, FanBeam, FilteredBackProjection, ParallelBeam, XrayTransform
from sciprob.operators.xray.geometry import BeamGeometry
from sciprob.spaces import GridSpace

try:
    import astra
except ImportError:
    astra = None

Actions = dict[str, Callable[[], Any]]


class AstraProjector:
    """ASTRA's CPU projector on the grid and geometry of a transform, image by image."""

    def __init__(self, transform: XrayTransform) -> None:
        beam, grid = transform.geometry, transform.domain
        (ny, nx), (y0, x0), (y1, x1) = grid.shape, grid.lower, grid.upper
        self.volume = astra.create_vol_geom(ny, nx, x0, x1, y0, y1)
        angles = beam.angles.numpy()
        if isinstance(beam, FanBeam):
            distances = (beam.source_origin, beam.origin_detector)
            self.views = astra.create_proj_geom("fanflat", beam.bin_width, beam.n_bins, angles, *distances)
        else:
            self.views = astra.create_proj_geom("parallel", beam.bin_width, beam.n_bins, angles)
        kernel = "line_fanflat" if isinstance(beam, FanBeam) else "linear"
        self.projector = astra.create_projector(kernel, self.views, self.volume)
        self.image = astra.data2d.create("-vol", self.volume)
        self.data = astra.data2d.create("-sino", self.views)
        self.forward_run = self._algorithm("FP", "VolumeDataId")
        self.backward_run = self._algorithm("BP", "ReconstructionDataId")

    def _algorithm(self, kind: str, image_key: str) -> int:
        config = astra.astra_dict(kind)
        config |= {"ProjectorId": self.projector, "ProjectionDataId": self.data, image_key: self.image}
        return astra.algorithm.create(config)

    def forward(self, images: np.ndarray) -> np.ndarray:
        """`(B, ny, nx)`, top row first, to `(B, n_angles, n_bins)`."""
        return self._run(images, self.image, self.forward_run, self.data)

    def backward(self, data: np.ndarray) -> np.ndarray:
        """The transpose of `forward`."""
        return self._run(data, self.data, self.backward_run, self.image)

    @staticmethod
    def _run(batch: np.ndarray, source: int, algorithm: int, target: int) -> np.ndarray:
        results = []
        for item in batch:
            astra.data2d.store(source, item)
            astra.algorithm.run(algorithm)
            results.append(astra.data2d.get(target))
        return np.stack(results)


def best_times(actions: Actions, repeats: int) -> dict[str, float]:
    """Shortest time of each action, the runs interleaved so that all meet the same machine."""
    best = dict.fromkeys(actions, math.inf)
    for round_ in range(repeats + 1):  # the first round warms up
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            seconds = time.perf_counter() - start
            if round_:
                best[name] = min(best[name], seconds)
    return best


def synchronised(function: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[], None]:
    """The call, waiting for the device."""

    def run() -> None:
        function(x)
        if x.is_cuda:
            torch.cuda.synchronize()

    return run


def geometries(n_views: int, n_bins: int) -> dict[str, BeamGeometry]:
    """Beams that cover the image [-1, 1]^2 from corner to corner."""
    half_turn = torch.arange(n_views, dtype=torch.float64) * math.pi / n_views
    parallel = ParallelBeam(half_turn, n_bins, 2 * 1.42 / n_bins)
    fan = FanBeam(2 * half_turn, n_bins, 2 * 2.6 / n_bins, 4.0, 2.0)
    return {"parallel": parallel, "fan": fan}


class Table:
    """Rows for the JSON file, printed as they come."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.versions = {"python": platform.python_version(), "torch": torch.__version__}
        self.versions["astra-toolbox"] = astra.__version__ if astra else "absent"
        threads = f"torch {torch.__version__} with {torch.get_num_threads()} threads"
        print(f"{threads}, astra-toolbox {self.versions['astra-toolbox']} with one")
        print(f"{'case':34} {'method':14} {'metric':28} {'value':>11} unit")

    def add(self, case: str, method: str, metric: str, value: float | None, unit: str, device: str = "cpu") -> None:
        """One figure; None where the peer is absent."""
        seconds = value if unit == "s" else None
        row = {"case": case, "method": method, "metric": metric, "value": value, "unit": unit, "seconds": seconds}
        self.rows.append(row | {"device": device, "threads": torch.get_num_threads(), "versions": self.versions})
        shown = "absent" if value is None else f"{value:.4g}"
        print(f"{case:34} {method:14} {metric:28} {shown:>11} {unit}" + (f"  [{device}]" if device != "cpu" else ""))


def bench_speed(table: Table, name: str, transform: XrayTransform, batches: list[int], repeats: int) -> None:
    """Forward and back projection, our batch against ASTRA's loop."""
    peer = AstraProjector(transform) if astra else None
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        m = torch.rand(batch, *transform.domain.shape, generator=generator)
        y = torch.rand(batch, *transform.codomain.shape, generator=generator)
        flipped, numbers = m.flip(-2).numpy().copy(), y.numpy()
        actions: Actions = {
            "sciprob forward": synchronised(transform, m),
            "sciprob back": synchronised(transform.T, y),
        }
        if peer:
            actions["astra forward"] = lambda peer=peer, x=flipped: peer.forward(x)
            actions["astra back"] = lambda peer=peer, x=numbers: peer.backward(x)
        best = best_times(actions, repeats)
        for direction in ("forward", "back"):
            case = f"{name}, {direction}, batch {batch}"
            ours, theirs = best[f"sciprob {direction}"], best.get(f"astra {direction}")
            table.add(case, "sciprob", "time for the batch", ours, "s")
            table.add(case, "astra-toolbox", "time for the batch", theirs, "s")
            table.add(case, "sciprob", "times as fast as astra", theirs / ours if theirs else None, "1")
        if torch.cuda.is_available():
            bench_cuda(table, name, transform, m, y, repeats)


def bench_cuda(table: Table, name: str, transform: XrayTransform, m: Tensor, y: Tensor, repeats: int) -> None:
    """The same products on the GPU."""
    actions = {"forward": synchronised(transform, m.cuda()), "back": synchronised(transform.T, y.cuda())}
    for direction, seconds in best_times(actions, repeats).items():
        case = f"{name}, {direction}, batch {len(m)}"
        table.add(case, "sciprob", "time for the batch", seconds, "s", torch.cuda.get_device_name())


def bench_accuracy(table: Table, name: str, transform: XrayTransform) -> None:
    """Distance of the projected Shepp-Logan head from its exact line integrals, and of FBP from the head."""
    phantom = Ellipses.shepp_logan()
    image, exact = phantom.image(transform.domain), phantom.line_integrals(transform.geometry.rays())

    def error(value: Tensor, truth: Tensor) -> float:
        return float((value.double() - truth).norm() / truth.norm())

    ours = transform(image.float())
    table.add(name, "sciprob", "projection error", error(ours, exact), "relative")
    theirs = None
    if astra:
        theirs = torch.from_numpy(AstraProjector(transform).forward(image.flip(0).float().numpy()[None].copy())[0])
    table.add(name, "astra-toolbox", "projection error", None if theirs is None else error(theirs, exact), "relative")
    difference = None if theirs is None else error(ours, theirs.double())
    table.add(name, "sciprob", "difference from astra", difference, "relative")
    back_projected = FilteredBackProjection(transform)(exact)
    table.add(name, "sciprob", "FBP error, exact data", error(back_projected, image), "relative")


def bench_build(table: Table, name: str, transform: XrayTransform) -> None:
    """Time and memory of the matrix and its transpose."""
    start = time.perf_counter()
    matrix, _ = transform.matrices(torch.float32)
    table.add(name, "sciprob", "build of both matrices", time.perf_counter() - start, "s")
    pointers = sum(matrix.shape) + 2
    table.add(
        name, "sciprob", "memory of both matrices", (2 * 8 * matrix.values().numel() + 4 * pointers) / 2**20, "MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="64 x 64 pixels, 45 views, few repeats")
    parser.add_argument("--json", type=Path, help="write the rows here")
    options = parser.parse_args()
    n, n_views, n_bins, repeats = (64, 45, 91, 3) if options.quick else (256, 180, 363, 15)
    table = Table()
    grid = GridSpace((n, n), dims=("y", "x"), lower=(-1.0, -1.0), upper=(1.0, 1.0), centring="cell")
    for kind, beam in geometries(n_views, n_bins).items():
        transform, name = XrayTransform(grid, beam), f"{kind} {n}^2 x {n_views}"
        bench_build(table, name, transform)
        bench_speed(table, name, transform, [1, 16], repeats)
        bench_accuracy(table, name, transform)
    if options.json:
        options.json.write_text(json.dumps(table.rows, indent=1))


if __name__ == "__main__":
    main()
