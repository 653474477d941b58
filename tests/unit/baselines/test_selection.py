from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal

from kdaif.baselines.selection import SmallLoss, estimated_rate, folds_of, label_errors
from kdaif.distill import LossTerms
from kdaif.metrics.detection import auroc
from kdaif.runs import Run, open_run
from kdaif.train import train_new
from kdaif.weighting import Step
from tests.small import small

ENOUGH = (
    "data.train_size=1000",
    "student.optim.epochs=16",
    "student.optim.batch_size=32",
)  # for a student to learn something


def trained(*sets: str) -> Run:
    return open_run(train_new(small(*ENOUGH, *sets))["run_id"])


@pytest.mark.parametrize("method", ["small-loss", "aum", "confident-learning"])
def test_flipped_samples_are_left_out(method):
    run = trained(f"method={method}")
    weight, flipped = run.epoch()["weight"].to_numpy(), run.samples()["flipped"].to_numpy(bool)
    assert set(weight) == {0, 1}
    assert auroc(-weight, flipped) > 0.7
    assert flipped[weight == 0].mean() > 1.5 * flipped.mean()


@pytest.mark.parametrize("method", ["aum", "confident-learning"])
def test_what_is_left_out_is_known_before_the_first_step(method):
    run = trained(f"method={method}", "student.optim.epochs=3")
    assert_array_equal(run.epoch(1)["weight"], run.epoch(3)["weight"])
    assert (run.epoch(1)["weight"] == 0).any()


def test_more_folds_than_samples_hold_each_sample_out():
    few = ("data.train_size=20", "data.validation=0.5", "teacher.optim.epochs=1", "student.optim.epochs=1")
    run = open_run(train_new(small(*few, "method=confident-learning", "baselines.folds=11"))["run_id"])
    assert run.status().state == "done"
    assert len(run.samples()) == 10


def setting(samples: int = 10, epochs: int = 10, **baselines) -> SimpleNamespace:
    config = small(f"student.optim.epochs={epochs}", *(f"baselines.{key}={value}" for key, value in baselines.items()))
    return SimpleNamespace(config=config, dataset=SimpleNamespace(train=range(samples)), device=torch.device("cpu"))


def visit(weights: SmallLoss, logits: torch.Tensor) -> None:
    """An epoch of one batch; label 0 everywhere."""
    labels = torch.zeros(len(logits), dtype=torch.int64)
    terms = LossTerms(torch.ones(len(logits)), torch.zeros(len(logits)))
    weights.loss(Step(torch.arange(len(logits)), labels, logits, None, lambda labels: terms))


def test_small_loss_follows_the_schedule_and_drops_the_largest():
    weights = SmallLoss(setting(noise_rate=0.4, warmup=0.2))
    logits = torch.stack([torch.zeros(10), torch.arange(10.0)], 1)  # sample 9 has the largest loss
    left_out = []
    for epoch in (1, 2, 3, 4, 5, 6):
        weights.before_epoch(epoch)
        left_out.append(np.flatnonzero(weights.columns()["weight"] == 0).tolist())
        visit(weights, logits)
    assert left_out == [[], [], [], [8, 9], [6, 7, 8, 9], [6, 7, 8, 9]]


def test_a_sample_left_out_comes_back_when_its_loss_falls():
    weights = SmallLoss(setting(samples=2, noise_rate=0.5, warmup=0.1, smoothing=0))
    for worse in (0, 1):
        logits = torch.zeros(2, 2)
        logits[worse, 1] = 5
        visit(weights, logits)
        weights.before_epoch(3 + worse)
        assert weights.columns()["weight"].tolist() == [float(worse != 0), float(worse != 1)]


def test_the_rate_is_estimated_anew_before_each_epoch():
    weights = SmallLoss(setting(samples=100, smoothing=0, warmup=0.2))
    for epoch, flipped in enumerate((30, 20), 4):
        logits = torch.zeros(100, 2)
        logits[:, 0] = 4 + 0.1 * torch.randn(100, generator=torch.Generator().manual_seed(0))
        logits[:flipped, 1] = 8
        visit(weights, logits)
        weights.before_epoch(epoch)
        assert weights.rate == pytest.approx(flipped / 100)


def test_rate_of_two_groups_and_of_none():
    generator = torch.Generator().manual_seed(0)
    losses = torch.cat([0.2 + 0.05 * torch.randn(700, generator=generator), 3 + torch.rand(300, generator=generator)])
    assert estimated_rate(losses) == pytest.approx(0.3, abs=0.01)
    assert estimated_rate(torch.ones(5)) == 0


def test_folds_spread_every_class():
    labels = torch.tensor([0] * 8 + [1] * 4 + [2])
    fold = folds_of(labels, 4, seed=0)
    assert torch.bincount(fold[:8]).tolist() == [2, 2, 2, 2]
    assert torch.bincount(fold[8:12]).tolist() == [1, 1, 1, 1]
    assert not torch.equal(fold, folds_of(labels, 4, seed=1))


def test_label_errors_by_hand():
    probabilities = torch.tensor([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.2, 0.8], [0.4, 0.6], [0.95, 0.05]])
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    # thresholds: class 0 (0.9 + 0.7 + 0.2) / 3 = 0.6, class 1 (0.8 + 0.6 + 0.05) / 3 = 0.48
    assert label_errors(probabilities, labels).tolist() == [False, False, True, False, False, True]


def test_a_class_without_samples_is_nobodys_true_class():
    probabilities = torch.tensor([[0.1, 0.1, 0.8], [0.2, 0.7, 0.1]])
    assert not label_errors(probabilities, torch.tensor([0, 1])).any()


def test_label_errors_are_cleanlabs():
    filters = pytest.importorskip("cleanlab.filter")
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 4, (400,), generator=generator)
    logits = torch.randn(400, 4, generator=generator) + 2 * torch.eye(4)[labels.roll(0)]
    labels[:80] = (labels[:80] + 1) % 4
    probabilities = logits.softmax(1)
    theirs = filters.find_label_issues(
        labels.numpy(), probabilities.double().numpy(), filter_by="confident_learning", n_jobs=1
    )
    assert (label_errors(probabilities, labels).numpy() == theirs).mean() > 0.99
