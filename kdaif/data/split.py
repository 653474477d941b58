"""Split and Dataset: what the rest of kdaif sees of the data.

A sample's id says where it comes from (``cifar10/train/000017`` = row 17 of the source's train table) and never
changes with subset sizes, seeds or noise. A `Dataset` whose splits share an id cannot be built: influence targets are
never test samples.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Int32, Int64, Shaped, UInt8
from torch import Tensor

from kdaif.config import UserError
from kdaif.data.text import Vocabulary


class Scale(NamedTuple):
    """Labels that are numbers: standardised inside, in units of their own (as the source has them) for people."""

    mean: float
    std: float

    def standard(self, own: Float[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        return ((own - self.mean) / self.std).astype(np.float32)

    def own(self, standard: Float[np.ndarray, "n"]) -> Float32[np.ndarray, "n"]:
        """Rounded to a hundred thousandth of the standard deviation, or 4 would come back as 4.0000002."""
        digits = 5 - math.floor(math.log10(self.std))
        return (np.round(standard.astype(np.float64) * self.std + self.mean, digits) + 0.0).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Split:
    """Samples in a fixed order: sample i is row i of every field."""

    # on the CPU; images: 0..255, stored channels last; sentences: token ids and parts, see text.py
    inputs: UInt8[Tensor, "n channels height width"] | Int32[Tensor, "n 2 length"]
    labels: Int64[Tensor, "n"] | Float32[Tensor, "n"]  # the labels trained on (after noise); numbers: standardised
    # known clean labels, for evaluation only; None: nobody knows
    clean: Int64[Tensor, "n"] | Float32[Tensor, "n"] | None
    ids: Shaped[np.ndarray, "n"]  # str, unique over all splits of a data set
    refs: Shaped[np.ndarray, "n"]  # str, where the sample lies in its source: "train-00000-of-00002.parquet#17"
    corrupted: Bool[Tensor, "n"] | None = None  # whose inputs were damaged on purpose; None: nothing was done to any
    texts: Shaped[np.ndarray, "n parts"] | None = None  # str, the sentence or both of a pair; None: images
    rating: Float32[np.ndarray, "n"] | None = None  # mean of several people's ratings; None: nobody rated
    rating_spread: Float32[np.ndarray, "n"] | None = None  # standard deviation of these ratings
    # str, what else the source says of the samples, by the column's name
    columns: Mapping[str, Shaped[np.ndarray, "n"]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def flipped(self) -> Bool[Tensor, "n"] | None:
        """Which labels differ from the clean ones; None where those are not known."""
        return None if self.clean is None else self.labels != self.clean

    def subset(self, index: Int64[Tensor, "m"] | Bool[Tensor, "n"]) -> "Split":
        """The samples at these positions (in their order), or those where a mask holds."""
        at = index.numpy()

        def chosen(value: Any) -> Any:
            if isinstance(value, Mapping):
                return {name: chosen(column) for name, column in value.items()}
            return None if value is None else value[index if isinstance(value, Tensor) else at]

        return Split(**{field.name: chosen(getattr(self, field.name)) for field in fields(self)})

    def images(self) -> UInt8[np.ndarray, "n height width channels"]:
        """The inputs as image libraries like them; for images only."""
        return self.inputs.permute(0, 2, 3, 1).contiguous().numpy()

    def content(self) -> list[bytes]:
        """What tells samples apart: an image's pixels (height, width, channels), or a sentence or pair in UTF-8."""
        if self.texts is not None:
            return ["\x1f".join(parts).encode() for parts in self.texts]
        return [image.tobytes() for image in self.images()]

    def hashes(self) -> list[str]:
        """sha1 of each sample's `content`, as hexadecimal."""
        return [hashlib.sha1(content, usedforsecurity=False).hexdigest() for content in self.content()]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Train, validation (cut from train: the influence target) and test; `UserError` when they share a sample."""

    name: str
    train: Split
    validation: Split
    test: Split
    classes: tuple[str, ...]  # one for each output of a network; where labels are numbers the name of their column
    mean: tuple[float, ...]  # of the train images / 255, one a channel; empty for sentences
    std: tuple[float, ...]
    vocabulary: Vocabulary | None = None  # what made the token ids of sentences; None: images
    truncated: int = 0  # training sentences that lost tokens
    figures: tuple[str, ...] = ()  # by which the task is judged beside accuracy: names in `evaluate.FIGURES`
    scale: Scale | None = None  # of labels that are numbers; None: they are classes

    def __post_init__(self) -> None:
        check_disjoint(train=self.train, validation=self.validation, test=self.test)

    def words(self, labels: Tensor) -> list[str]:
        """Labels for people."""
        if self.scale is None:
            return [self.classes[label] for label in labels.tolist()]
        return [f"{value:.4g}" for value in self.scale.own(labels.numpy())]

    @cached_property
    def test_copies(self) -> int:
        """How many train and validation samples occur, byte by byte, in test too: worth a line in a report, as test
        accuracy is then too good by up to their share of it."""
        test = set(self.test.hashes())
        return sum(digest in test for split in (self.train, self.validation) for digest in split.hashes())


def check_disjoint(**splits: Split) -> None:
    """Raises `UserError` for the first two splits that share a sample id.

    By ids, not by pixels: real data sets hold a few honest duplicates, which `Dataset.test_copies` counts.
    """
    for (one, first), (other, second) in combinations(splits.items(), 2):
        shared = np.intersect1d(first.ids, second.ids)
        if len(shared):
            raise UserError(
                f"data: the {one} and {other} splits share {len(shared)} samples (first {shared[0]}); "
                "every sample may be in one split only."
            )


def channel_statistics(
    inputs: UInt8[Tensor, "n channels height width"],
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of inputs / 255, one a channel; exact, from the histogram of the 256 values.

    A channel that never changes has standard deviation 1, so that dividing by it is harmless.
    """
    value = torch.arange(256, dtype=torch.float64) / 255
    means, deviations = [], []
    for channel in inputs.unbind(1):
        share = torch.bincount(channel.flatten(), minlength=256).double() / channel.numel()
        mean = (share * value).sum()
        means.append(mean.item())
        deviations.append((share * (value - mean).square()).sum().sqrt().item() or 1.0)
    return tuple(means), tuple(deviations)
