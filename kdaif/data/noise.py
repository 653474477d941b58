"""Label noise put into the data for an experiment: seeded, reproducible, never in the test split (of inputs: corruption.py).

Symmetric noise follows the stricter of the field's two habits: exactly round(rate * n) samples, drawn without regard
to class, get a label uniform over the *other* classes, so the rate is the share of wrong labels. With one seed, the
samples flipped at 20 % are among those flipped at 40 %, with the same wrong label. So it is with numbers (`resampled`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
from jaxtyping import Float32, Int64, UInt8
from scipy.special import ndtr, ndtri

from kdaif.config import NoiseConfig, UserError
from kdaif.data.columns import encode
from kdaif.data.tables import read_file
from kdaif.paths import find_path

Labels = Int64[np.ndarray, "n"] | Float32[np.ndarray, "n"]
Rows = Int64[np.ndarray, "n"]
RATE_SPREAD = 0.1  # kind instance: standard deviation of the samples' flip rates


@dataclass(frozen=True)
class Target:
    """What noise may depend on: a split's true labels, and where its samples lie in the source's table."""

    labels: Labels
    classes: tuple[str, ...]
    rows: Rows  # row numbers in `table`
    table: datasets.Dataset  # the whole table that the split was taken from, all columns
    data_root: Path | None  # noise.file is looked for here too
    inputs: UInt8[np.ndarray, "n channels height width"] | None = None  # the samples' images
    seed: int = 0  # one for all splits: what they have in common is drawn from it


def none(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """The labels as they are."""
    return target.labels


def symmetric(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """Exactly round(rate * n) labels become another class, uniform over all others."""
    order = rng.permutation(len(target.labels))
    steps = rng.integers(1, len(target.classes), size=len(target.labels))
    return _step(target, noise.rate, order, steps)


def pair(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """Exactly round(rate * n) labels become the next class (the last becomes the first)."""
    order = rng.permutation(len(target.labels))
    return _step(target, noise.rate, order, np.ones_like(target.labels))


def matrix(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """Each label is drawn from its class's row of `noise.matrix`, P(given | true); raises `UserError` for another shape."""
    rows, count = noise.matrix or (), len(target.classes)
    if len(rows) != count or any(len(row) != count for row in rows):
        sizes = sorted({len(row) for row in rows})
        raise UserError(
            f"noise.matrix: got {len(rows)} rows of {' or '.join(map(str, sizes)) or 0} entries, "
            f"takes {count} x {count}, one row and column for each class."
        )
    table = np.array(rows)
    sums = table.sum(axis=1)
    if table.min() < 0 or abs(sums - 1).max() > 1e-3:
        wrong = int(np.argmax((table < 0).any(axis=1) | (abs(sums - 1) > 1e-3)))
        raise UserError(f"noise.matrix: row {wrong} is {list(rows[wrong])}, takes entries >= 0 that sum to 1.")
    upper = (table / sums[:, None]).cumsum(axis=1)[target.labels]
    drawn = (rng.random(len(target.labels))[:, None] >= upper).sum(axis=1)
    return np.minimum(drawn, count - 1)  # a row's sum may end a rounding error below 1


