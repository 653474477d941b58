"""Agreement of two orders: by hand, under ties, at chance, with NaN and too little to rank."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from kdaif.metrics.ranking import kendall, spearman, top_k_overlap

CORRELATIONS: list[Callable[..., float]] = [spearman, kendall]


def test_by_hand() -> None:
    a, b = [1, 2, 3, 4], [1, 2, 4, 3]
    assert spearman(a, b) == pytest.approx(1 - 6 * 2 / (4 * 15))  # 1 - 6 sum d^2 / (n (n^2 - 1))
    assert kendall(a, b) == pytest.approx((5 - 1) / 6)  # five pairs agree, one does not
    assert top_k_overlap(a, b, 2) == (1.0, 0.5)
    assert top_k_overlap(a, b, 1) == (0.0, 0.25)


def test_tied_pairs_by_hand() -> None:
    a, b = [1, 1, 2], [1, 2, 3]
    assert kendall(a, b) == pytest.approx(2 / math.sqrt(2 * 3))
    assert spearman(a, b) == pytest.approx(np.corrcoef([1.5, 1.5, 3], [1, 2, 3])[0, 1])


@pytest.mark.parametrize("correlation", CORRELATIONS)
def test_only_the_order_counts(correlation: Callable[..., float]) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    assert correlation(a, np.exp(a)) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)
    assert correlation(np.exp(a), b) == pytest.approx(correlation(a, b))
    assert correlation(a, b) == pytest.approx(correlation(b, a))


def test_top_is_the_highest() -> None:
    a = np.arange(10.0)
    assert top_k_overlap(a, a, 3).share == 1
    assert top_k_overlap(a, -a, 5).share == 0
    assert top_k_overlap(a, -a, 6).share == pytest.approx(2 / 6)


def test_ties_at_the_border_overlap_by_chance_only() -> None:
    constant = np.ones(10)
    assert top_k_overlap(constant, constant, 4) == pytest.approx((0.4, 0.4))
    assert top_k_overlap(np.arange(10.0), constant, 4).share == pytest.approx(0.4)
    # one sample is surely in both, each of three others is the second in either with probability 1/3
    score = [2, 1, 1, 1, 0]
    assert top_k_overlap(score, score, 2).share == pytest.approx((1 + 3 * (1 / 3) ** 2) / 2)


def test_unrelated_orders_are_at_chance_on_average() -> None:
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(2, 200)) for _ in range(200)]
    assert np.mean([spearman(a, b) for a, b in pairs]) == pytest.approx(0, abs=0.02)
    assert np.mean([kendall(a, b) for a, b in pairs]) == pytest.approx(0, abs=0.02)
    overlaps = [top_k_overlap(a, b, 20) for a, b in pairs]
    assert overlaps[0].chance == pytest.approx(0.1)
    assert np.mean([overlap.share for overlap in overlaps]) == pytest.approx(0.1, abs=0.02)


def test_samples_with_a_nan_are_left_out() -> None:
    a, b = [1, 2, 3, 4, math.nan, 9], [1, 2, 4, 3, 5, math.nan]
    for correlation in CORRELATIONS:
        assert correlation(a, b) == correlation(a[:4], b[:4])
    assert top_k_overlap(a, b, 2) == top_k_overlap(a[:4], b[:4], 2)


def test_infinite_scores_rank_first_and_last() -> None:
    a, b = [math.inf, 0, 1, -math.inf], [3, 1, 2, 0]
    assert spearman(a, b) == pytest.approx(1)
    assert kendall(a, b) == pytest.approx(1)
    assert top_k_overlap(a, b, 1).share == 1


@pytest.mark.parametrize(
    ("a", "b"), [([], []), ([1.0], [2.0]), ([1.0, 1.0], [1.0, 2.0]), ([math.nan] * 3, [1.0, 2.0, 3.0])]
)
def test_nothing_to_rank_gives_nan(a: list[float], b: list[float]) -> None:
    assert all(math.isnan(correlation(a, b)) for correlation in CORRELATIONS)


def test_k_beyond_the_samples_and_below_one() -> None:
    assert top_k_overlap([1, 2, 3], [3, 2, 1], 10) == (1.0, 1.0)
    assert all(math.isnan(figure) for figure in top_k_overlap([1, 2, 3], [3, 2, 1], 0))
    assert all(math.isnan(figure) for figure in top_k_overlap([], [], 5))


@pytest.mark.parametrize("figure", [*CORRELATIONS, lambda a, b: top_k_overlap(a, b, 1)])
def test_shapes_must_agree(figure: Callable[..., float]) -> None:
    with pytest.raises(ValueError, match=r"of one length, got shapes \(2,\) and \(3,\)"):
        figure([1, 2], [1, 2, 3])
