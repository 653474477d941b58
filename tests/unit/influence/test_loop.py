"""`InfluenceWeights` in a loop: what each update does when, and that a score means the same however the loss is scaled."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import SCORERS, InfluenceWeights, make_probe
from tests.unit.influence.cases import criterion

N, BATCH = 12, 4


def problem(dtype: torch.dtype = torch.float32) -> tuple[nn.Module, Tensor, Tensor, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).to(dtype)
    x, y = torch.randn(N, 5, dtype=dtype), torch.randint(0, 3, (N,))
    return model, x, y, (torch.randn(20, 5, dtype=dtype), torch.randint(0, 3, (20,)))


def epoch(weights: InfluenceWeights, model: nn.Module, x: Tensor, y: Tensor) -> None:
    for index in torch.arange(N).split(BATCH):
        loss = weights(criterion_of(model, x, y, index), index)
        loss.backward()
        weights.step()


def criterion_of(model: nn.Module, x: Tensor, y: Tensor, index: Tensor) -> Tensor:
    return F.cross_entropy(model(x[index]), y[index], reduction="none")


@pytest.mark.parametrize("scope", ["last", "all"])
def test_lagged_weights_change_at_the_epochs_end(scope: str) -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, update="lagged", scope=scope)
    for index in torch.arange(N).split(BATCH):
        assert (weights.table.weight == 1).all()
        weights(criterion_of(model, x, y, index), index).backward()
        weights.step()
    assert (weights.table.weight != 1).all()
    assert torch.isfinite(weights.table.influence()).all()


@pytest.mark.parametrize("scope", ["last", "all"])
def test_online_weights_this_very_batch(scope: str) -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, update="online", scope=scope)
    index = torch.arange(BATCH)
    losses = criterion_of(model, x, y, index)
    loss = weights(losses, index)
    applied = weights.table.applied[index]
    assert (applied != 1).all()
    torch.testing.assert_close(loss, (applied / applied.mean() * losses).mean())


def test_two_phase_only_scores() -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, update="two_phase")
    epoch(weights, model, x, y)
    assert (weights.table.weight == 1).all()
    weights.table.fit()
    assert (weights.table.weight != 1).all()


def test_periodic_scores_the_whole_set_when_told() -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, update="periodic", validation_batch=None)
    epoch(weights, model, x, y)
    assert weights.table.visits.sum() == 0
    weights.rescore([(torch.arange(N), (x, y))])
    expected = make_probe(model, criterion, [validation])(model, criterion, (x, y)).t
    torch.testing.assert_close(weights.table.own(), expected)


def scaled_step(scale: float, parts: int, weight: Tensor | None = None, half: bool = False) -> Tensor:
    """Scores of all layers from one step whose loss is scaled, and cut into parts (gradient accumulation)."""
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, scope="all", validation_batch=None)
    if weight is not None:
        weights.table.weight = weight
    for index in torch.arange(N).split(N // parts):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            losses = criterion_of(model, x, y, index)
        (weights(losses, index) * scale / parts).backward()
    return weights.table.own()


def test_lagged_scores_equal_an_explicit_scoring() -> None:
    model, x, y, validation = problem()
    folds = list(zip(*(part.tensor_split(8) for part in draw(validation))))
    probe = make_probe(model, criterion, folds, scope="all")
    torch.testing.assert_close(scaled_step(1.0, 1), probe(model, criterion, (x, y)).t, rtol=1e-3, atol=1e-3)


def draw(validation: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """The validation samples in the order of the first draw."""
    order = torch.randperm(len(validation[0]), generator=torch.Generator().manual_seed(0))
    return validation[0][order], validation[1][order]


def test_scores_do_not_depend_on_loss_scale_accumulation_or_weight() -> None:
    plain = scaled_step(1.0, 1)
    torch.testing.assert_close(scaled_step(1024.0, 1), plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled_step(1.0, 3), plain, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scaled_step(1.0, 1, torch.linspace(0.2, 2, N)), plain, rtol=1e-4, atol=1e-4)
    assert torch.corrcoef(torch.stack([scaled_step(1.0, 1, half=True), plain]))[0, 1] > 0.99


def test_a_weight_near_zero_is_no_visit_in_all_layers() -> None:
    weight = torch.ones(N)
    weight[0] = 0.0
    assert torch.isnan(scaled_step(1.0, 1, weight)[0])


def test_rest_and_instead() -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N, mapping="hard")
    weights.table.weight = torch.linspace(0, 1, N)
    index = torch.arange(N)
    losses = criterion_of(model, x, y, index)
    rest, other = torch.rand(N), torch.rand(N)
    w = weights.table.weight
    torch.testing.assert_close(
        weights(losses, index, rest=rest, instead=other), (w * losses + (1 - w) * other + rest).mean()
    )
    losses = criterion_of(model, x, y, index)
    torch.testing.assert_close(weights(losses, index, rest=rest), (w / w.mean() * losses + rest).mean())


def test_state_goes_on_where_it_was() -> None:
    model, x, y, validation = problem()
    first = InfluenceWeights(model, validation, N, validation_batch=6)
    epoch(first, model, x, y)
    first.close()
    second = InfluenceWeights(model, validation, N, validation_batch=6)
    second.load_state_dict(first.state_dict())
    third = InfluenceWeights(model, validation, N, validation_batch=6)
    for weights in (third, third, second):
        epoch(weights, model, x, y)
    assert torch.equal(second.table.own(), third.table.own())
    assert torch.equal(second.table.weight, third.table.weight)


def test_evaluation_in_between_does_not_disturb() -> None:
    model, x, y, validation = problem()
    weights = InfluenceWeights(model, validation, N)
    index = torch.arange(BATCH)
    losses = criterion_of(model, x, y, index)
    with torch.no_grad():
        model(x)
    weights(losses, index).backward()
    assert (weights.table.visits[:BATCH] == 1).all()


def test_close_takes_the_hooks_off() -> None:
    model, _, _, validation = problem()
    weights = InfluenceWeights(model, validation, N)
    assert any(module._forward_hooks for module in model.modules())
    weights.close()
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("scorer", ["layerwise", "loop"])
def test_positive_means_helpful(scorer: str) -> None:
    """A small step on a sample with a positive score lowers the validation loss."""
    model, x, y, validation = problem(torch.float64)
    names, parameters = zip(*model.named_parameters(), strict=True)
    v = dict(zip(names, torch.autograd.grad(criterion(model, validation).mean(), parameters), strict=True))
    scores = SCORERS[scorer](model, criterion, (x, y), [v])[0]
    before = criterion(model, validation).mean()
    for i in range(N):
        grads = torch.autograd.grad(criterion(model, (x[i : i + 1], y[i : i + 1])).sum(), list(model.parameters()))
        moved = {n: p - 1e-5 * g for (n, p), g in zip(model.named_parameters(), grads)}
        after = F.cross_entropy(torch.func.functional_call(model, moved, validation[0]), validation[1])
        assert torch.sign(before - after) == torch.sign(scores[i])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"update": "never"}, "update: got 'never', takes one of online"),
        ({"mapping": "cubic"}, "mapping: got 'cubic', takes one of neutral"),
        ({"source": "parent"}, "source: got 'parent'"),
        ({"prior": torch.zeros(3)}, r"must have shape \(12,\)"),
    ],
)
def test_bad_settings(options: dict[str, object], sentence: str) -> None:
    model, _, _, validation = problem()
    with pytest.raises(ValueError, match=sentence):
        InfluenceWeights(model, validation, N, **options)  # type: ignore[arg-type]


def test_bad_use() -> None:
    model, _, _, validation = problem()
    with pytest.raises(ValueError, match="at least 2 validation samples, got 1"):
        InfluenceWeights(model, (validation[0][:1], validation[1][:1]), N)
    weights = InfluenceWeights(model, validation, N)
    with pytest.raises(ValueError, match="no forward pass"):
        weights(torch.zeros(3, requires_grad=True), torch.arange(3))
