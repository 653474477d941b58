"""A teacher and a student for tiny images, sized for the 8 x 8 digits: 30 epochs of 1,200 samples take seconds on a CPU.

Trained on those with 40 % flipped labels and one-pixel shifts, they reach about 97.5 and 93.5 % test accuracy (99.6 and 98 %
on clean labels); without the shifts the teacher learns the flipped labels by heart (70 %).
"""

from collections import OrderedDict
from functools import partial

from torch import nn

from kdaif.models.blocks import GlobalAverage, conv_bn_relu


def digits_cnn(num_classes: int, channels: int, *, widths: tuple[int, ...]) -> nn.Sequential:
    """3 x 3 convolutions of these widths, each with BatchNorm; the first keeps the size, each further one halves it."""
    steps = zip((channels, *widths), widths, (1, *[2] * len(widths)))
    blocks = [conv_bn_relu(before, width, 3, stride) for before, width, stride in steps]
    return nn.Sequential(
        OrderedDict(blocks=nn.Sequential(*blocks), pool=GlobalAverage(), linear=nn.Linear(widths[-1], num_classes))
    )


DIGITS = {
    "digits-cnn": partial(digits_cnn, widths=(24, 48, 72)),
    "digits-cnn-small": partial(digits_cnn, widths=(8, 14, 16)),
}
