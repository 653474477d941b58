"""Batches of a split that lives on the device as one tensor, of pixels or of token ids: no workers, no copies from the host."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int32, Int64, UInt8
from torch import Tensor

from kdaif.config import lookup
from kdaif.data.augment import AUGMENTATIONS
from kdaif.data.split import Split
from kdaif.data.text import lengths

WINDOW = 50  # batches within which shuffled sentences are sorted by length


@dataclass(frozen=True, eq=False)
class Batch:
    """All on the device; images are normalised and in channels-last memory format, sentences as in text.py."""

    index: Int64[Tensor, "batch"]  # positions in the split
    inputs: Float[Tensor, "batch channels height width"] | Int32[Tensor, "batch 2 length"]
    labels: Int64[Tensor, "batch"] | Float[Tensor, "batch"]


class Batches:
    """Iterates once over a split: every sample once, in batches of `batch_size`.

    Order and augmentation depend on (seed, epoch) alone, so a resumed run sees the same stream; the order is the same
    with any augmentation, and a sample's augmentation with any batch size. The last batch may be smaller; a single
    sample left over joins the batch before it, as BatchNorm cannot train on one.
    For evaluation: ``shuffle=False, augment="none"``. Images then come in the split's order, sentences by length;
    `Batch.index` says where each belongs. When shuffled, sentences of like length share a batch, drawn from the same
    `WINDOW` batches of a random order: a batch costs as many tokens as its longest member has.

    Raises `UserError` for an unknown augmentation.
    """

    def __init__(
        self,
        split: Split,
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        *,
        shuffle: bool,
        augment: str,
        device: torch.device | str,
        seed: int,
    ) -> None:
        self.epoch = 0
        self._augmentation = lookup(AUGMENTATIONS, augment, "data.augment")
        self._inputs = split.inputs.to(device)
        self._labels = split.labels.to(device)
        self._lengths = lengths(split.inputs) if split.texts is not None else None
        self._size = batch_size
        self._mean = torch.tensor(mean, device=device).view(1, -1, 1, 1)
        self._std = torch.tensor(std, device=device).view(1, -1, 1, 1)
        self._shuffle, self._seed = shuffle, seed
        starts = list(range(0, len(split), batch_size))
        if len(starts) > 1 and len(split) - starts[-1] == 1 and batch_size > 1:
            starts.pop()
        self._bounds = list(zip(starts, [*starts[1:], len(split)]))

    def set_epoch(self, epoch: int) -> None:
        """Chooses the order and augmentation of the next iteration."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._bounds)

    def __iter__(self) -> Iterator[Batch]:
        count, device = len(self._labels), self._labels.device
        # drawn on the CPU, so that every device sees the same stream
        state = np.random.SeedSequence([self._seed, self.epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(state[0]))
        order = torch.randperm(count, generator=generator) if self._shuffle else torch.arange(count)
        if self._lengths is not None:
            for index in self._of_like_length(order, self._lengths, generator):
                yield Batch(index.to(device), self._inputs[index.to(device)], self._labels[index.to(device)])
            return
        drawn = self._augmentation.draw(count, generator).to(device)
        for start, stop in self._bounds:
            index = order[start:stop].to(device)
            inputs = self._augmentation.apply(self._inputs[index], drawn[index])
            yield Batch(index, self._normalised(inputs), self._labels[index])

    @property
    def smallest(self) -> int:
        """Samples of the smallest batch."""
        return min(stop - start for start, stop in self._bounds)

    def whole(self) -> Batch:
        """All samples as one batch, in the split's order, without augmentation."""
        inputs = self._inputs if self._lengths is not None else self._normalised(self._inputs)
        return Batch(torch.arange(len(self._labels), device=self._labels.device), inputs, self._labels)

    def _of_like_length(
        self, order: Int64[Tensor, "n"], lengths: Int64[Tensor, "n"], generator: torch.Generator
    ) -> list[Int64[Tensor, "_"]]:
        """The positions in each batch."""
        windows = order.split(WINDOW * self._size if self._shuffle else len(order))
        order = torch.cat([window[lengths[window].argsort(stable=True)] for window in windows])
        batches = [order[start:stop] for start, stop in self._bounds]
        if self._shuffle:
            batches = [batches[number] for number in torch.randperm(len(batches), generator=generator).tolist()]
        return batches

    def _normalised(self, inputs: UInt8[Tensor, "batch c h w"]) -> Float[Tensor, "batch c h w"]:
        floats = inputs.to(torch.float32, memory_format=torch.channels_last)
        return floats.div_(255).sub_(self._mean).div_(self._std)
