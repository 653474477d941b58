"""How well a score finds flipped labels.

`score`: float (n,), higher = more harmful. `flipped`: bool (n,), True where the given label is known to be wrong.

Policy. A sample whose score is NaN (never scored) is left out, with its label; infinite scores are kept. A figure that needs both
flipped and clean samples, or any sample at all, is NaN where they are missing. Tied scores count as if inspected in random order
(the expected value is given), so no figure depends on the order of the rows. Nothing warns; shapes that differ raise ValueError.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Curve(NamedTuple):
    """What inspecting the most harmful samples first finds; a random order finds `found` = `inspected`."""

    inspected: NDArray[np.float64]  # share of the samples looked at, 0..1
    found: NDArray[np.float64]  # share of the flipped labels among them, 0..1; all NaN where nothing is flipped


def auroc(score: ArrayLike, flipped: ArrayLike) -> float:
    """P(a flipped sample scores above a clean one), ties counted half: 0..1, chance 0.5."""
    seen, found = _inspect(score, flipped)
    clean = seen - found
    if found[-1] == 0 or clean[-1] == 0:
        return float("nan")
    return float(np.trapezoid(found / found[-1], clean / clean[-1]))


def average_precision(score: ArrayLike, flipped: ArrayLike) -> float:
    """Mean over the flipped samples of the precision down to their score: 0..1, chance = share of flipped labels."""
    seen, found = _inspect(score, flipped)
    if found[-1] == 0:
        return float("nan")
    return float(np.diff(found) @ (found[1:] / seen[1:]) / found[-1])


def precision_at_k(score: ArrayLike, flipped: ArrayLike, k: int) -> float:
    """Share of flipped labels among the k most harmful samples: 0..1, chance = their share overall.

    With fewer than k scored samples it is the share among all of them; for k < 1 it is NaN.
    """
    seen, found = _inspect(score, flipped)
    k = min(k, int(seen[-1]))
    return float(np.interp(k, seen, found) / k) if k > 0 else float("nan")


def recall_at_share(score: ArrayLike, flipped: ArrayLike, share: float = 0.1) -> float:
    """Share of the flipped labels found by inspecting this share of the samples, most harmful first: 0..1, chance = `share`."""
    return float(detection_curve(score, flipped, np.array([share])).found[0])


def detection_curve(score: ArrayLike, flipped: ArrayLike, inspected: ArrayLike | None = None) -> Curve:
    """The share of flipped labels found at each share inspected (default: 0, 0.01, ..., 1), most harmful first."""
    seen, found = _inspect(score, flipped)
    shares = np.linspace(0, 1, 101) if inspected is None else np.asarray(inspected, dtype=float)
    if found[-1] == 0:
        return Curve(shares, np.full(shares.shape, np.nan))
    return Curve(shares, np.interp(shares * seen[-1], seen, found) / found[-1])


def _inspect(score: ArrayLike, flipped: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Samples seen, and flipped ones among them, down to each distinct score; both start at 0, and run straight between ties."""
    scores, flips = np.asarray(score, dtype=float), np.asarray(flipped, dtype=bool)
    if scores.ndim != 1 or scores.shape != flips.shape:
        raise ValueError(f"score and flipped must be of one length, got shapes {scores.shape} and {flips.shape}")
    scored = ~np.isnan(scores)
    _, group = np.unique(-scores[scored], return_inverse=True)
    seen, found = np.bincount(group), np.bincount(group[flips[scored]], minlength=group.max(initial=-1) + 1)
    return np.append(0, seen.cumsum()), np.append(0, found.cumsum())
