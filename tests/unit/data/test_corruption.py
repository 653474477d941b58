"""Damaged images: how many, which, and that the rest stays."""

import numpy as np
import pytest
import torch
from torch import Tensor

from kdaif.data.corruption import CORRUPTIONS, corrupt

INPUTS = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (101, 9, 8, 3), dtype=np.uint8)).permute(0, 3, 1, 2)
EACH = pytest.mark.parametrize("name", CORRUPTIONS)


def damaged(name: str, rate: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    return corrupt(INPUTS, rate, CORRUPTIONS[name], np.random.default_rng(seed))


def changed(images: Tensor) -> Tensor:
    return (images != INPUTS).flatten(1).any(1)


@EACH
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.4, 0.99])
def test_exactly_the_rate_is_damaged_and_the_rest_stays(name: str, rate: float) -> None:
    before = INPUTS.clone()
    images, corrupted = damaged(name, rate)
    assert corrupted.sum() == round(rate * len(INPUTS))
    assert torch.equal(changed(images), corrupted)
    assert (images.dtype, images.shape) == (torch.uint8, INPUTS.shape)
    assert torch.equal(INPUTS, before)


@EACH
def test_seeds_decide_and_a_higher_rate_damages_more_in_the_same_way(name: str) -> None:
    low, which = damaged(name, 0.2)
    assert torch.equal(low, damaged(name, 0.2)[0])
    assert not torch.equal(which, damaged(name, 0.2, seed=1)[1])
    high, more = damaged(name, 0.4)
    assert more[which].all()
    assert torch.equal(high[which], low[which])


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
