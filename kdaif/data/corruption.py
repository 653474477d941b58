"""Damaged inputs put into the data for an experiment: some images lose detail, every label stays.

Exactly round(rate * n) images, drawn without regard to class. With one seed, the images damaged at 20 % are among those
damaged at 40 %, with the same damage.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, UInt8
from scipy.ndimage import gaussian_filter
from torch import Tensor

Images = UInt8[np.ndarray, "n channels height width"]

DEVIATION = 64  # grey values of 255: between severity 3 and 4 of ImageNet-C (arXiv 1903.12261)


def gaussian(images: Images, rng: np.random.Generator) -> Images:
    """Normal noise of 64 grey values on every pixel and channel."""
    noisy = images + rng.normal(0, DEVIATION, images.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


def blur(images: Images, rng: np.random.Generator) -> Images:
    """Gaussian blur of a sixteenth of the longer side, of one pixel at least."""
    width = max(1.0, max(images.shape[2:]) / 16)
    return np.rint(gaussian_filter(images.astype(np.float32), (0, 0, width, width))).clip(0, 255).astype(np.uint8)


def occlusion(images: Images, rng: np.random.Generator) -> Images:
    """A grey rectangle, half as high and wide as the image, at a random place: a quarter of it is hidden."""
    height, width = images.shape[2:]
    sides = (height + 1) // 2, (width + 1) // 2
    corners = rng.random((len(images), 2)) * (height - sides[0] + 1, width - sides[1] + 1)
    hidden = images.copy()
    for image, (top, left) in zip(hidden, corners.astype(int)):
        image[:, top : top + sides[0], left : left + sides[1]] = 128
    return hidden


CORRUPTIONS: dict[str, Callable[[Images, np.random.Generator], Images]] = {
    "gaussian": gaussian,
    "blur": blur,
    "occlusion": occlusion,
}


def corrupt(
    inputs: UInt8[Tensor, "n channels height width"],
    rate: float,
    damage: Callable[[Images, np.random.Generator], Images],
    rng: np.random.Generator,
) -> tuple[UInt8[Tensor, "n channels height width"], Bool[Tensor, "n"]]:
    """A copy of the inputs with a share `rate` of them damaged, and which ones."""
    chosen = rng.permutation(len(inputs))[: round(rate * len(inputs))]
    result, corrupted = inputs.clone(), torch.zeros(len(inputs), dtype=torch.bool)
    if len(chosen):
        result[chosen] = torch.from_numpy(damage(np.ascontiguousarray(inputs.numpy()[chosen]), rng))
        corrupted[chosen] = True
    return result, corrupted
