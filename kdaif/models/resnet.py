"""Residual networks for CIFAR (He et al., "Deep residual learning for image recognition", CVPR 2016, section 4.2).

Two published conventions, told apart by their shortcut where the width changes:

- `resnet8` ... `resnet110`: widths 16-32-64 and the parameter-free shortcut (option A), as in He et al. and in
  akamaster/pytorch_resnet_cifar10, whose checkpoints load by name;
- `resnet8x4`, `resnet32x4`: widths 64-128-256 behind a stem of 32 and a projection (option B), as in the CIFAR-100 distillation
  tables of RepDistiller and mdistiller, whose checkpoints load by name. (Their plain resnets have projections too: 0.9 % more
  parameters at depth 20.)
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.models.blocks import GlobalAverage, conv


class PaddedShortcut(nn.Module):
    """Option A: every second pixel, and zeros for the new channels, half of them on either side."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.padding = (width - channels) // 2

    def forward(self, inputs: Tensor) -> Tensor:
        return F.pad(inputs[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))


def projection_shortcut(channels: int, width: int, stride: int) -> nn.Sequential:
    """Option B: a 1 x 1 convolution."""
    return nn.Sequential(conv(channels, width, 1, stride), nn.BatchNorm2d(width))


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int, downsample: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv(channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample

    def forward(self, inputs: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(inputs)))
        return F.relu(self.bn2(self.conv2(out)) + self.downsample(inputs))


def resnet(
    num_classes: int,
    channels: int,
    *,
    depth: int,
    widths: tuple[int, int, int, int],
    shortcut: Callable[[int, int, int], nn.Module],
    head: str,
) -> nn.Sequential:
    """A ResNet of depth 6n + 2; `widths` are those of the stem and of the three stages, `head` names the last layer."""
    layers = OrderedDict(conv1=conv(channels, widths[0], 3), bn1=nn.BatchNorm2d(widths[0]), relu=nn.ReLU())
    for number, (before, width) in enumerate(pairwise(widths), start=1):
        stride = 1 if number == 1 else 2
        change = nn.Identity() if (before, stride) == (width, 1) else shortcut(before, width, stride)
        blocks = [BasicBlock(before, width, stride, change)]
        blocks += [BasicBlock(width, width, 1, nn.Identity()) for _ in range((depth - 2) // 6 - 1)]
        layers[f"layer{number}"] = nn.Sequential(*blocks)
    return nn.Sequential(layers | {"pool": GlobalAverage(), head: nn.Linear(widths[-1], num_classes)})


_plain = partial(resnet, widths=(16, 16, 32, 64), shortcut=PaddedShortcut, head="linear")
_wide = partial(resnet, widths=(32, 64, 128, 256), shortcut=projection_shortcut, head="fc")

RESNETS = {f"resnet{depth}": partial(_plain, depth=depth) for depth in (8, 14, 20, 32, 44, 56, 110)} | {
    f"resnet{depth}x4": partial(_wide, depth=depth) for depth in (8, 32)
}
