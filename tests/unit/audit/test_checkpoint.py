from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdaif.audit.checkpoint import Case, draw, open_case, open_checkpoint
from kdaif.config import UserError
from kdaif.runs import Run, new_run, open_run
from kdaif.train import train_new
from tests.small import small
from tests.unit.audit.tiny import TINY


def test_the_teacher_is_the_one_that_the_run_had(case: Case, done: Run):
    inputs, labels = case.pair(case.dataset.train)
    losses = F.cross_entropy(case.teacher(inputs), labels, reduction="none")
    np.testing.assert_allclose(losses.detach().numpy(), done.epoch()["teacher_loss"], rtol=1e-4, atol=1e-5)


def test_targets_are_the_validation_samples_with_the_teachers_labels(case: Case):
    targets, validation = case.targets(), case.dataset.validation
    assert list(targets.ids) == list(validation.ids)
    inputs, labels = case.pair(targets)
    assert torch.equal(case.teacher(inputs).argmax(1), labels)
    assert not torch.equal(labels, validation.labels)


def test_targets_follow_the_runs_own(case: Case):
    influence = case.config.influence.model_copy(update={"target": "class:3", "validation": "agreed"})
    narrowed = replace(case, config=case.config.model_copy(update={"influence": influence}))
    targets, validation = narrowed.targets(), case.dataset.validation
    assert 2 <= len(targets) < len(validation)
    given = validation.labels[torch.from_numpy(np.isin(validation.ids, targets.ids))]
    assert set(given.tolist()) == set(targets.labels.tolist()) == {3}


def test_the_student_is_the_runs_last(case: Case, done: Run):
    student = open_checkpoint(case, "student", TINY).network
    inputs, labels = case.pair(case.dataset.test)
    accuracy = float((student(inputs).argmax(1) == labels).double().mean())
    assert accuracy == pytest.approx(done.result()["test_accuracy"])


def test_an_unknown_network_is_refused(case: Case):
    with pytest.raises(UserError, match=r"--network: got 'pupil', takes teacher or student\."):
        open_checkpoint(case, "pupil", TINY)


def test_a_run_that_is_not_done_is_refused():
    with pytest.raises(UserError, match="is queued, takes a run that is done"):
        open_case(new_run(small()), None)


def test_a_run_without_teacher_is_refused():
    run = open_run(train_new(small("method=ce", "student.optim.epochs=1"))["run_id"])
    with pytest.raises(UserError, match="of method ce has no teacher"):
        open_case(run, None)


def test_changed_data_are_refused(case: Case, done: Run, monkeypatch: pytest.MonkeyPatch):
    fewer = case.config.model_copy(update={"data": case.config.data.model_copy(update={"train_size": 200})})
    monkeypatch.setattr(Run, "config", lambda run: fewer)
    with pytest.raises(UserError, match="have changed since it began"):
        open_case(done, None)


def test_random_subsets_have_nothing_to_do_with_label_noise(case: Case):
    flipped = case.dataset.train.flipped.numpy()
    effort = replace(TINY, compared=len(flipped) // 2)
    share = flipped[open_checkpoint(case, "teacher", effort).compared].mean()
    assert abs(share - flipped.mean()) < 0.12  # three standard deviations


def test_draws_differ_by_part_and_seed():
    first, *others = [draw(part, seed).random(3) for part, seed in ((0, 0), (1, 0), (0, 1))]
    assert not any(np.array_equal(first, other) for other in others)
    np.testing.assert_array_equal(first, draw(0).random(3))
