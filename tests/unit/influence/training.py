"""A small training: the network, its data, one step."""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.influence import InfluenceWeights
from tests.unit.influence.cases import images, pooled

SIZE = 24


def conv_net(seed: int = 0) -> nn.Module:
    """No BatchNorm: what a sample's gradient is does not depend on the others."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.GroupNorm(2, 6),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 4, 3, stride=2),
        pooled(4),
    ).double()


def data(seed: int = 1) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Training and validation images."""
    torch.manual_seed(seed)
    return images(SIZE, 3, 8), images(16, 3, 8)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), 0.05, momentum=0.9, weight_decay=0.01)


def batches(order: Tensor, size: int = 8) -> Iterator[Tensor]:
    yield from order.split(size)


def one_step(
    weights: InfluenceWeights, train: tuple[Tensor, Tensor], index: Tensor, scale: float = 1.0, **terms: Any
) -> Tensor:
    """Forward and backward of one batch; no optimiser step, so the model stays what it was scored at."""
    logits = weights.model(train[0][index])
    losses = F.cross_entropy(logits, train[1][index], reduction="none")
    loss = weights(losses, index, **{name: term(logits, index) for name, term in terms.items()})
    (scale * loss).backward()
    return loss.detach()
