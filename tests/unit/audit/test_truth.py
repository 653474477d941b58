from collections.abc import Iterator

import numpy as np
import pytest

from kdaif.audit import learners
from kdaif.audit.checkpoint import Case, Checkpoint
from kdaif.audit.detectors import DETECTORS
from kdaif.audit.learners import convex_bench, convex_pairs, student_bench, student_pairs
from kdaif.audit.truth import PAIRS, Bench, leave_one_out, linear_datamodelling, removal, score, whole
from tests.unit.audit.tiny import TINY


def silent(sentence: str) -> None:
    pass


@pytest.fixture(scope="module")
def convex(case: Case) -> Iterator[Bench]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learners, "PENALTY", 0.1)  # 150 samples alone would leave single ones too much weight
        yield convex_bench(case, 150)


@pytest.fixture(scope="module")
def scores(case: Case, convex: Bench) -> dict[str, np.ndarray]:
    pairs = convex_pairs(case, TINY)
    return score(convex, whole(convex, 1, silent), pairs, silent)


def test_training_the_convex_model_knows_no_chance(convex: Bench):
    everything = np.arange(150)
    one, other = (convex.losses(convex.learner(everything, seed)) for seed in (0, 1))
    np.testing.assert_array_equal(one, other)


def test_exact_influence_foretells_leaving_one_out(convex: Bench, scores: dict[str, np.ndarray]):
    correlations = leave_one_out(convex, scores, 15, silent)
    assert correlations["all_exact"] >= 0.99
    assert correlations["all_exact"] > correlations["all_identity"]


def test_lds_of_the_convex_model(convex: Bench, scores: dict[str, np.ndarray]):
    lines = linear_datamodelling(convex, scores, 12, 1, silent)
    assert lines["all_exact"]["lds"] > 0.7
    assert lines["all_exact"]["lds"] > lines["all_whiten"]["lds"] > lines["all_identity"]["lds"]


def test_removing_what_is_wrong_helps_and_removing_at_random_does_not(case: Case, convex: Bench):
    flipped = (convex.train[1] != _clean(case, convex)).double().numpy()
    share = flipped.mean()
    curves = removal(convex, {"known": flipped, "kept": -flipped}, [share], 2, silent)
    assert curves["shares"] == [0.0, share]
    before, after = curves["known"]["validation_loss"]
    assert after < before == curves["random"]["validation_loss"][0]
    assert after < curves["random"]["validation_loss"][1]
    assert curves["kept"]["test_accuracy"][1] < curves["known"]["test_accuracy"][1]
    assert curves["known"]["validation_loss_error"] == [0.0, 0.0]  # no chance, so no spread
    assert curves["random"]["validation_loss_error"][1] > 0


def test_one_training_has_no_standard_error(convex: Bench):
    curves = removal(convex, {}, [0.5], 1, silent)
    assert curves["random"]["test_accuracy_error"] == [None, None]


def test_the_students_training_is_decided_by_its_seed(case: Case):
    bench = student_bench(case, 60)
    one, same, other = (bench.losses(bench.learner(np.arange(60), seed)) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert not np.array_equal(one, other)


def test_pair_scores_average_to_the_scores_of_a_run(case: Case, checkpoint: Checkpoint):
    pairs = student_pairs(case, TINY)["last_as_in_run"](checkpoint.network, checkpoint.train, checkpoint.validation)
    expected = -DETECTORS["last_kfac_mean"](checkpoint)
    np.testing.assert_allclose(pairs.mean(0), expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max())


def test_networks_are_averaged(case: Case):
    bench = student_bench(case, 60)
    networks = whole(bench, 2, silent)
    pairs = {"last_identity": PAIRS["last_identity"]}
    each = [score(bench, [network], pairs, silent)["last_identity"] for network in networks]
    np.testing.assert_allclose(score(bench, networks, pairs, silent)["last_identity"], (each[0] + each[1]) / 2)


def _clean(case: Case, bench: Bench):
    """Clean labels of the bench's samples, which are a subset found by their pixels."""
    inputs, _ = case.pair(case.dataset.train)
    places = [int((inputs.double() - one).abs().flatten(1).sum(1).argmin()) for one in bench.train[0]]
    return case.dataset.train.clean[places]
