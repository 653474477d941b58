"""Audits of runs on sentences: the same detectors, and retraining, with classes and with numbers for labels."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdaif.audit import DETECTORS, audit, learners, truth
from kdaif.audit.checkpoint import Case, open_case
from kdaif.audit.learners import _optimum, convex_bench
from kdaif.audit.truth import PLAIN, pair_scores
from kdaif.card import measure_card
from kdaif.neighbours import measure
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import SCORED, small_text, write_scored, write_sentences
from tests.unit.audit import tiny

SETS = ("teacher.optim.epochs=5", "student.optim.epochs=3", "student.model=bert-micro")


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Case]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(tmp_path_factory.mktemp("audited")))
        patch.setattr(learners, "PENALTY", 0.1)
        folder = write_sentences(tmp_path_factory.mktemp("films"), 300)
        yield open_case(Run(Path(train_new(small_text(folder, *SETS))["run_dir"])), None)


def silent(sentence: str) -> None:
    pass


def test_all_detectors_and_retraining_take_sentences(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "PENALTY", 0.1)
    said: list[str] = []
    found = audit(case.run, effort=tiny.TINY, retrain=True, say=said.append)
    assert found["missing"] == []
    assert set(DETECTORS) < set(found["auroc"])
    assert all(0 <= value <= 1 for value in found["auroc"].values())
    for name in ("last_kfac_t", "all_whiten_t", "confident_learning"):
        assert found["auroc"][name] > 0.8, name
    assert found["auroc"]["captum_tracincp_fast"] > 0.5  # plain products of the plain loss's gradients
    assert found["leave_one_out"]["all_exact"] > 0.95
    assert {"convex", "student"} == set(found["lds"])
    assert found["lds"]["convex"]["all_exact"]["lds"] > 0.5
    assert "last_as_in_run" in found["lds"]["student"]
    assert len(found["removal"]["random"]["test_accuracy"]) == 2


def test_the_convex_model_of_two_classes_is_at_its_optimum(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "PENALTY", 0.1)
    bench = convex_bench(case, 150)
    network = bench.learner(np.arange(150), 0)
    loss = learners._penalised(network, bench.train).mean()
    for slope in torch.autograd.grad(loss, list(network.parameters())):
        assert slope.abs().max() < 1e-6


def test_the_line_through_numbers_is_at_its_optimum() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 4)), rng.normal(size=50)
    weight, bias = (torch.from_numpy(part).requires_grad_() for part in _optimum(x, y, 2.0, 1))
    residual = F.linear(torch.from_numpy(x), weight, bias).squeeze(1) - torch.from_numpy(y)
    loss = residual.square().sum() + 2.0 / 2 * weight.square().sum()
    for slope in torch.autograd.grad(loss, [weight, bias]):
        assert slope.abs().max() < 1e-8


@pytest.mark.parametrize("present", [[0, 2, 3], [1, 4], [2]])
def test_a_class_that_no_sample_has_is_improbable_and_the_others_are_at_their_optimum(present: list[int]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)), np.array(present)[rng.integers(0, len(present), 60)]
    weight, bias = (torch.from_numpy(part).requires_grad_() for part in _optimum(x, y, 2.0, 5))
    logits = F.linear(torch.from_numpy(x), weight, bias)
    assert logits.softmax(1)[:, [c for c in range(5) if c not in present]].max() < 1e-4
    loss = F.cross_entropy(logits, torch.from_numpy(y), reduction="sum") + 2.0 / 2 * weight.square().sum()
    for slope in torch.autograd.grad(loss, [weight, bias]):
        assert slope[present].abs().max() < 1e-2


def test_directions_are_made_a_few_at_a_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    bench, settings = convex_bench(case, 60), {"scope": "all", "preconditioner": "whiten"}
    network = bench.learner(np.arange(60), 0)
    together = pair_scores(network, bench.train, bench.validation, criterion=PLAIN, **settings)
    monkeypatch.setattr(truth, "NUMBERS", 1)
    torch.testing.assert_close(
        pair_scores(network, bench.train, bench.validation, criterion=PLAIN, **settings), together
    )


def test_card_and_neighbours_take_sentences(case: Case) -> None:
    card = measure_card(case.run)
    assert set(card["robustness"]) == {"drop"}
    assert 0.5 < card["robustness"]["drop"]["rgr"] < 1
    assert len(card["parts"]) == 3
    assert max(card["parts"]) > 0.01
    assert 0 <= card["fairness"]["robustness_gap"] <= 1
    assert card["input"] == "sentence"
    assert card["milliseconds"]["student"] > 0
    found = measure(case.run)
    assert len(found.held_words) == len(case.targets())
    assert found.held_inputs == ""


def test_numbers_are_audited_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learners, "PENALTY", 0.1)
    folder = write_scored(tmp_path / "scored", 300)
    run = Run(Path(train_new(small_text(folder, *SCORED, *SETS, "noise.rate=0.2"))["run_dir"]))
    found = audit(run, network="student", effort=tiny.TINY, retrain=True)
    assert "confident_learning" not in found["auroc"]
    assert {"captum_tracincp", "captum_arnoldi", "last_kfac_t", "network_loss"} <= set(found["auroc"])
    assert found["leave_one_out"]["all_exact"] > 0.95
    assert np.isfinite(found["removal"]["random"]["validation_loss"]).all()
    assert measure_card(run)["fairness"] == {}
