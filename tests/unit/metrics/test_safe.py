"""Rank graduation: by hand, against scikit-learn, safeaipackage and the curves that define it; NaN, ties, groups."""

import importlib
import math
import sys
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import roc_auc_score

from kdaif.metrics.ranking import kendall, spearman, top_k_overlap
from kdaif.metrics.safe import rank_robustness, rga, rga_one_vs_rest, rge, rgf, rgr, top_class

NAN = float("nan")
PAIRS = st.integers(2, 40).flatmap(
    lambda n: st.tuples(*[arrays(float, n, elements=st.integers(-5, 5).map(float)) for _ in range(2)])
)


def tied_cases(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    cases = []
    for number in range(count):
        n = int(rng.integers(3, 200))
        y = rng.integers(-4, 5, n) * 1.5 if number % 2 else rng.normal(size=n)
        y[:2] = 0, 1  # never constant
        cases.append((y, rng.integers(0, int(rng.integers(1, 30)) + 1, n).astype(float)))
    return cases


def by_curves(y: np.ndarray, s: np.ndarray) -> float:
    """The definition: area between dual Lorenz and concordance curve, of that between dual Lorenz and Lorenz curve."""
    tied = np.array([y[s == value].mean() for value in s])

    def curve(values: np.ndarray) -> np.ndarray:
        return np.cumsum(values)

    lorenz, dual = curve(np.sort(y)), curve(np.sort(y)[::-1])
    concordance = curve(tied[np.argsort(s, kind="stable")])
    return float((dual - concordance).sum() / (dual - lorenz).sum())


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """safeaipackage's core; its package imports two boosting libraries that the core does not use."""
    for name, classes in {
        "catboost": ["CatBoostClassifier", "CatBoostRegressor"],
        "xgboost": ["XGBClassifier", "XGBRegressor"],
    }.items():
        stand_in = ModuleType(name)
        for each in classes:
            setattr(stand_in, each, type(each, (), {}))
        monkeypatch.setitem(sys.modules, name, stand_in)
    return importlib.import_module("safeaipackage.core")


def test_agrees_with_safeaipackage_on_300_tied_cases(package: ModuleType) -> None:
    for y, s in tied_cases(300):
        assert rga(y, s) == pytest.approx(package.rga(list(y), list(s)), abs=1e-12)


def test_agrees_with_the_curves_that_define_it() -> None:
    for y, s in tied_cases(300):
        assert rga(y, s) == pytest.approx(by_curves(y, s), abs=1e-12)


@pytest.mark.parametrize("distinct", [2, 10, 10_000])
def test_is_auroc_for_binary_labels(distinct: int) -> None:
    rng = np.random.default_rng(distinct)
    for _ in range(50):
        y = rng.random(200) < 0.2
        s = rng.integers(0, distinct, 200) + y
        assert rga(y, s) == pytest.approx(roc_auc_score(y, s), abs=1e-12)


def test_by_hand() -> None:
    # ranks of the scores, centred: 0, -1, 1; of the reference: -1, 0, 1: (0 - 2 + 6) / (-1 + 0 + 6) = 4 / 5
    assert rga([1, 2, 6], [2, 1, 3]) == pytest.approx((1 + 4 / 5) / 2)
    assert rga([2, 1, 3], [1, 2, 6]) == pytest.approx((1 + 1 / 2) / 2)  # not symmetric


@given(PAIRS)
def test_range_and_reversal(pair: tuple[np.ndarray, np.ndarray]) -> None:
    y, s = pair
    if np.ptp(y) == 0:
        assert math.isnan(rga(y, s))
        return
    assert 0 <= rga(y, s) <= 1
    assert (rga(y, y), rga(y, -y), rga(y, np.full(len(y), 7.0))) == (1, 0, 0.5)
    assert rga(y, -s) == pytest.approx(1 - rga(y, s), abs=1e-12)
    assert rga(y, np.exp(s)) == rga(y, s)  # the order of the scores is all that counts
    assert rga(3 * y - 8, s) == pytest.approx(rga(y, s), abs=1e-12)
    assert rga(-y, s) == pytest.approx(1 - rga(y, s), abs=1e-12)
    shuffle = np.random.default_rng(0).permutation(len(y))
    assert rga(y[shuffle], s[shuffle]) == pytest.approx(rga(y, s), abs=1e-12)


@given(arrays(float, st.integers(0, 12), elements=st.floats()), st.data())
def test_any_floats_give_a_share_or_nan(y: np.ndarray, data: st.DataObject) -> None:
    s = data.draw(arrays(float, len(y), elements=st.floats()))
    figure = rga(y, s)
    assert math.isnan(figure) or 0 <= figure <= 1


def test_random_scores_are_at_chance() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([rga(*rng.normal(size=(2, 200))) for _ in range(300)]) == pytest.approx(0.5, abs=0.01)


def test_nan_is_left_out_infinite_scores_rank_and_infinite_references_have_no_figure() -> None:
    assert rga([0, 1, NAN, 2, 5], [1, 0, 3, 4, NAN]) == rga([0, 1, 2], [1, 0, 4])
    assert rga([0, 1, 2], [-math.inf, 0, math.inf]) == 1
    assert math.isnan(rga([0, 1, math.inf], [0, 1, 2]))
    assert math.isnan(rga([math.inf, math.inf], [0, 1]))
    for y in ([], [1], [2, 2, 2], [NAN, NAN, 1]):
        assert math.isnan(rga(y, np.arange(len(y))))


def test_close_values_keep_their_order() -> None:
    y = 1e9 + np.array([0, 1, 2]) * 1e-6
    assert (rga(y, y), rga(y, -y)) == (1, 0)


# --- classes ---------------------------------------------------------------------------------------------------------


def test_one_vs_rest_is_auroc_of_each_class() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice(4, 300, p=[0.6, 0.2, 0.15, 0.05])
    scores = rng.dirichlet(np.ones(4), 300) + 0.2 * np.eye(4)[labels]
    result = rga_one_vs_rest(labels, scores)
    aurocs = [roc_auc_score(labels == k, scores[:, k]) for k in range(4)]
    assert result.by_output == pytest.approx(aurocs, abs=1e-12)
    assert result.macro == pytest.approx(np.mean(aurocs))
    assert result.weighted == pytest.approx(np.average(aurocs, weights=np.bincount(labels)))


def test_absent_classes_and_unknown_labels_are_left_out() -> None:
    labels, scores = np.array([0, 1, 1, 0, -1]), np.random.default_rng(0).random((5, 3))
    result = rga_one_vs_rest(labels, scores)
    assert math.isnan(result.by_output[2])
    assert result.macro == pytest.approx(result.by_output[:2].mean())
    assert result.by_output[:2] == pytest.approx(rga_one_vs_rest(labels[:4], scores[:4]).by_output[:2])
    assert all(math.isnan(value) for value in rga_one_vs_rest(np.zeros(4, int), np.zeros((4, 2)))[1:])
    gap = scores.copy()
    gap[0, 2] = NAN  # a sample is left out whole
    assert rga_one_vs_rest(labels, gap).macro == pytest.approx(rga_one_vs_rest(labels[1:], scores[1:]).macro)


def test_robustness_of_regression_binary_and_class_outputs() -> None:
    rng = np.random.default_rng(2)
    one, other = rng.normal(size=(2, 50))
    single = rgr(one, other)
    assert single.by_output.tolist() == [single.macro] == [single.weighted] == [rga(one, other)]
    assert rgr(one, np.exp(one)).macro == 1
    before, after = rng.dirichlet([3, 1, 1], 80), rng.dirichlet([1, 1, 1], 80)
    many = rgr(before, after)
    assert many.by_output == pytest.approx([rga(before[:, k], after[:, k]) for k in range(3)])
    counts = np.bincount(before.argmax(1), minlength=3)
    assert many.weighted == pytest.approx(np.average(many.by_output, weights=counts))
    assert rgr(before, before)[1:] == (1, 1)
    assert rgr(before, np.ones_like(before))[1:] == (0.5, 0.5)


def test_explainability_is_what_robustness_leaves() -> None:
    x = np.random.default_rng(3).normal(size=(200, 2))
    full = x @ [3.0, 0.5]
    first, second = (rge(full, np.delete(x, k, 1) @ np.delete([3.0, 0.5], k)).macro for k in (0, 1))
    assert 0 <= second < 0.05 < 0.3 < first <= 0.6
    assert rge(full, full).macro == 0
    assert rge(full, np.zeros(200)).macro == 0.5


def test_the_top_class_moves_where_the_mean_over_classes_hardly_does() -> None:
    rng = np.random.default_rng(4)
    logits = 2 * rng.normal(size=(500, 100))
    noisy = logits + rng.normal(size=logits.shape)
    before, after = (np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (logits, noisy))
    top = top_class(before, after)
    assert rgr(before, after).macro > 0.9 > top.rgr > 0.5
    assert top.agreement == pytest.approx((before.argmax(1) == after.argmax(1)).mean())
    assert top_class(before, before) == (1, 1)
    assert all(math.isnan(value) for value in top_class(np.empty((0, 3)), np.empty((0, 3))))


def test_fairness_is_the_gap_between_groups() -> None:
    y, s = np.array([0, 1, 2, 0, 1, 2, 5, 5]), np.array([0, 1, 2, 2, 1, 0, 1, 2])
    result = rgf(y, s, ["a"] * 3 + ["b"] * 3 + ["c"] * 2)
    assert (result.by_group["a"], result.by_group["b"], result.gap) == (1, 0, 1)
    assert math.isnan(result.by_group["c"])
    assert math.isnan(rgf(y, s, ["a"] * 8).gap)
    assert list(rgf(y, s, [0, 0, 0, 1, 1, 1, NAN, NAN]).by_group) == [0, 1]
    labels, scores = np.array([0, 1, 0, 1]), np.array([[1, 0], [0, 1], [0, 1], [1, 0]])
    classes = rgf(labels, scores, [0, 0, 1, 1], lambda a, b: rga_one_vs_rest(a, b).macro)
    assert classes.by_group == {0: 1, 1: 0}


# --- two rankings ----------------------------------------------------------------------------------------------------


def test_rank_robustness_puts_the_figures_together() -> None:
    a, b = np.random.default_rng(5).normal(size=(2, 60))
    overlap = top_k_overlap(a, b, 6)
    assert rank_robustness(a, b, 6) == (rga(a, b), spearman(a, b), kendall(a, b), overlap.share, overlap.chance)
    assert rank_robustness(a, a, 6) == pytest.approx((1, 1, 1, 1, 0.1))


@pytest.mark.parametrize(
    "call",
    [
        lambda: rga([1, 2], [1, 2, 3]),
        lambda: rga([[1]], [[1]]),
        lambda: rga_one_vs_rest([0, 1], [0.5, 0.5]),
        lambda: rga_one_vs_rest([0, 2], [[0.5, 0.5]] * 2),
        lambda: rga_one_vs_rest([0, 0.5], [[0.5, 0.5]] * 2),
        lambda: rgr([1, 2], [[1, 2]]),
        lambda: rgr(np.empty((2, 0)), np.empty((2, 0))),
        lambda: rgf([1, 2], [1, 2], ["a"]),
    ],
)
def test_shapes_and_labels_must_fit(call) -> None:
    with pytest.raises(ValueError, match=r"must be|takes"):
        call()
