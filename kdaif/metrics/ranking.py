"""How far two scores of the same samples agree in their order.

Both: float (n,). Policy. A sample with NaN in either is left out; infinite scores are kept (they rank first or last). Fewer
than two samples, or a constant score, give NaN for the correlations. Nothing warns; shapes that differ raise ValueError.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats


class Overlap(NamedTuple):
    share: float  # of the k highest, how many are among the k highest of the other score too, 0..1
    chance: float  # the share that two unrelated orders reach: k / n


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Correlation of the ranks, ties averaged: -1..1, chance 0."""
    a, b = _pairs(first, second)
    return float(stats.spearmanr(a, b).statistic) if _varies(a) and _varies(b) else float("nan")


def kendall(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b, agreeing less disagreeing pairs with ties allowed for: -1..1, chance 0."""
    a, b = _pairs(first, second)
    return float(stats.kendalltau(a, b).statistic) if _varies(a) and _varies(b) else float("nan")


def top_k_overlap(first: ArrayLike, second: ArrayLike, k: int) -> Overlap:
    """How much of the k highest of both scores is shared (all, where there are fewer samples).

    Samples tied at the border belong to the k highest with equal probability, so constant scores overlap by chance only.
    NaN without samples or for k < 1.
    """
    a, b = _pairs(first, second)
    k = min(k, len(a))
    if k < 1:
        return Overlap(float("nan"), float("nan"))
    return Overlap(share=float(_membership(a, k) @ _membership(b, k) / k), chance=k / len(a))


def _membership(score: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Each sample's probability to be among the k highest, when ties are broken at random."""
    border = np.partition(score, -k)[-k]
    above, tied = score > border, score == border
    return above + tied * (k - above.sum()) / tied.sum()


def _pairs(first: ArrayLike, second: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.ndim != 1 or a.shape != b.shape:
        raise ValueError(f"both scores must be of one length, got shapes {a.shape} and {b.shape}")
    both = ~(np.isnan(a) | np.isnan(b))
    return a[both], b[both]


def _varies(score: NDArray[np.float64]) -> bool:
    return len(score) > 1 and score.min() < score.max()
