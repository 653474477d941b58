import numpy as np
import pandas as pd
import pytest

from kdaif.audit.checkpoint import Checkpoint
from kdaif.audit.detectors import DETECTORS, OURS
from kdaif.metrics.detection import auroc
from kdaif.runs import Run

SLOW = ("captum_tracincp", "captum_arnoldi")  # on a subset


def test_the_score_that_the_run_acted_on_comes_out_again(checkpoint: Checkpoint, done: Run):
    scores = pd.Series(-DETECTORS["last_kfac_t"](checkpoint))
    # the run compares classes at equal medians (torch's median: the lower of the middle two)
    lower = {"q": 0.5, "interpolation": "lower"}
    class_medians = scores.groupby(done.samples()["label"]).transform(lambda values: values.quantile(**lower))
    centred = scores - class_medians + scores.quantile(**lower)
    np.testing.assert_allclose(centred, done.epoch()["influence"], rtol=1e-3, atol=1e-3)


def test_the_networks_loss_is_the_recorded_one(checkpoint: Checkpoint):
    np.testing.assert_allclose(
        DETECTORS["network_loss"](checkpoint), checkpoint.recorded["teacher_loss"], rtol=1e-4, atol=1e-5
    )


def test_both_scopes_with_every_preconditioner_and_statistic():
    assert len(OURS) == 12
    assert {"last_identity_mean", "last_kfac_t", "all_whiten_t", "all_kfac_mean"} < set(OURS)


@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_scores_every_sample_or_the_subset(name: str, checkpoint: Checkpoint, done: Run):
    score = DETECTORS[name](checkpoint)
    assert score.shape == (len(checkpoint.train[0]),)
    scored = np.flatnonzero(np.isfinite(score))
    np.testing.assert_array_equal(scored, checkpoint.scored if name in SLOW else np.arange(len(score)))


@pytest.mark.parametrize("name", [name for name in DETECTORS if name not in SLOW])
def test_higher_is_more_harmful(name: str, checkpoint: Checkpoint, done: Run):
    assert auroc(DETECTORS[name](checkpoint), done.samples()["flipped"].to_numpy(bool)) > 0.55