def instance(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """What a sample looks like decides whether its label changes, and to which other class (Xia et al., "Part-dependent label
    noise", arXiv 2006.07836, algorithm 2).

    A sample of class y flips at a rate of its own, from a normal around `noise.rate`; the wrong class is drawn from the softmax
    of its pixels times a random matrix of class y. Here the normal is cut at equal distance on both sides of the rate, for the
    share of wrong labels to be the rate on average, and 0 at rate 0; pixels are less the mean image.
    """
    assert target.inputs is not None
    count = len(target.labels)
    reach = min(noise.rate, 1 - noise.rate) / RATE_SPREAD
    below = ndtr(-reach)
    rates = noise.rate + RATE_SPREAD * ndtri(below + rng.random(count) * (1 - 2 * below))
    flipped, place = rng.random(count) < rates, rng.random(count)
    pixels = target.inputs.reshape(count, -1).astype(np.float32)
    pixels -= pixels.mean(axis=0, dtype=np.float64)
    pixels /= 64  # grey values, about the standard deviation of photographs
    labels = target.labels.copy()
    shared = np.random.default_rng([*b"instance", target.seed])  # what misleads is the same in every split
    for label in range(len(target.classes)):
        projection = shared.standard_normal((pixels.shape[1], len(target.classes)), dtype=np.float32)
        rows = np.flatnonzero(flipped & (target.labels == label))
        logits = (pixels[rows] @ projection).astype(np.float64)
        logits[:, label] = -np.inf
        likely = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
        upper = likely.cumsum(axis=1)
        drawn = np.minimum(place[rows, None] * upper[:, -1:], np.nextafter(upper[:, -1:], 0))  # never the end itself
        labels[rows] = (drawn >= upper).sum(axis=1)
    return labels


def column(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """Labels that people gave, from the column `noise.column` of `noise.file`.

    Joined by the column `noise.key` that both tables share; without a key, row i of the file is row i of the source's
    table (its official order). Raises `UserError` for a file, column, key or label that is missing.
    """
    path = find_path(noise.file, target.data_root) if noise.file else None
    if path is None:
        raise UserError(f"noise.file: got {noise.file!r}, takes a table of labels (parquet, csv) that exists.")
    people = read_file(path)
    for field, name in (("column", noise.column), ("key", noise.key)):
        if name is not None and name not in people.column_names:
            raise UserError(
                f"noise.{field}: got {name!r}, {path.name} has the columns {', '.join(people.column_names)}."
            )
    labels = encode(people, str(noise.column), target.classes, "noise.column")
    return labels[_join(target, people, noise.key, path.name)]


def resampled(target: Target, noise: NoiseConfig, rng: np.random.Generator) -> Labels:
    """Exactly round(rate * n) numbers become that of another sample, uniform over all samples with another number.

    What is wrong is distributed as what is right, so no number gives itself away.
    """
    count, labels = len(target.labels), target.labels.copy()
    order, place = rng.permutation(count), rng.random(count)
    ascending = np.sort(labels)
    first, last = (np.searchsorted(ascending, labels, side) for side in ("left", "right"))
    donor = (place * (count - (last - first))).astype(np.int64)  # among the others, in ascending order
    donor += np.where(donor >= first, last - first, 0)
    altered = order[: round(noise.rate * count)]
    labels[altered] = ascending[np.minimum(donor, count - 1)][altered]
    return labels


def _step(target: Target, rate: float, order: Rows, steps: Rows) -> Labels:
    flipped = order[: round(rate * len(order))]
    labels = target.labels.copy()
    labels[flipped] = (labels[flipped] + steps[flipped]) % len(target.classes)
    return labels


def _join(target: Target, people: datasets.Dataset, key: str | None, file: str) -> Rows:
    """For each sample of the target its row in `people`."""
    if key is None:
        if len(people) != len(target.table):
            raise UserError(
                f"noise.key: {file} has {len(people)} rows and the data {len(target.table)}, "
                "takes a column that both have, to join them."
            )
        return target.rows
    if key not in target.table.column_names:
        raise UserError(f"noise.key: got {key!r}, the data has the columns {', '.join(target.table.column_names)}.")
    theirs = pd.Index(people.data.column(key).to_pandas())
    if theirs.has_duplicates:
        raise UserError(
            f"noise.key: column {key!r} of {file} repeats {theirs[theirs.duplicated()][0]}, takes unique keys."
        )
    ours = target.table.data.column(key).to_pandas().iloc[target.rows]
    found = theirs.get_indexer(ours)
    if (found < 0).any():
        raise UserError(
            f"noise.key: {file} has no row for {(found < 0).sum()} samples "
            f"(first {key} = {ours[found < 0].iloc[0]}), takes a label for every one."
        )
    return found.astype(np.int64)


NOISE: dict[str, Callable[[Target, NoiseConfig, np.random.Generator], Labels]] = {
    "none": none,
    "symmetric": symmetric,
    "pair": pair,
    "matrix": matrix,
    "column": column,
    "instance": instance,
    "input": none,  # labels stay: see corruption.py
}
# of labels that are numbers
NUMBER_NOISE: dict[str, Callable[[Target, NoiseConfig, np.random.Generator], Labels]] = {
    "none": none,
    "symmetric": resampled,
    "input": none,
}
