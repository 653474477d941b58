"""Finding flipped labels: by hand, against scikit-learn, at chance, with ties, NaN and nothing to find."""

import math
import subprocess
import sys
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from kdaif.metrics.detection import auroc, average_precision, detection_curve, precision_at_k, recall_at_share

FIGURES: list[Callable[..., float]] = [
    auroc,
    average_precision,
    lambda score, flipped: precision_at_k(score, flipped, 3),
    lambda score, flipped: recall_at_share(score, flipped, 0.4),
]
SCORE = [0.9, 0.8, 0.7, 0.6, 0.5]
FLIPPED = [True, False, True, False, False]


def test_by_hand() -> None:
    assert auroc(SCORE, FLIPPED) == pytest.approx(5 / 6)  # of 2 x 3 pairs one is in the wrong order
    assert average_precision(SCORE, FLIPPED) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert [precision_at_k(SCORE, FLIPPED, k) for k in (1, 2, 3, 5)] == pytest.approx([1, 1 / 2, 2 / 3, 2 / 5])
    assert [recall_at_share(SCORE, FLIPPED, share) for share in (0, 0.2, 0.4, 0.6, 1)] == [0, 0.5, 0.5, 1, 1]
    curve = detection_curve(SCORE, FLIPPED, [0, 0.2, 0.3, 0.6, 1])
    assert curve.inspected.tolist() == [0, 0.2, 0.3, 0.6, 1]
    assert curve.found.tolist() == pytest.approx([0, 0.5, 0.5, 1, 1])


def test_higher_is_more_harmful() -> None:
    flipped = np.arange(20) < 5
    perfect = flipped.astype(float)
    for figure in FIGURES:
        assert figure(perfect, flipped) == 1
        assert figure(-perfect, flipped) < 0.5
    assert auroc(-perfect, flipped) == 0


@pytest.mark.parametrize("distinct", [3, 20, 10_000])
def test_agrees_with_scikit_learn(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    for _ in range(20):
        flipped = rng.random(200) < 0.2
        score = rng.integers(0, distinct, 200) + 2.0 * flipped
        assert auroc(score, flipped) == pytest.approx(roc_auc_score(flipped, score), abs=1e-12)
        assert average_precision(score, flipped) == pytest.approx(average_precision_score(flipped, score), abs=1e-12)


def test_tied_scores_count_as_in_random_order() -> None:
    score, flipped = np.array([2, 1, 1, 1, 0]), np.array([0, 1, 1, 0, 1], dtype=bool)
    orders = [(0, *middle, 4) for middle in permutations((1, 2, 3))]
    for k in (2, 3):
        assert precision_at_k(score, flipped, k) == pytest.approx(
            np.mean([flipped[[*order]][:k].mean() for order in orders])
        )
    recall = [flipped[[*order]][:2].sum() / flipped.sum() for order in orders]
    assert recall_at_share(score, flipped, 0.4) == pytest.approx(np.mean(recall))


def test_figures_do_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    score, flipped = rng.integers(0, 4, 50), rng.random(50) < 0.3
    for figure in FIGURES:
        expected = figure(score, flipped)
        shuffle = rng.permutation(50)
        assert figure(score[shuffle], flipped[shuffle]) == pytest.approx(expected, abs=1e-12)


def test_a_constant_score_is_at_chance() -> None:
    flipped = np.arange(100) < 30
    constant = np.zeros(100)
    assert auroc(constant, flipped) == 0.5
    assert average_precision(constant, flipped) == pytest.approx(0.3)
    assert precision_at_k(constant, flipped, 17) == pytest.approx(0.3)
    assert recall_at_share(constant, flipped, 0.17) == pytest.approx(0.17)
    curve = detection_curve(constant, flipped)
    assert curve.found == pytest.approx(curve.inspected)


def test_a_random_score_is_at_chance_on_average() -> None:
    rng = np.random.default_rng(1)
    flipped = np.arange(2000) < 600
    scores = rng.random((100, 2000))
    for figure, chance in zip(FIGURES[:2], (0.5, 0.3)):
        assert np.mean([figure(score, flipped) for score in scores]) == pytest.approx(chance, abs=0.01)
    assert np.mean([recall_at_share(score, flipped) for score in scores]) == pytest.approx(0.1, abs=0.01)


def test_unscored_samples_are_left_out() -> None:
    score = [*SCORE, math.nan, math.nan]
    flipped = [*FLIPPED, True, False]
    for figure in FIGURES:
        assert figure(score, flipped) == figure(SCORE, FLIPPED)


def test_infinite_scores_rank_first_and_last() -> None:
    score = [math.inf, 1.0, -math.inf, 0.5]
    assert auroc(score, [True, False, False, False]) == 1
    assert precision_at_k(score, [True, False, False, False], 1) == 1
    assert auroc(score, [False, False, True, False]) == 0


@pytest.mark.parametrize(
    ("score", "flipped"),
    [([], []), ([math.nan], [True]), ([math.nan, math.nan], [True, False])],
    ids=["none", "one", "two"],
)
def test_nothing_scored_gives_nan(score: list[float], flipped: list[bool]) -> None:
    assert all(math.isnan(figure(score, flipped)) for figure in FIGURES)
    assert np.isnan(detection_curve(score, flipped).found).all()


def test_nothing_flipped_and_all_flipped() -> None:
    score = np.arange(10.0)
    nothing, everything = np.zeros(10, dtype=bool), np.ones(10, dtype=bool)
    assert math.isnan(auroc(score, nothing))
    assert math.isnan(auroc(score, everything))
    assert math.isnan(average_precision(score, nothing))
    assert average_precision(score, everything) == 1
    assert precision_at_k(score, nothing, 3) == 0
    assert precision_at_k(score, everything, 3) == 1
    assert math.isnan(recall_at_share(score, nothing))
    assert recall_at_share(score, everything, 0.3) == pytest.approx(0.3)


def test_k_beyond_the_samples_and_below_one() -> None:
    assert precision_at_k(SCORE, FLIPPED, 100) == pytest.approx(2 / 5)
    assert math.isnan(precision_at_k(SCORE, FLIPPED, 0))


@pytest.mark.parametrize(("score", "flipped"), [([1.0], [True, False]), ([[1.0]], [[True]])])
def test_shapes_must_agree(score: list[float], flipped: list[bool]) -> None:
    for figure in FIGURES:
        with pytest.raises(ValueError, match=r"of one length, got shapes"):
            figure(score, flipped)


def test_metrics_bring_in_no_torch() -> None:
    code = "import sys, kdaif.metrics.detection, kdaif.metrics.ranking; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
