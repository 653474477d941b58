"""Layers that several families of networks share.

No activation works in place: the influence engine keeps what goes into each layer.
"""

from jaxtyping import Float
from torch import Tensor, nn


def conv(channels: int, width: int, kernel: int, stride: int = 1, *, groups: int = 1, bias: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size at stride 1, with He's normal initialisation (variance 2 / fan-out)."""
    layer = nn.Conv2d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer


def conv_bn_relu(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(conv(channels, width, kernel, stride), nn.BatchNorm2d(width), nn.ReLU())


class GlobalAverage(nn.Module):
    """The mean over height and width: any image size ends in one vector."""

    def forward(self, inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch channels"]:
        return inputs.mean((2, 3))
