"""The pair for the digits: of the right size, quick to train, the student clearly the weaker one."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import nn

from kdaif.models import build, parameter_count


@pytest.mark.parametrize(("name", "low", "high"), [("digits-cnn", 35_000, 45_000), ("digits-cnn-small", 2_500, 3_500)])
def test_size(name: str, low: int, high: int) -> None:
    assert low < parameter_count(build(name, 10, 1)) < high


def trained_accuracy(name: str, epochs: int = 10) -> float:
    digits = load_digits()
    torch.manual_seed(0)
    order = torch.randperm(len(digits.target))  # the last rows come from other writers
    images = torch.tensor(digits.images, dtype=torch.float32)[order, None] / 8 - 1
    labels = torch.tensor(digits.target)[order]
    model: nn.Module = build(name, 10, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.05, total_steps=epochs * 19)
    for _ in range(epochs):
        for batch in torch.randperm(1200).split(64):
            optimizer.zero_grad()
            F.cross_entropy(model(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
    with torch.no_grad():
        return (model.eval()(images[1200:]).argmax(1) == labels[1200:]).float().mean().item()


def test_teacher_learns_the_digits_better_than_the_student() -> None:
    teacher, student = trained_accuracy("digits-cnn"), trained_accuracy("digits-cnn-small")
    assert teacher > 0.965
    assert 0.9 < student < teacher - 0.005
