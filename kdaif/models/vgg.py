"""VGG networks for CIFAR (Simonyan and Zisserman, ICLR 2015) with BatchNorm, as the distillation literature cuts them down.

Five blocks, a halving after each of the first three, a global average and one linear layer. Parameters are named as in
RepDistiller and mdistiller, so that their checkpoints load by name.
"""

from collections import OrderedDict
from functools import partial

from torch import nn

from kdaif.models.blocks import GlobalAverage, conv

WIDTHS = (64, 128, 256, 512, 512)


def vgg(num_classes: int, channels: int, *, convs: tuple[int, int, int, int, int]) -> nn.Sequential:
    """A VGG whose five blocks, of `WIDTHS`, hold that many 3 x 3 convolutions each."""
    layers = OrderedDict[str, nn.Module]()
    for number, (width, count) in enumerate(zip(WIDTHS, convs)):
        block: list[nn.Module] = []
        for _ in range(count):
            block += [conv(channels, width, 3, bias=True), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        layers[f"block{number}"] = nn.Sequential(*block)
        if number < 3:
            layers[f"pool{number}"] = nn.MaxPool2d(2)
    return nn.Sequential(layers | {"pool": GlobalAverage(), "classifier": nn.Linear(channels, num_classes)})


VGGS = {
    "vgg8": partial(vgg, convs=(1, 1, 1, 1, 1)),
    "vgg11": partial(vgg, convs=(1, 1, 2, 2, 2)),
    "vgg13": partial(vgg, convs=(2, 2, 2, 2, 2)),
    "vgg16": partial(vgg, convs=(2, 2, 3, 3, 3)),
    "vgg19": partial(vgg, convs=(2, 2, 4, 4, 4)),
}
