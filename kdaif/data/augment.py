"""Augmentation of whole uint8 batches, every sample on its own.

torchvision's v2 transforms draw one crop and one flip for all images of a batch tensor, which costs accuracy; here each
sample has its own draw, and all are applied in one gather along the rows and one along the columns.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Int64, UInt8
from torch import Tensor

View = Callable[[Tensor], Tensor]  # inputs (batch, ..., width) -> the same inputs, seen in another way


def _as_it_is(inputs: Tensor) -> Tensor:
    return inputs


def _mirrored(inputs: Tensor) -> Tensor:
    return inputs.flip(-1)


@dataclass(frozen=True)
class CropFlip:
    """Pad with black, crop to the old size at a random place, mirror left to right with probability 1/2."""

    pad: int  # pixels on every side: the picture moves by -pad..pad
    flip: bool

    @property
    def views(self) -> tuple[View, ...]:
        """What a sample is seen as when it is judged: as it is, and mirrored where training mirrors it."""
        return (_as_it_is, _mirrored) if self.flip else (_as_it_is,)

    def draw(self, count: int, generator: torch.Generator) -> Int64[Tensor, "count 3"]:
        """What happens to each of `count` samples: its crop's top row and left column (0..2 pad), mirrored (0 or 1)."""
        corner = torch.randint(2 * self.pad + 1, (count, 2), generator=generator)
        mirrored = torch.randint(2 if self.flip else 1, (count, 1), generator=generator)
        return torch.cat([corner, mirrored], dim=1)

    def apply(
        self, inputs: UInt8[Tensor, "batch channels height width"], drawn: Int64[Tensor, "batch 3"]
    ) -> UInt8[Tensor, "batch channels height width"]:
        if self.pad == 0 and not self.flip:
            return inputs
        batch, channels, height, width = inputs.shape
        top, left, mirrored = drawn.unbind(1)
        row = top[:, None] + torch.arange(height, device=inputs.device)
        column = torch.arange(width, device=inputs.device).expand(batch, width)
        column = left[:, None] + torch.where(mirrored[:, None] == 1, width - 1 - column, column)
        padded = F.pad(inputs, (self.pad,) * 4)
        rows = padded.gather(2, row[:, None, :, None].expand(batch, channels, height, padded.shape[3]))
        return rows.gather(3, column[:, None, None, :].expand(batch, channels, height, width))


AUGMENTATIONS = {
    "none": CropFlip(pad=0, flip=False),
    "shift": CropFlip(pad=1, flip=False),  # digits: a mirrored 2 is no 2
    "crop-flip": CropFlip(pad=4, flip=True),  # CIFAR
}
