"""Rank graduation: accuracy, robustness, explainability and fairness as one measure between two orders.

RGA (rank graduation accuracy; Giudici, Raffinetti, "RGA: a unified measure of predictive accuracy", Advances in Data Analysis and
Classification, 2024) puts the reference in the order of the scores and asks where its concordance curve lies between
the Lorenz curve (same order: 1) and the dual Lorenz curve (reverse: 0); chance is 0.5. The rest (Babaei, Giudici, Raffinetti,
"A rank graduation box for SAFE AI", Expert Systems with Applications 125239, 2025) is RGA between other things:
RGR of predictions and perturbed ones, RGE of predictions and those without a feature, RGF of groups.

Policy. A sample with NaN in either argument is left out, in all its columns. Infinite scores are kept (they rank first or
last). A reference that is constant or infinite, or of fewer than two samples, gives NaN: there is no order, or no mean, to
agree with. An average leaves out classes and groups without a figure, and is NaN where none has one. Nothing warns;
shapes that do not fit raise ValueError.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from kdaif.metrics.ranking import kendall, spearman, top_k_overlap

Floats = NDArray[np.float64]


class Graduation(NamedTuple):
    """A figure of each output and its averages: all 0..1."""

    by_output: Floats  # (outputs,): one-vs-rest for classes, one entry for binary and regression; NaN without a figure
    macro: float  # every output counts the same
    weighted: float  # every output counts as often as it occurs


class TopClass(NamedTuple):
    """What a perturbation does to the predicted class."""

    rgr: float  # of its probability, before and after: 0..1, chance 0.5
    agreement: float  # share of the samples whose predicted class stays, 0..1; ties go to the first class


class Fairness(NamedTuple):
    by_group: dict[Any, float]  # the measure within each group, NaN without a figure
    gap: float  # highest less lowest, 0..1: 0 is fair; NaN with fewer than two figures


class RankRobustness(NamedTuple):
    """How far the order of the same samples survives from one run (seed, noise rate, perturbation) to another."""

    rgr: float  # 0..1, chance 0.5; the first score is the reference
    spearman: float  # -1..1, chance 0
    kendall: float  # -1..1, chance 0
    top_k_overlap: float  # share of the k highest that both have, 0..1
    chance: float  # of that overlap: k / n


def rga(reference: ArrayLike, scores: ArrayLike) -> float:
    """Rank graduation accuracy of `scores` (n,) for `reference` (n,), a target of numbers or 0/1: 0..1, chance 0.5.

    With mid-ranks r: RGA = (1 + cov(reference, r(scores)) / cov(reference, r(reference))) / 2. For 0/1 it is AUROC with ties
    counted half. Only the order of the scores counts; of the reference, the values do. Not symmetric.
    """
    y, s = (np.asarray(values, dtype=float) for values in (reference, scores))
    if y.ndim != 1 or y.shape != s.shape:
        raise ValueError(f"reference and scores must be of one length, got shapes {y.shape} and {s.shape}")
    both = ~(np.isnan(y) | np.isnan(s))
    y, s = y[both], s[both]
    with np.errstate(over="ignore", invalid="ignore"):
        span = y.max(initial=-np.inf) - y.min(initial=np.inf)
        if not 0 < span < np.inf:
            return float("nan")
        y = (y - y.min()) / span  # distance from the least is exact for close values, as that from the mean is not
    ratio = (y @ _centred_ranks(s)) / (y @ _centred_ranks(y))
    return float(np.clip((1 + ratio) / 2, 0, 1))


def rga_one_vs_rest(labels: ArrayLike, scores: ArrayLike) -> Graduation:
    """RGA of each class against all others; `labels`: int (n,), class of each sample, negative = unknown, left out;
    `scores`: (n, classes). Weighted by the share of samples that are of the class."""
    y, s = np.asarray(labels), np.asarray(scores, dtype=float)
    if s.ndim != 2 or y.shape != s.shape[:1]:
        raise ValueError(f"takes labels (n,) and scores (n, classes), got shapes {y.shape} and {s.shape}")
    if len(y) and (y.max() >= s.shape[1] or (y != np.floor(y)).any()):
        raise ValueError(f"labels must be whole numbers below {s.shape[1]}, the number of columns of scores")
    known = (y >= 0) & ~np.isnan(s).any(axis=1)
    is_class = y[known, None] == np.arange(s.shape[1])
    return _graduation(is_class.astype(float), s[known], is_class.sum(axis=0))


def rgr(original: ArrayLike, perturbed: ArrayLike) -> Graduation:
    """Rank graduation robustness: RGA of the outputs under perturbation, (n,) or (n, outputs), for the original ones.

    1 = no order changed, 0.5 = as of unrelated outputs. Weighted by the share of samples whose original output is highest
    there. The mean over many classes hardly moves, as most of their probabilities are small: see `top_class` beside it.
    """
    first, second = _outputs(original, perturbed)
    return _graduation(first, second, np.bincount(first.argmax(axis=1), minlength=first.shape[1]))


def rge(full: ArrayLike, without: ArrayLike) -> Graduation:
    """Rank graduation explainability of a feature: 1 - RGR of the outputs without it, (n,) or (n, outputs), for the full ones.

    0 = the feature decides no order, 0.5 = all of it, above = the order turns. Weighted as in `rgr`.
    """
    kept = rgr(full, without)
    return Graduation(1 - kept.by_output, 1 - kept.macro, 1 - kept.weighted)


def top_class(original: ArrayLike, perturbed: ArrayLike) -> TopClass:
    """RGR of the originally predicted class's probability, and how often that class stays predicted; both (n, classes)."""
    first, second = _outputs(original, perturbed)
    if not len(first):
        return TopClass(float("nan"), float("nan"))
    top = first.argmax(axis=1)
    rows = np.arange(len(top))
    return TopClass(rga(first[rows, top], second[rows, top]), float((second.argmax(axis=1) == top).mean()))


