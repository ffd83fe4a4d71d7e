"""Real-scan and phantom problems with trained priors: from file to calibrated probabilities, bad input refused."""

import pytest
import torch
from test_tomography import write_scan, write_segmentation

import sciprob
from sciprob.cli import main
from sciprob.errors import ConfigError, DataError, SciprobError
from sciprob.operators.xray import Ellipses
from sciprob.posteriors import Ensemble
from sciprob.priors.diffusion.store import available_priors
from sciprob.problems.registry import load_problem
from sciprob.problems.tomography_report import material_probability
from sciprob.solvers.diffusion.split_gibbs import SplitGibbs

TRAINED = {file.name for file in available_priors()}
FEW = {"span_degrees": 60.0, "bin_by": 8, "largest_views": 10}  # 700 line integrals


def needs(name):
    return pytest.mark.skipif(name not in TRAINED, reason=f"the trained prior `{name}` is not among {sorted(TRAINED)}")


@pytest.fixture
def scan(tmp_path):
    write_segmentation(tmp_path / "htc2022_s_full_recon_fbp_seg.mat")
    return write_scan(tmp_path / "htc2022_s_full.mat")


@needs("holes")
def test_a_scan_of_sixty_degrees_is_segmented_with_probabilities(scan, tmp_path):
    problem = load_problem("tomography-htc2022-learned", FEW, data=scan)
    assert problem.parameter.shape == (128, 128)
    solver = SplitGibbs(chains=4, samples=2, burn_in=8, rho_max=3.0, decay=0.65, rho_min=0.2, prior_calls=3)
    posterior = sciprob.solve(problem, solver, progress=False, out=tmp_path / "run", device="cpu")
    scores = posterior.meta
    assert scores["mcc"] > 0.9
    assert scores["mcc"] > scores["mcc_fbp"]
    assert scores["brier"] < 0.05
    assert 0 <= scores["calibration_error"] < 0.05
    assert (tmp_path / "run" / "figures" / "probability.png").is_file()


@needs("holes")
@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pixels": 64}, r"\(128, 128\).*\(64, 64\)"),
        ({"prior.weights": "hole"}, "holes"),
        ({"prior.weights": ""}, "weights"),
    ],
)
def test_priors_that_do_not_fit_are_refused(scan, settings, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load_problem("tomography-htc2022-learned", FEW | settings, data=scan)
    assert "\n" not in str(caught.value)


@needs("holes")
def test_data_that_are_no_numbers_are_refused(scan):
    problem = load_problem("tomography-htc2022-learned", FEW, data=scan)
    broken = problem.observed.clone()
    broken[3, 5] = torch.nan
    with pytest.raises(DataError, match="finite"):
        problem.observe(broken)


def test_members_are_cut_after_they_are_interpolated():
    """Two half planes, some pixels apart, with weights 3 to 1: their edges keep their place within a pixel."""
    x = torch.arange(8, dtype=torch.float64).expand(8, 8)
    members = torch.stack([((x - edge) / 4 + 0.5).clamp(0, 1) for edge in (2.6, 4.4)])
    space = sciprob.spaces.Space((8, 8))
    posterior = Ensemble(space, members, torch.tensor([3.0, 1.0]).log())
    probability = material_probability(posterior, torch.zeros(64, 64, dtype=torch.bool))[20]
    place = (torch.arange(64, dtype=torch.float64) + 0.5) / 8 - 0.5  # of the fine pixels, in coarse ones
    expected = 0.75 * (place > 2.6) + 0.25 * (place > 4.4)
    torch.testing.assert_close(probability, expected.double())


@pytest.mark.parametrize("name", ["tomography-sparse", "tomography-limited"])
def test_phantoms_are_solved_from_the_command_line(name, capsys):
    plain = ["--set", "prior.kind=gaussian", "--set", "prior.weights="]
    small = ["--set", "pixels=24", "--set", "scan.views=6", "--set", "scan.bins=34"]
    assert main(["solve", name, "--solver", "gaussian", *plain, *small]) == 0
    assert "coverage" in capsys.readouterr().out


@needs("ellipses")
@pytest.mark.filterwarnings("ignore::sciprob.errors.SciprobWarning")  # eight particles lose their weights, and say so
def test_a_phantom_with_its_trained_prior(capsys):
    small = ["--set", "scan.views=6", "--set", "particles=8", "--set", "steps=12"]
    assert main(["solve", "tomography-sparse", *small]) == 0
    assert "relative error" in capsys.readouterr().out


def test_the_data_of_sparse_scans_are_exact_line_integrals():
    settings = {"prior.kind": "gaussian", "prior.weights": "", "noise.std": 1e-9, "seed": 3}
    problem = load_problem("tomography-sparse", settings)
    generator = sciprob.random.Streams(3)["problem"]
    from sciprob.problems.tomography_phantom import Phantom

    ellipses = Phantom().draw(generator)
    assert isinstance(ellipses, Ellipses)
    exact = ellipses.line_integrals(problem.operator.geometry.rays())
    torch.testing.assert_close(problem.observed, exact, atol=1e-7, rtol=0)


def test_noise_of_nothing_is_refused():
    plain = {"prior.kind": "gaussian", "prior.weights": ""}
    with pytest.raises(SciprobError, match="std"):
        load_problem("tomography-sparse", plain | {"noise.std": 0.0})
