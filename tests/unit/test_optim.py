import pytest
import torch
from torch import nn

from kdaif.config import OptimConfig, UserError
from kdaif.optim import OPTIMIZERS, SCHEDULES, make_optimizer

STEPS = 240


def rates(**settings) -> list[float]:
    """Learning rate of each step, as a share of the config's."""
    optim = OptimConfig(lr=0.5, **settings)
    optimizer, schedule = make_optimizer(nn.Linear(1, 1), optim, STEPS, "student.optim")
    found = []
    for _ in range(STEPS):
        found.append(optimizer.param_groups[0]["lr"] / 0.5)
        optimizer.step()
        schedule.step()
    return found


def test_constant():
    assert rates(schedule="constant") == [1.0] * STEPS


def test_cosine_falls_from_one_to_nearly_nothing():
    found = rates(schedule="cosine")
    assert found[0] == 1
    assert found[STEPS // 2] == pytest.approx(0.5)
    assert found[-1] < 1e-4
    assert found == sorted(found, reverse=True)


def test_step_is_the_published_schedule():
    found = rates(schedule="step")
    assert [found[at] for at in (0, 149, 150, 179, 180, 209, 210, 239)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )


def test_warmup_rises_over_its_share_of_the_steps():
    found = rates(schedule="constant", warmup=0.25)
    assert found[:60] == pytest.approx([(step + 1) / 60 for step in range(60)])
    assert found[60:] == [1.0] * 180


def test_optimizers_take_their_settings():
    model = nn.Linear(1, 1)
    optim = OptimConfig(lr=0.2, momentum=0.8, weight_decay=0.01)
    sgd, _ = make_optimizer(model, optim, 10, "x")
    assert isinstance(sgd, torch.optim.SGD)
    assert {key: sgd.defaults[key] for key in ("lr", "momentum", "weight_decay", "nesterov")} == {
        "lr": 0.2,
        "momentum": 0.8,
        "weight_decay": 0.01,
        "nesterov": True,
    }
    assert not make_optimizer(model, OptimConfig(momentum=0), 10, "x")[0].defaults["nesterov"]
    adamw, _ = make_optimizer(model, OptimConfig(optimizer="adamw", lr=0.2), 10, "x")
    assert isinstance(adamw, torch.optim.AdamW)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_pair_learns(optimizer, schedule):
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    x = torch.randn(64, 2)
    y = x @ torch.tensor([[1.0], [-2.0]])
    optim = OptimConfig(optimizer=optimizer, schedule=schedule, lr=0.05, weight_decay=0)
    steps, start = make_optimizer(model, optim, 60, "x"), nn.functional.mse_loss(model(x), y).item()
    for _ in range(60):
        loss = nn.functional.mse_loss(model(x), y)
        steps[0].zero_grad()
        loss.backward()
        steps[0].step()
        steps[1].step()
    assert nn.functional.mse_loss(model(x), y).item() < start / 2


def test_unknown_names_are_refused():
    with pytest.raises(UserError, match=r"^teacher\.optim\.optimizer: got 'lion', takes one of adamw, sgd\.$"):
        make_optimizer(nn.Linear(1, 1), OptimConfig(optimizer="lion"), 1, "teacher.optim")
    with pytest.raises(
        UserError, match=r"^student\.optim\.schedule: got 'poly', takes one of constant, cosine, step\.$"
    ):
        make_optimizer(nn.Linear(1, 1), OptimConfig(schedule="poly"), 1, "student.optim")
