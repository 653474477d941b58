"""How the values of samples move over the epochs: their mean and variability, their spread epoch by epoch.

`values`: float (epochs, samples). Policy. NaN is "not measured" and left out; what was never measured is NaN. Nothing warns.
Mean and variability of the given label's probability are the data map of Swayamdipta et al., "Dataset cartography" (EMNLP 2020).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Moments(NamedTuple):
    mean: NDArray[np.float32]  # of each sample over its epochs
    std: NDArray[np.float32]  # population standard deviation over the epochs: its variability


class Heat(NamedTuple):
    edges: NDArray[np.float64]  # (bins + 1,) equal steps; values beyond the ends count in the outermost bins
    share: NDArray[np.float64]  # (epochs, bins) share of the epoch's measured samples, rows sum to 1 (0 without any)


def moments(values: NDArray[np.floating]) -> Moments:
    """Mean and standard deviation of every sample over the epochs: (samples,) each."""
    measured = np.isfinite(values)
    count = np.maximum(measured.sum(0), 1).astype(np.float32)
    never = ~measured.any(0)
    filled = values if measured.all() else np.where(measured, values, np.float32(0))
    mean = filled.sum(0, dtype=np.float64) / count
    away = np.where(measured, filled - mean.astype(np.float32), np.float32(0))
    std = np.sqrt(np.einsum("es,es->s", away, away) / count)
    return Moments(np.where(never, np.nan, mean).astype(np.float32), np.where(never, np.nan, std).astype(np.float32))


def heat(values: NDArray[np.floating], bins: int = 40) -> Heat:
    """Share of the samples in each bin at each epoch; the bins span the middle 99.8 % of all values."""
    finite = np.isfinite(values)
    some = values[:, :: max(1, values.shape[1] // 5000)] if values.size else values
    some = some[np.isfinite(some)]
    low, high = np.quantile(some, [0.001, 0.999]) if len(some) else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)
    share = np.zeros((len(values), bins))
    for epoch, (row, seen) in enumerate(zip(values, finite, strict=True)):
        place = (row[seen] - low) * (bins / (high - low))
        counts = np.bincount(place.clip(0, bins - 1).astype(np.int64), minlength=bins)
        share[epoch] = counts / max(1, counts.sum())
    return Heat(edges, share)


def bands(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """10th, 50th and 90th percentile of each epoch's measured samples: (epochs, 3)."""
    found = np.full((len(values), 3), np.nan)
    for epoch, row in enumerate(values):
        measured = row[np.isfinite(row)]
        if len(measured):
            found[epoch] = np.percentile(measured, [10, 50, 90])
    return found


def stratified(strata: NDArray[np.integer], limit: int, least: int = 50) -> NDArray[np.int64]:
    """Rows, ascending, at most about `limit`: an equal share of every stratum, but `least` of a small one; seeded.

    `strata`: int (samples,), the stratum of each. All rows where there are no more than `limit`.
    """
    if len(strata) <= limit:
        return np.arange(len(strata))
    order = np.random.default_rng(0).permutation(len(strata))
    share = limit / len(strata)
    picked = []
    for stratum in np.unique(strata):
        members = order[strata[order] == stratum]
        picked.append(members[: min(len(members), max(least, round(share * len(members))))])
    return np.sort(np.concatenate(picked))
