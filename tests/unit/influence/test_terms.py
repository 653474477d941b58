"""Losses of several terms, each scored apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import InfluenceWeights
from kdaif.influence.scores import (
    SCORERS,
    layerwise,
    loop,
)
from tests.unit.influence.cases import (
    CLASSES,
    Batch,
    Scale,
    averaged,
    cross_entropy,
    made,
    random_directions,
    relative_error,
    sequences,
)
from tests.unit.influence.training import SIZE, conv_net, data


def two_terms(model: nn.Module, batch: Batch) -> Tensor:
    """A label's term and a teacher's, (2, batch)."""
    logits = model(batch[0])
    target = torch.linspace(0, 1, logits.numel(), dtype=logits.dtype).view_as(logits).softmax(1)
    return torch.stack([F.cross_entropy(logits, batch[1], reduction="none"), -(target * logits.log_softmax(1)).sum(1)])


@pytest.mark.parametrize("name", ["conv stride, padding", "batch norm 2d", "tied weights", "transformer"])
@pytest.mark.parametrize(
    ("scorer", "bar"), [("layerwise", 1e-5), ("jvp", 1e-5), ("finite-difference", None), ("loop", 1e-5)]
)
def test_terms_are_scored_apart(scorer: str, bar: float | None, name: str) -> None:
    """In single precision, against the loop over each term's own losses in double; they add up to the whole's scores."""
    model, batch = made(name)
    model.eval()
    directions = random_directions(model, 3)
    reference = torch.stack([loop(model, lambda m, b, t=t: two_terms(m, b)[t], batch, directions) for t in (0, 1)])
    if bar is not None:
        model.float()
        batch = (batch[0].float() if batch[0].is_floating_point() else batch[0], batch[1])
        directions = [{n: v.float() for n, v in direction.items()} for direction in directions]
    found = SCORERS[scorer](model, two_terms, batch, directions)
    assert found.shape == (2, 3, len(batch[1]))
    assert relative_error(found.double(), reference) < (bar or 1e-3)
    whole = SCORERS[scorer](model, lambda m, b: two_terms(m, b).sum(0), batch, directions)
    assert relative_error(found.sum(0), whole) < (bar or 1e-3)


def test_a_term_without_influence_scores_zero() -> None:
    model, batch = made("conv")
    directions = random_directions(model, 2)

    def one_constant(model: nn.Module, batch: Batch) -> Tensor:
        losses = cross_entropy(model, batch)
        return torch.stack([losses, torch.ones_like(losses)])

    for scorer in ("layerwise", "jvp", "loop"):
        found = SCORERS[scorer](model, one_constant, batch, directions)
        assert (found[1] == 0).all()
        assert relative_error(found[0], loop(model, cross_entropy, batch, directions)) < 1e-10


def test_terms_of_a_module_of_the_users_own() -> None:
    torch.manual_seed(0)
    model, batch = nn.Sequential(Scale(4), averaged(4)).double(), sequences(5, 3, 4)
    directions = random_directions(model, 2)
    with pytest.warns(UserWarning, match=r"no layer-wise rule for Scale '0'.*; scoring by forward mode instead"):
        found = layerwise(model, two_terms, batch, directions)
    assert relative_error(found, loop(model, two_terms, batch, directions)) < 1e-10


# --- in the training step --------------------------------------------------------------------------------------------


def stepped(scope: str, teacher: float = 1.0) -> tuple[InfluenceWeights, Tensor]:
    """Weights after a step on two terms, and what a pass of its own says of each term: t, (2, samples)."""
    train, validation = data()
    weights = InfluenceWeights(conv_net(), validation, SIZE, scope=scope, refresh_steps=1000)
    logits = weights.model(train[0])
    labels = torch.stack([train[1], (train[1] + 1) % CLASSES])
    each = [F.cross_entropy(logits, of, reduction="none") for of in labels]
    terms = torch.stack([each[0], teacher * each[1]]) if teacher else torch.stack([each[0], torch.zeros(SIZE)])
    weights(each[0], torch.arange(SIZE), rest=each[1], terms=terms).backward()
    weights.step()

    def criterion(model: nn.Module, inputs: Tensor) -> Tensor:
        logits = model(inputs)
        return torch.stack([F.cross_entropy(logits, of, reduction="none") for of in labels])

    return weights, weights.probe(weights.model, criterion, train[0]).t


def test_the_step_scores_its_terms_apart() -> None:
    weights, expected = stepped("last")
    assert relative_error(weights.table.terms.double(), expected) < 1e-5
    assert relative_error(weights.table.own().double(), expected[0]) < 1e-5


def test_a_teacher_that_says_nothing_has_no_influence() -> None:
    weights, expected = stepped("last", teacher=0)
    assert relative_error(weights.table.terms[0].double(), expected[0]) < 1e-5
    assert (weights.table.terms[1] == 0).all()


def test_in_all_layers_terms_would_cost_a_pass_and_are_not_scored() -> None:
    weights, _ = stepped("all")
    assert (weights.table.visits == 1).all()
    assert torch.isnan(weights.table.terms).all()
