"""Losses of several terms, each scored apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence.scores import (
    SCORERS,
    layerwise,
    loop,
)
from tests.unit.influence.cases import (
    Batch,
    Scale,
    averaged,
    cross_entropy,
    made,
    random_directions,
    relative_error,
    sequences,
)


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
