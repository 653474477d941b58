"""Wide residual networks for CIFAR (Zagoruyko and Komodakis, "Wide residual networks", BMVC 2016).

Parameters are named as in RepDistiller and mdistiller, so that their checkpoints load by name.
"""

from collections import OrderedDict
from functools import partial
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.models.blocks import GlobalAverage, conv


class PreActivationBlock(nn.Module):
    """BatchNorm and ReLU before each of two 3 x 3 convolutions, beside a shortcut."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv1 = conv(channels, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3)
        self.convShortcut = conv(channels, width, 1, stride) if channels != width else None

    def forward(self, inputs: Tensor) -> Tensor:
        active = F.relu(self.bn1(inputs))
        out = self.conv2(F.relu(self.bn2(self.conv1(active))))
        # a change of width projects the activated input, an unchanged width passes the plain one on
        return out + (inputs if self.convShortcut is None else self.convShortcut(active))


def wide_resnet(num_classes: int, channels: int, *, depth: int, factor: int) -> nn.Sequential:
    """A WRN of depth 6n + 4, its three stages `factor` times as wide as 16-32-64."""
    widths = (16, 16 * factor, 32 * factor, 64 * factor)
    layers = OrderedDict[str, nn.Module](conv1=conv(channels, widths[0], 3))
    for number, (before, width) in enumerate(pairwise(widths), start=1):
        blocks = [PreActivationBlock(before, width, 1 if number == 1 else 2)]
        blocks += [PreActivationBlock(width, width, 1) for _ in range((depth - 4) // 6 - 1)]
        layers[f"block{number}"] = nn.Sequential(OrderedDict(layer=nn.Sequential(*blocks)))
    tail = OrderedDict(bn1=nn.BatchNorm2d(widths[-1]), relu=nn.ReLU(), pool=GlobalAverage())
    return nn.Sequential(layers | tail | {"fc": nn.Linear(widths[-1], num_classes)})


WRNS = {
    f"wrn-{depth}-{factor}": partial(wide_resnet, depth=depth, factor=factor) for depth in (16, 40) for factor in (1, 2)
}
