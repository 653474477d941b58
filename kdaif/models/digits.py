"""A teacher and a student for tiny images, sized for the 8 x 8 digits: 30 epochs of 1,200 samples take seconds on a CPU.

On clean labels they reach about 99 and 98 % test accuracy. With 40 % flipped labels the teacher reaches 93 % in 8 epochs, but
has learnt them by heart after 30 (73 %), unless the images are shifted by a pixel (96 %).
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
