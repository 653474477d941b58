from types import SimpleNamespace

import pytest
import torch

from kdaif.config import RunConfig, UserError
from kdaif.distill import LossTerms
from kdaif.weighting import FixedWeights, Step, check_oracle, oracle, uniform


def step(index, label, teacher) -> Step:
    terms = LossTerms(torch.tensor(label), torch.tensor(teacher))
    rows = torch.tensor(index)
    return Step(rows, torch.zeros_like(rows), torch.zeros(len(index), 2), None, lambda labels: terms)


class Train:
    """Four training samples."""

    def __init__(self, flipped: torch.Tensor | None) -> None:
        self.flipped = flipped

    def __len__(self) -> int:
        return 4


def setting(flipped: torch.Tensor | None) -> SimpleNamespace:
    return SimpleNamespace(dataset=SimpleNamespace(train=Train(flipped)), device=torch.device("cpu"))


def test_the_loss_is_the_weighted_mean_of_both_terms():
    weights = FixedWeights(torch.tensor([0.0, 1.0, 3.0]))
    loss = weights.loss(step([2, 1], [1.0, 5.0], [1.0, 1.0]))
    assert loss == (3 * 2 + 1 * 6) / 4


def test_a_batch_of_dropped_samples_is_harmless():
    weights = FixedWeights(torch.zeros(2))
    assert weights.loss(step([0, 1], [1.0, 2.0], [0.0, 0.0])) == 0


def test_weights_do_not_change():
    weights = uniform(setting(None))
    before = weights.columns()["weight"].copy()
    weights.before_epoch(1)
    weights.loss(step([0], [1.0], [1.0]))
    weights.after_step()
    weights.load_state_dict(weights.state_dict())
    assert (weights.columns()["weight"] == before).all()
    assert (before == 1).all()


def test_oracle_drops_the_flipped():
    flipped = torch.tensor([False, True, True, False])
    assert oracle(setting(flipped)).columns()["weight"].tolist() == [1, 0, 0, 1]
    check_oracle(RunConfig(), setting(flipped).dataset)


def test_oracle_needs_to_know():
    with pytest.raises(UserError, match=r"method: 'oracle' needs known clean labels.*takes ce, kd or kd-aif\."):
        check_oracle(RunConfig(), setting(None).dataset)
