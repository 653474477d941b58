import numpy as np
import pytest
from scipy.stats import spearmanr

from kdaif.audit.agreement import lds, lds_of_mean, summed, with_errors


def made_up(noise: float, subsets: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and losses of 6 validation samples that agree up to this much noise."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(size=(6, subsets))
    return predicted, -predicted + noise * rng.normal(size=predicted.shape)


def test_lds_is_spearman_a_validation_sample():
    predicted, losses = made_up(noise=1.0)
    expected = np.mean([spearmanr(p, -loss).statistic for p, loss in zip(predicted, losses)])
    assert lds(predicted, losses) == pytest.approx(expected, abs=1e-12)
    assert lds_of_mean(predicted, losses) == pytest.approx(spearmanr(predicted.mean(0), -losses.mean(0)).statistic)


def test_perfect_and_reversed_scores():
    predicted, losses = made_up(noise=0.0)
    assert lds(predicted, losses) == pytest.approx(1.0)
    assert lds(-predicted, losses) == pytest.approx(-1.0)


def test_a_score_that_says_nothing_has_lds_zero():
    _, losses = made_up(noise=0.0)
    assert lds(np.zeros_like(losses), losses) == 0.0


def test_summed_adds_the_scores_of_each_subset():
    scores = np.array([[1.0, 10.0, 100.0], [2.0, 20.0, 200.0]])
    members = np.array([[True, False, True], [False, False, False]])
    np.testing.assert_array_equal(summed(scores, members), [[101.0, 0.0], [202.0, 0.0]])


def test_lead_over_identity_of_the_same_scope():
    good, losses = made_up(noise=0.3)
    poor = good + 2 * np.random.default_rng(1).normal(size=good.shape)
    lines = with_errors({"last_identity": poor, "last_whiten": good, "captum_tracincp_fast": poor}, losses)
    line = lines["last_whiten"]
    assert line["lds_over_identity"] == pytest.approx(line["lds"] - lines["last_identity"]["lds"])
    assert line["lds_over_identity"] > 3 * line["lds_over_identity_error"] > 0
    for without in ("last_identity", "captum_tracincp_fast"):
        assert lines[without]["lds_over_identity"] is None
        assert lines[without]["lds_over_identity_error"] is None


def test_standard_error_is_that_of_new_subsets_and_validation_samples():
    drawn = [made_up(noise=1.0, seed=seed) for seed in range(60)]
    spread = np.std([lds(*pair) for pair in drawn])
    errors = [with_errors({"score": predicted}, losses)["score"]["lds_error"] for predicted, losses in drawn[:10]]
    assert 0.7 * spread < np.mean(errors) < 2 * spread  # two ways of sampling are added, so a little too large
