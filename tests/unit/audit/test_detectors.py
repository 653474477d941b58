from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from kdaif.audit.checkpoint import Case, Checkpoint, open_checkpoint
from kdaif.audit.detectors import DETECTORS, OURS
from kdaif.metrics.detection import auroc
from kdaif.runs import Run
from tests.unit.audit.tiny import TINY

ROUGH = ("captum_arnoldi",)  # of a Hessian in a few directions


def test_the_score_that_the_run_acted_on_comes_out_again(case: Case, done: Run):
    everything = open_checkpoint(case, "teacher", replace(TINY, compared=10**6))
    scores = pd.Series(-DETECTORS["last_kfac_t"](everything))
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
def test_every_detector_scores_every_compared_sample(name: str, checkpoint: Checkpoint):
    score = DETECTORS[name](checkpoint)
    assert score.shape == checkpoint.compared.shape == (TINY.compared,)
    assert np.isfinite(score).all()


@pytest.mark.parametrize("name", [name for name in DETECTORS if name not in ROUGH])
def test_higher_is_more_harmful(name: str, checkpoint: Checkpoint, done: Run):
    flipped = done.samples()["flipped"].to_numpy(bool)[checkpoint.compared]
    assert auroc(DETECTORS[name](checkpoint), flipped) > 0.55
