"""Tomography: reading real scans, calibrating them, and both problems from file to posterior."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

import sciprob
from sciprob.errors import ConfigError, DataError, UnsupportedProblemError
from sciprob.io import htc
from sciprob.io.htc import fetch_scan, read_scan, read_segmentation
from sciprob.operators.xray import Ellipses, FanBeam
from sciprob.problems import htc_calibration as calibration
from sciprob.problems.registry import load_problem

REAL = Path(os.environ.get("SCIPROB_DATA") or Path(__file__).parents[3] / "shared" / "data" / "htc2022")
RADIUS, CENTRE = 34.85, (1.5, -0.8)


def hole_and_disc():
    parts = ([1.0, -1.0], [CENTRE, (6.0, 4.0)], [(RADIUS, RADIUS), (9.0, 5.0)], [0.0, 0.5])
    return Ellipses(*(torch.tensor(part, dtype=torch.float64) for part in parts))


def write_scan(path, *, views=181, limited=False, change=None, noise=0.008, gain=1.0, seed=0):
    """A synthetic scan in the challenge's format: exact lengths, the scanner's curve, photon noise."""
    degrees = np.arange(views) * (360 / (views - 1))
    geometry = FanBeam(torch.deg2rad(torch.from_numpy(degrees)), 560, 0.2, 410.66, 143.08)
    lengths = hole_and_disc().line_integrals(geometry.rays()).numpy()
    readings = np.polynomial.polynomial.polyval(gain * lengths, calibration.CURVE)
    readings += noise * np.exp(readings / 2) * np.random.default_rng(seed).standard_normal(readings.shape)
    parameters = {
        "distanceSourceOrigin": 410.66,
        "distanceSourceDetector": 553.74,
        "pixelSizePost": 0.2,
        "effectivePixelSizePost": 0.14832,
        "numDetectorsPost": 560,
        "angles": degrees,
    }
    content = {"sinogram": readings, "parameters": parameters}
    if change:
        change(content)
    scipy.io.savemat(path, {"CtDataLimited" if limited else "CtDataFull": content})
    return path


def write_segmentation(path, pixels=512):
    grid = sciprob.spaces.GridSpace(
        (pixels, pixels), dims=("y", "x"), lower=(-37.97,) * 2, upper=(37.97,) * 2, centring="cell"
    )
    image = hole_and_disc().image(grid, supersampling=1) > 0.5
    scipy.io.savemat(path, {"reconFullFbpSeg": image.flip(0).numpy()})


@pytest.mark.parametrize("limited", [False, True])
def test_a_scan_is_read_with_its_geometry(tmp_path, limited):
    scan = read_scan(write_scan(tmp_path / "scan.mat", views=19, limited=limited))
    assert scan.sinogram.shape == (19, 560)
    assert scan.angles[1] == pytest.approx(np.deg2rad(20))
    assert (scan.source_origin, scan.origin_detector) == pytest.approx((410.66, 143.08))
    assert scan.image_width == pytest.approx(512 * 0.14832)


def _nan(content):
    content["sinogram"][3, 7] = np.nan


def _drop_field(content):
    del content["parameters"]["pixelSizePost"]


def _drop_angle(content):
    content["parameters"]["angles"] = content["parameters"]["angles"][1:]


def _swap(content):
    content["parameters"]["distanceSourceOrigin"] = 900.0


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_nan, "view 3, bin 7"),
        (_drop_field, "pixelSizePost"),
        (_drop_angle, "18 angles and 19 views"),
        (_swap, "distanceSourceOrigin"),
    ],
)
def test_bad_scans_are_named_in_one_sentence(tmp_path, change, words):
    with pytest.raises(DataError, match=words) as caught:
        read_scan(write_scan(tmp_path / "scan.mat", views=19, change=change))
    assert "\n" not in str(caught.value)


def test_other_files_are_refused(tmp_path):
    scipy.io.savemat(tmp_path / "other.mat", {"x": np.ones(3)})
    with pytest.raises(DataError, match=r"CtDataFull.*\['x'\]"):
        read_scan(tmp_path / "other.mat")
    (tmp_path / "text.mat").write_text("no matlab file")
    with pytest.raises(DataError, match="MATLAB"):
        read_scan(tmp_path / "text.mat")
    with pytest.raises(ConfigError, match="published training scans"):
        fetch_scan("te")


def test_an_altered_file_in_the_cache_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("SCIPROB_DATA", str(tmp_path))
    (tmp_path / "htc2022_ta_full.mat").write_bytes(b"altered")
    with pytest.raises(DataError, match="sha256"):
        fetch_scan("ta")


@pytest.fixture
def record(tmp_path, monkeypatch):
    """A published record on this machine; an empty cache."""
    (tmp_path / "record").mkdir()
    write_scan(tmp_path / "record" / "htc2022_ta_full.mat", views=5)
    monkeypatch.setattr(htc, "_RECORD", (tmp_path / "record").as_uri() + "/htc2022_{scan}_full.mat")
    monkeypatch.setenv("SCIPROB_DATA", str(tmp_path / "cache"))
    return tmp_path / "record" / "htc2022_ta_full.mat"


def test_a_scan_is_fetched_checked_and_cached(record, monkeypatch):
    content = record.read_bytes()
    with pytest.raises(DataError, match="not the published scan"):
        fetch_scan("ta")
    monkeypatch.setitem(htc._SHA256, "ta", hashlib.sha256(content).hexdigest())
    path = fetch_scan("ta")
    assert path.read_bytes() == content
    assert list(path.parent.iterdir()) == [path]
    record.unlink()
    assert fetch_scan("ta") == path  # from the cache
    path.unlink()
    with pytest.raises(DataError, match="--data"):
        fetch_scan("ta")


def test_a_dim_source_shows_in_the_gain(tmp_path):
    scan = read_scan(write_scan(tmp_path / "scan.mat", gain=1.06))
    measured = calibration.calibrate(scan, 0.008, radius=RADIUS, model_error=0.0)
    assert measured.gain == pytest.approx(1.06, abs=0.01)


def test_readings_of_denser_material_are_refused(tmp_path):
    def thicken(content):
        content["sinogram"][2, 300] = 9.0

    scan = read_scan(write_scan(tmp_path / "scan.mat", views=19, change=thicken))
    with pytest.raises(DataError, match="view 2, bin 300"):
        calibration.calibrate(scan, 0.008, radius=RADIUS, model_error=0.0)


def test_a_range_may_pass_the_end_of_the_scan(tmp_path):
    path = write_scan(tmp_path / "scan.mat")
    problem = load_problem("tomography-htc2022", {"start_degrees": 300.0, "span_degrees": 120.0}, data=path)
    degrees = torch.rad2deg(problem.operator.codomain.coords["angle"])
    expected = torch.cat([torch.arange(300, 360, 2), torch.arange(0, 60, 2)]).double()
    torch.testing.assert_close(degrees, expected)  # 360 is the view 0 again and is left out


def test_the_calibration_recovers_lengths_centre_and_noise(tmp_path):
    scan = read_scan(write_scan(tmp_path / "scan.mat"))
    noise = calibration.reading_noise(scan.sinogram)
    measured = calibration.calibrate(scan, noise, radius=RADIUS, model_error=0.0)
    rays = FanBeam(scan.angles, 560, 0.2, scan.source_origin, scan.origin_detector).rays()
    exact = hole_and_disc().line_integrals(rays)
    assert measured.centre == pytest.approx(CENTRE, abs=0.03)
    assert noise == pytest.approx(0.008, rel=0.1)
    assert measured.gain == pytest.approx(1.0, abs=0.01)
    standardised = ((measured.lengths - exact) / measured.std)[exact > 5]
    assert float(standardised.std()) == pytest.approx(1.0, abs=0.1)


def test_a_synthetic_limited_scan_beats_the_classical_reconstructions(tmp_path):
    path = write_scan(tmp_path / "htc2022_s_full.mat")
    write_segmentation(tmp_path / "htc2022_s_full_recon_fbp_seg.mat")
    settings = {"span_degrees": 100.0, "pixels": 64, "bin_by": 8, "largest_views": 40}
    problem = load_problem("tomography-htc2022", settings, data=path)
    assert problem.observed.shape[0] <= 40
    solver = sciprob.solvers.Laplace(samples=16, draw_cg_steps=40)
    posterior = sciprob.solve(problem, solver, progress=False, out=tmp_path / "run")
    scores = posterior.meta
    assert scores["mcc"] > 0.95
    assert scores["mcc"] > scores["mcc_fbp"]
    assert scores["mcc"] > scores["mcc_least_squares"]
    assert scores["edge_error_unseen"] > 1.3 * scores["edge_error_seen"] > 0
    assert (tmp_path / "run" / "figures" / "reconstruction.png").is_file()
    again = sciprob.load_posterior(tmp_path / "run")
    torch.testing.assert_close(again.mean, posterior.mean)


def test_views_outside_the_scan_are_refused(tmp_path):
    path = write_scan(tmp_path / "scan.mat", views=19)
    with pytest.raises(DataError, match="start_degrees"):
        load_problem("tomography-htc2022", {"start_degrees": 500.0}, data=path)
    with pytest.raises(ConfigError, match="span_degrees"):
        load_problem("tomography-htc2022", {"span_degrees": -1.0}, data=path)


def test_the_segmentation_is_turned_to_rows_along_y(tmp_path):
    write_segmentation(tmp_path / "a_full_recon_fbp_seg.mat", pixels=64)
    image = read_segmentation(tmp_path / "a_limited.mat")
    assert not bool(image[int((4 + 37.97) / 75.94 * 64), int((6 + 37.97) / 75.94 * 64)])  # the hole
    assert bool(image[int((-10 + 37.97) / 75.94 * 64), 32])
    assert read_segmentation(tmp_path / "b.mat") is None


SMALL = {"pixels": 24, "scan.views": 12, "scan.bins": 34}


def test_the_phantom_is_solved_exactly_and_covers_its_truth():
    problem = load_problem("tomography-phantom", SMALL)
    posterior = sciprob.solve(problem, "gaussian", progress=False)
    assert posterior.meta["relative_error"] < 0.4
    assert posterior.meta["coverage"]["0.9"] > 0.8


def test_the_phantom_takes_photon_counts():
    problem = load_problem("tomography-phantom", SMALL | {"noise.kind": "transmission"})
    assert bool((problem.observed == problem.observed.round()).all())
    with pytest.raises(UnsupportedProblemError, match="Gaussian noise"):
        sciprob.solve(problem, "gaussian", progress=False)
    posterior = sciprob.solve(problem, "laplace", progress=False)
    assert posterior.meta["relative_error"] < 0.4


def test_the_data_are_exact_line_integrals_with_the_stated_noise():
    problem = load_problem("tomography-phantom", {"pixels": 64, "noise.std": 1e-6})
    difference = problem.operator(problem.truth) - problem.observed
    assert 1e-4 < float(difference.norm() / problem.observed.norm()) < 0.03  # the projector's own error
    other = problem.simulate(torch.Generator().manual_seed(5))
    assert not torch.equal(other.truth, problem.truth)


def test_the_phantom_reads_no_file(tmp_path):
    (tmp_path / "x.csv").write_text("x,y\n")
    with pytest.raises(ConfigError, match="tomography-htc2022"):
        load_problem("tomography-phantom", data=tmp_path / "x.csv")


@pytest.mark.skipif(not (REAL / "htc2022_ta_full.mat").is_file(), reason=f"the real scans are not in {REAL.name}")
def test_a_quarter_of_a_real_scan_beats_the_classical_reconstructions():
    settings = {"span_degrees": 90.0, "pixels": 128, "bin_by": 4, "largest_views": 60}
    problem = load_problem("tomography-htc2022", settings, data=REAL / "htc2022_ta_full.mat")
    solver = sciprob.solvers.Laplace(samples=8, draw_cg_steps=30, decrease=1e-3)
    scores = sciprob.solve(problem, solver, progress=False).meta
    assert scores["mcc"] > 0.93
    assert scores["mcc_fbp"] < 0.85
    assert scores["mcc_least_squares"] < 0.85
