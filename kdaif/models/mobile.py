"""Small networks for CIFAR made of depthwise convolutions: the students of another architecture in the distillation tables.

MobileNetV2 at half width (Sandler et al., CVPR 2018) and ShuffleNetV2 (Ma et al., ECCV 2018). Parameters are named as in
RepDistiller and mdistiller, so that their checkpoints load by name.
"""

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdaif.models.blocks import GlobalAverage, conv, conv_bn_relu

# expansion, width at half size, blocks, stride of the first block
MOBILENET_STAGES = (
    (1, 8, 1, 1),
    (6, 12, 2, 1),
    (6, 16, 3, 2),
    (6, 32, 4, 2),
    (6, 48, 3, 1),
    (6, 80, 3, 2),
    (6, 160, 1, 1),
)
# width, blocks that keep the size
SHUFFLENET_STAGES = ((116, 3), (232, 7), (464, 3))


class InvertedResidual(nn.Module):
    """Widen, filter each channel by itself, narrow again without an activation."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = channels * expansion
        self.residual = stride == 1 and channels == width
        self.conv = nn.Sequential(
            *conv_bn_relu(channels, hidden, 1),
            *(conv(hidden, hidden, 3, stride, groups=hidden), nn.BatchNorm2d(hidden), nn.ReLU()),
            *(conv(hidden, width, 1), nn.BatchNorm2d(width)),
        )

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs + self.conv(inputs) if self.residual else self.conv(inputs)


def mobilenetv2(num_classes: int, channels: int) -> nn.Sequential:
    before, stages = 16, []
    for expansion, width, count, stride in MOBILENET_STAGES:
        blocks = [InvertedResidual(before, width, stride, expansion)]
        blocks += [InvertedResidual(width, width, 1, expansion) for _ in range(count - 1)]
        stages.append(nn.Sequential(*blocks))
        before = width
    return nn.Sequential(
        OrderedDict(
            conv1=conv_bn_relu(channels, 16, 3, 2),
            blocks=nn.Sequential(*stages),
            conv2=conv_bn_relu(before, 1280, 1),
            pool=GlobalAverage(),
            classifier=nn.Sequential(nn.Linear(1280, num_classes)),
        )
    )


class ShuffleBlock(nn.Module):
    """Half of the channels pass unchanged, half are convolved, then both are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = conv(half, half, 1), nn.BatchNorm2d(half)
        self.conv2, self.bn2 = conv(half, half, 3, groups=half), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, inputs: Tensor) -> Tensor:
        kept, right = inputs.chunk(2, dim=1)
        right = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(right)))))
        return interleave(kept, F.relu(self.bn3(self.conv3(right))))


class ShuffleDownBlock(nn.Module):
    """Two convolved branches of all channels, at half the size, interleaved."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = width // 2
        self.conv1, self.bn1 = conv(channels, channels, 3, 2, groups=channels), nn.BatchNorm2d(channels)
        self.conv2, self.bn2 = conv(channels, half, 1), nn.BatchNorm2d(half)
        self.conv3, self.bn3 = conv(channels, half, 1), nn.BatchNorm2d(half)
        self.conv4, self.bn4 = conv(half, half, 3, 2, groups=half), nn.BatchNorm2d(half)
        self.conv5, self.bn5 = conv(half, half, 1), nn.BatchNorm2d(half)

    def forward(self, inputs: Tensor) -> Tensor:
        left = F.relu(self.bn2(self.conv2(self.bn1(self.conv1(inputs)))))
        right = self.bn4(self.conv4(F.relu(self.bn3(self.conv3(inputs)))))
        return interleave(left, F.relu(self.bn5(self.conv5(right))))


def interleave(left: Tensor, right: Tensor) -> Tensor:
    """Channels of both in turn, so that either half of the next block sees both."""
    return F.channel_shuffle(torch.cat([left, right], dim=1), 2)


def shufflenetv2(num_classes: int, channels: int) -> nn.Sequential:
    layers = OrderedDict(conv1=conv(channels, 24, 1), bn1=nn.BatchNorm2d(24), relu1=nn.ReLU())
    before = 24
    for number, (width, count) in enumerate(SHUFFLENET_STAGES, start=1):
        layers[f"layer{number}"] = nn.Sequential(
            ShuffleDownBlock(before, width), *[ShuffleBlock(width) for _ in range(count)]
        )
        before = width
    tail = OrderedDict(conv2=conv(before, 1024, 1), bn2=nn.BatchNorm2d(1024), relu2=nn.ReLU(), pool=GlobalAverage())
    return nn.Sequential(layers | tail | {"linear": nn.Linear(1024, num_classes)})


MOBILE = {"mobilenetv2": mobilenetv2, "shufflenetv2": shufflenetv2}
