from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdaif.baselines import L2RW, MetaWeightNet
from kdaif.config import UserError
from kdaif.data import Batch, Split
from kdaif.metrics.detection import auroc
from kdaif.runs import open_run
from kdaif.train import train_new
from kdaif.weighting import Setting
from tests.small import small

SIZE = 12


@pytest.mark.parametrize(("method", "better"), [("l2rw", 0.55), ("meta-weight-net", 0.55)])
def test_flipped_samples_weigh_less(method, better):
    sets = ("data.train_size=1000", "student.optim.epochs=16", "student.optim.batch_size=32")
    run = open_run(train_new(small(*sets, f"method={method}"))["run_id"])
    weight = np.mean([run.epoch(epoch)["weight"] for epoch in run.epochs()[8:]], axis=0)
    assert (weight >= 0).all()
    assert auroc(-weight, run.samples()["flipped"].to_numpy(bool)) > better


class OneBatch(list):
    """A split that fits in a batch."""

    def whole(self) -> Batch:
        return self[0]


def setting() -> Setting:
    """A linear student with BatchNorm, four features, three classes."""
    torch.manual_seed(0)
    student = nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3))
    inputs, labels = torch.randn(SIZE, 1, 2, 2), torch.arange(SIZE) % 3
    names = np.array([str(row) for row in range(SIZE)])
    split = Split(torch.zeros(SIZE, 1, 1, 1, dtype=torch.uint8), labels, None, names, names)
    return Setting(
        config=small("influence.validation=given", "student.optim.batch_size=6", "student.optim.schedule=constant"),
        dataset=SimpleNamespace(train=split, validation=split),
        student=student,
        teacher=nn.Sequential(nn.Flatten(), nn.Linear(4, 3)),
        ordered=lambda split: OneBatch([Batch(torch.arange(SIZE), inputs, split.labels)]),
        device=torch.device("cpu"),
    )


def batch(student: nn.Module) -> torch.Tensor:
    torch.manual_seed(1)
    return F.cross_entropy(student(torch.randn(5, 1, 2, 2)), torch.tensor([0, 1, 2, 0, 1]), reduction="none")


def flat(gradients) -> torch.Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients])


def test_l2rw_weights_are_the_positive_products_of_gradients():
    weights = L2RW(setting())
    student, parameters = weights.student, list(weights.student.parameters())
    losses = batch(student)
    target = flat(torch.autograd.grad(weights.validation_loss(0 * losses.sum(), 1.0), parameters, retain_graph=True))
    products = [flat(torch.autograd.grad(loss, parameters, retain_graph=True)) @ target for loss in losses]
    expected = torch.stack(products).relu()
    assert 0 < (expected > 0).sum() < 5
    torch.testing.assert_close(weights.weigh(losses), expected)


def test_the_student_is_left_alone_by_the_virtual_step():
    weights = MetaWeightNet(setting())
    losses = batch(weights.student)
    before = {name: value.clone() for name, value in weights.student.state_dict().items()}
    net = [value.clone() for value in weights.net.parameters()]
    weights.weigh(losses)
    assert all(torch.equal(value, before[name]) for name, value in weights.student.state_dict().items())
    assert all(parameter.grad is None for parameter in weights.student.parameters())
    assert any(not torch.equal(old, new) for old, new in zip(net, weights.net.parameters()))
    losses.sum().backward()  # the step's own graph is still there


def test_meta_weight_net_lowers_the_validation_loss_after_its_virtual_step():
    weights = MetaWeightNet(setting())
    lr = weights.config.student.optim.lr

    def ahead() -> float:
        losses = batch(weights.student)
        weight = weights.net(losses.detach()[:, None]).squeeze(1).detach()
        return weights.validation_loss((weight * losses).sum() / weight.sum(), lr).item()

    before = ahead()
    for _ in range(30):
        weights.weigh(batch(weights.student))
    assert ahead() < before


def test_the_weights_of_a_batch_average_one():
    weights = MetaWeightNet(setting())
    losses = batch(weights.student)
    terms = SimpleNamespace(total=losses)
    step = SimpleNamespace(index=torch.arange(5), labels=torch.zeros(5), losses=lambda labels: terms)
    loss = weights.loss(step)
    assert weights.weight[:5].mean() == pytest.approx(1)
    assert loss.item() == pytest.approx((weights.weight[:5] * losses).mean().item(), rel=1e-5)


@pytest.mark.parametrize("method", ["l2rw", "meta-weight-net"])
def test_an_unknown_target_is_refused(method):
    with pytest.raises(UserError, match=r"influence\.validation: got 'foo', takes one of agreed, given, teacher"):
        train_new(small(f"method={method}", "influence.validation=foo"))
