import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdaif.adaptive import tempered
from kdaif.distill import LOSSES, OF_NUMBERS
from kdaif.evaluate import judge, opinions
from kdaif.influence import SCORERS, InfluenceWeights, squared_error
from kdaif.influence.scores import gradient
from kdaif.metrics.residuals import far
from kdaif.task import CLASSES, NUMBERS, correlation, task_of

OUTPUTS = torch.tensor([[0.5], [-1.0], [2.0], [0.0]])
NUMBER = torch.tensor([1.0, -1.0, 0.0, 0.5])


def test_the_labels_type_tells_the_task() -> None:
    assert task_of(torch.tensor([0, 1])) is CLASSES
    assert task_of(NUMBER) is NUMBERS


def test_numbers_are_judged_by_squared_error_and_correlation() -> None:
    said = judge(OUTPUTS, NUMBER)
    assert said.loss == pytest.approx((0.25 + 0 + 4 + 0.25) / 4)
    assert said.accuracy == pytest.approx(np.corrcoef(OUTPUTS[:, 0], NUMBER)[0, 1])
    assert said.class_accuracy == [said.accuracy]
    each = opinions(OUTPUTS, NUMBER)
    assert each.prediction.tolist() == [0.5, -1.0, 2.0, 0.0]
    assert each.loss.tolist() == [0.25, 0, 4, 0.25]
    assert each.margin.tolist() == [-0.5, 0, -2, -0.5]
    assert each.confidence.isnan().all()


def test_a_network_that_says_the_same_of_all_correlates_with_nothing() -> None:
    assert correlation(torch.ones(4, 1), NUMBER) == 0.0


def test_far_is_more_than_the_spread_of_all_residuals() -> None:
    rng = np.random.default_rng(0)
    given = rng.normal(size=2000)
    said = given + 0.1 * rng.normal(size=2000)
    said[:200] += 3  # a tenth is altered, which hardly moves the robust spread
    assert far(said, given)[:200].all()
    assert far(said, given)[200:].mean() == pytest.approx(0.27, abs=0.05)
    assert not far(np.full(5, np.nan), given[:5]).any()
    differs = NUMBERS.differs(torch.from_numpy(said), torch.from_numpy(given))
    assert differs.numpy().tolist() == far(said, given).tolist()


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation_of_a_number_is_the_squared_error_to_the_teacher_at_any_temperature(temperature: float) -> None:
    teacher = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    label, taught = LOSSES["kd"](OUTPUTS, teacher, NUMBER, 0.25, temperature)
    torch.testing.assert_close(label, 0.25 * (OUTPUTS[:, 0] - NUMBER).square())
    torch.testing.assert_close(taught, 0.75 * (OUTPUTS - teacher)[:, 0].square())
    assert LOSSES["ce"](OUTPUTS, teacher, NUMBER, 0.25, temperature).teacher.sum() == 0
    assert OF_NUMBERS == ("ce", "kd")


def test_at_a_temperature_labels_of_the_networks_own_still_pull() -> None:
    outputs = OUTPUTS.clone().requires_grad_()
    own = NUMBERS.says(OUTPUTS)
    (at_one,) = torch.autograd.grad(tempered(outputs, own, 1.0).sum(), outputs)
    assert (at_one == 0).all()
    (at_four,) = torch.autograd.grad(tempered(outputs, own, 4.0).sum(), outputs)
    torch.testing.assert_close(at_four, -6 * OUTPUTS)  # a step against it moves each away from the mean


def regression(count: int = 40, seed: int = 0) -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.LayerNorm(8), nn.Linear(8, 1))
    x = torch.randn(count, 5)
    return model, x, x[:, 0] - x[:, 1]


@pytest.mark.parametrize("scorer", ["layerwise", "jvp"])
def test_influence_of_the_squared_error_is_exact(scorer: str) -> None:
    model, x, y = regression()
    names = [name for name, _ in model.named_parameters()]
    directions = [gradient(model, squared_error, [(x[20:], y[20:])], names)]
    scores, reference = (SCORERS[name](model, squared_error, (x[:20], y[:20]), directions) for name in (scorer, "loop"))
    assert (scores - reference).abs().max() <= 1e-5 * reference.abs().max()
    step, slope = 1e-3, gradient(model, squared_error, [(x[:1], y[:1])], names)
    with torch.no_grad():
        before = squared_error(model, (x[20:], y[20:])).mean()
        for name, parameter in model.named_parameters():
            parameter -= step * slope[name]
        fell = (before - squared_error(model, (x[20:], y[20:])).mean()) / step
    assert float(fell) == pytest.approx(float(reference[0, 0]), rel=0.05, abs=0.05)


@pytest.mark.parametrize("scope", ["last", "all"])
def test_weights_of_a_regression_in_a_loop_of_ones_own(scope: str) -> None:
    model, x, y = regression(400)
    altered = torch.arange(300) % 3 == 0
    given = y[:300].clone()
    given[altered] = -3 * given[altered]
    weights = InfluenceWeights(model, (x[300:], y[300:]), 300, criterion=squared_error, scope=scope)
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    for epoch in range(3):
        for index in torch.randperm(300, generator=torch.Generator().manual_seed(epoch)).split(50):
            loss = weights(F.mse_loss(model(x[index]).squeeze(1), given[index], reduction="none"), index)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            weights.step()
    influence = weights.table.influence()
    assert influence[~altered].median() > influence[altered].median()