def rgf(first: ArrayLike, second: ArrayLike, groups: ArrayLike, measure: Callable[[Any, Any], float] = rga) -> Fairness:
    """Rank graduation fairness: `measure` within each of the `groups` (n,), and how far they lie apart.

    `measure` is RGA of scores for a target; for classes pass `lambda y, s: rga_one_vs_rest(y, s).macro`, for how evenly
    robustness is spread `lambda a, b: rgr(a, b).macro`. Samples whose group is NaN are left out.
    """
    a, b, g = np.asarray(first), np.asarray(second), np.asarray(groups)
    if g.ndim != 1 or not len(a) == len(b) == len(g):
        raise ValueError(f"takes a group for each sample, got shapes {a.shape}, {b.shape} and {g.shape}")
    names = [name for name in np.unique(g).tolist() if name == name]  # NaN alone differs from itself
    by_group = {name: measure(a[g == name], b[g == name]) for name in names}
    figures = [figure for figure in by_group.values() if not np.isnan(figure)]
    return Fairness(by_group, max(figures) - min(figures) if len(figures) > 1 else float("nan"))


def rank_robustness(first: ArrayLike, second: ArrayLike, k: int) -> RankRobustness:
    """All that is said of two scores (n,) of the same samples; `first` is the reference, the highest k are the top."""
    overlap = top_k_overlap(first, second, k)
    return RankRobustness(
        rga(first, second), spearman(first, second), kendall(first, second), overlap.share, overlap.chance
    )


def _centred_ranks(values: Floats) -> Floats:
    """Ranks less their mean, ties averaged; exact, so that reversed values have exactly the negative ranks."""
    return stats.rankdata(values) - (len(values) + 1) / 2


def _outputs(first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
    """Both as (n, outputs), without the samples that have a NaN."""
    a, b = (np.asarray(values, dtype=float) for values in (first, second))
    if a.ndim not in (1, 2) or a.shape != b.shape or a.shape[1:] == (0,):
        raise ValueError(f"takes two outputs of one shape, (n,) or (n, outputs), got {a.shape} and {b.shape}")
    a, b = (values.reshape(len(values), *values.shape[1:] or (1,)) for values in (a, b))
    whole = ~(np.isnan(a) | np.isnan(b)).any(axis=1)
    return a[whole], b[whole]


def _graduation(reference: Floats, scores: Floats, counts: NDArray[np.int64]) -> Graduation:
    by_output = np.array([rga(reference[:, i], scores[:, i]) for i in range(scores.shape[1])])
    defined = ~np.isnan(by_output)
    return Graduation(by_output, _mean(by_output[defined]), _mean(by_output[defined], counts[defined]))


def _mean(values: Floats, counts: NDArray[np.int64] | None = None) -> float:
    counts = np.ones(len(values), np.int64) if counts is None else counts
    return float(values @ counts / counts.sum()) if counts.sum() else float("nan")
