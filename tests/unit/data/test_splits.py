import numpy as np
import pytest

from kdaif.config import UserError
from kdaif.data.splits import cut, long_tailed, stratified, subset

CLASSES = ("a", "b", "c")
LABELS = np.repeat([0, 1, 2], [60, 30, 10])


def counts(labels: np.ndarray) -> list[int]:
    return np.bincount(labels, minlength=3).tolist()


def test_a_stratified_subset_has_the_size_and_the_shares() -> None:
    rows = stratified(LABELS, 20, np.random.default_rng(0))
    assert counts(LABELS[rows]) == [12, 6, 2]
    assert len(set(rows)) == 20
    assert (np.diff(rows) > 0).all()


def test_a_rare_class_gets_one_at_the_cost_of_the_largest() -> None:
    labels = np.repeat([0, 1, 2], [997, 2, 1])
    assert counts(labels[stratified(labels, 10, np.random.default_rng(0))]) == [8, 1, 1]


@pytest.mark.parametrize("size", range(3, 101))
def test_every_size_is_met_exactly(size: int) -> None:
    chosen = LABELS[stratified(LABELS, size, np.random.default_rng(size))]
    assert len(chosen) == size
    assert (np.abs(np.array(counts(chosen)) - size * np.array([0.6, 0.3, 0.1])) <= 1).all()


def test_cut_gives_two_parts_of_the_whole() -> None:
    stay, off = cut(LABELS, 0.1, np.random.default_rng(3), "data.validation", CLASSES)
    assert sorted([*stay, *off]) == list(range(100))
    assert counts(LABELS[off]) == [6, 3, 1]


def test_the_generator_decides_which_rows() -> None:
    def off(seed: int) -> list[int]:
        return cut(LABELS, 0.2, np.random.default_rng(seed), "f", CLASSES)[1].tolist()

    assert off(1) == off(1)
    assert off(1) != off(2)


def test_subset_of_none_is_everything() -> None:
    assert subset(LABELS, None, np.random.default_rng(0), "f").tolist() == list(range(100))
    assert subset(LABELS, 100, np.random.default_rng(0), "f").tolist() == list(range(100))


@pytest.mark.parametrize("size", [2, 101])
def test_subset_refuses_impossible_sizes(size: int) -> None:
    with pytest.raises(UserError, match=rf"^data.train_size: got {size}, takes 3 .* to 100"):
        subset(LABELS, size, np.random.default_rng(0), "data.train_size")


@pytest.mark.parametrize(
    ("labels", "share", "said"),
    [
        ([0, 0, 0, 1, 1, 2], 0.3, "class 'c' has 1 sample"),
        ([0, 0, 0, 1, 1, 2, 2], 0.1, "cuts 1 of 7 samples"),
        ([0] * 40 + [1] * 2, 0.9, "cuts all samples of class 'b'"),
    ],
)
def test_cut_refuses_what_cannot_be_stratified(labels: list[int], share: float, said: str) -> None:
    with pytest.raises(UserError, match=f"^data.validation: .*{said}"):
        cut(np.array(labels), share, np.random.default_rng(0), "data.validation", CLASSES)


def test_a_long_tail_falls_by_the_same_factor_from_class_to_class() -> None:
    labels = np.repeat([0, 1, 2], 100)
    rows = long_tailed(labels, 25.0, np.random.default_rng(0))
    assert counts(labels[rows]) == [100, 20, 4]
    assert (np.diff(rows) > 0).all()
    assert rows.tolist() != long_tailed(labels, 25.0, np.random.default_rng(1)).tolist()


def test_the_rarest_class_of_a_long_tail_keeps_one() -> None:
    assert counts(LABELS[long_tailed(LABELS, 1e6, np.random.default_rng(0))]) == [60, 1, 1]
