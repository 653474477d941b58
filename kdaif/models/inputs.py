"""Which input normalisation a network was trained with, and how it sees its own when the loader uses another.

Teacher and student get one batch, normalised by the mean and standard deviation of the training data. A checkpoint that was
trained with other figures (ImageNet's, for the published CIFAR-10 ResNets) is wrapped in `Normalised`, which undoes the
loader's figures and applies the network's own: an exact, affine step.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn


class InputStats(NamedTuple):
    """Per channel, in units of pixels / 255; the network takes (pixels / 255 - mean) / std."""

    mean: Sequence[float]
    std: Sequence[float]


IMAGENET = InputStats(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class Normalised(nn.Module):
    """`model`, fed with inputs normalised by `loader`'s statistics, sees them normalised by its `own`."""

    scale: Tensor
    shift: Tensor

    def __init__(self, model: nn.Module, loader: InputStats, own: InputStats) -> None:
        super().__init__()
        self.model = model
        (mean, std), (own_mean, own_std) = (torch.tensor([list(row) for row in stats]) for stats in (loader, own))
        self.register_buffer("scale", (std / own_std)[:, None, None])
        self.register_buffer("shift", ((mean - own_mean) / own_std)[:, None, None])

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        return self.model(inputs * self.scale + self.shift)
