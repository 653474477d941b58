"""Damaged images and sentences: how many, which, and that the rest stays."""

import numpy as np
import pytest

from kdaif.config import UserError
from kdaif.data.corruption import CORRUPTIONS, TEXT_CORRUPTIONS, corrupt, damage_of, without_part

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (101, 9, 8, 3), dtype=np.uint8).transpose(0, 3, 1, 2)  # channels last
TEXTS = np.array(
    [[" ".join(f"w{i}" for i in range(RNG.integers(2, 20))) for _ in range(2)] for _ in range(101)], object
)
INPUTS = dict.fromkeys(CORRUPTIONS, IMAGES) | dict.fromkeys(TEXT_CORRUPTIONS, TEXTS)
EACH = pytest.mark.parametrize("name", INPUTS)


def damaged(name: str, rate: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    return corrupt(INPUTS[name], rate, damage_of(name, name in TEXT_CORRUPTIONS), np.random.default_rng(seed))


def changed(found: np.ndarray, before: np.ndarray) -> np.ndarray:
    return (found != before).reshape(len(before), -1).any(axis=1)


@EACH
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.99])
def test_exactly_the_rate_is_damaged_and_the_rest_stays(name: str, rate: float) -> None:
    before = INPUTS[name].copy()
    found, corrupted = damaged(name, rate)
    assert corrupted.sum() == round(rate * len(before))
    assert np.array_equal(changed(found, before), corrupted)
    assert (found.dtype, found.shape, found.strides) == (before.dtype, before.shape, INPUTS[name].strides)
    assert np.array_equal(INPUTS[name], before)


@EACH
def test_seeds_decide_and_a_higher_rate_damages_more(name: str) -> None:
    low, which = damaged(name, 0.2)
    assert np.array_equal(low, damaged(name, 0.2)[0])
    assert not np.array_equal(which, damaged(name, 0.2, seed=1)[1])
    high, more = damaged(name, 0.4)
    assert more[which].all()
    assert name in TEXT_CORRUPTIONS or np.array_equal(high[which], low[which])


def test_what_each_does() -> None:
    grey = np.full((500, 1, 8, 8), 128, np.uint8)
    grey[:, :, :, 4:] = 100
    rng = np.random.default_rng(0)
    noisy = CORRUPTIONS["gaussian"](grey, rng)
    assert noisy.std() == pytest.approx(64, abs=6)
    blurred = CORRUPTIONS["blur"](grey, rng)
    assert (np.diff(blurred[0, 0, 0].astype(int)) <= 0).all()  # the edge is a slope
    assert 100 < blurred[0, 0, 0, 4] < 128
    hidden = CORRUPTIONS["occlusion"](np.zeros_like(grey), rng)
    assert ((hidden == 128).sum((1, 2, 3)) == 16).all()
    assert len({image.tobytes() for image in hidden}) > 10  # the place is random
    assert hidden.any(0).all()  # and may be anywhere


def test_three_words_in_ten_are_left_out_and_never_the_last() -> None:
    texts = np.array([["one "], [""], ["a b"], [" ".join(map(str, range(5000)))]], object)
    found, corrupted = corrupt(texts, 0.99, TEXT_CORRUPTIONS["drop"], np.random.default_rng(0))
    assert found[:2, 0].tolist() == ["one ", ""]  # nothing to lose
    assert corrupted.tolist() == [False, False, True, True]
    assert found[2, 0] in ("a", "b")
    left = list(map(int, found[3, 0].split()))
    assert len(left) / 5000 == pytest.approx(0.7, abs=0.02)
    assert left == sorted(left)


def test_parts_of_a_sentence_are_left_out_one_after_the_other() -> None:
    texts = np.array([["a b c d e f g", "x"], ["", "p q"]], object)
    found = [without_part(texts, place, 3).tolist() for place in range(3)]
    assert [rows[0][0] for rows in found] == ["c d e f g", "a b e f g", "a b c d"]
    assert [rows[0][1] for rows in found] == ["x", "x", "x"]  # its only word stays
    assert [rows[1][1] for rows in found] == ["p q", "q", "p"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("rain", False, "takes one of blur, drop, gaussian, occlusion"),
        ("drop", False, "'drop', which is made for text; takes gaussian, blur, occlusion for images"),
        ("blur", True, "'blur', which is made for images; takes drop for text"),
    ],
)
def test_a_damage_that_does_not_fit_is_one_sentence(name: str, text: bool, said: str) -> None:
    with pytest.raises(UserError, match=rf"^noise.corruption: got .*{said}\.$"):
        damage_of(name, text)
