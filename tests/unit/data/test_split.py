import hashlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from kdaif.config import UserError
from kdaif.data import Dataset, Split
from kdaif.data.split import channel_statistics

MakeSplit = Callable[..., Split]


def dataset(train: Split, validation: Split, test: Split) -> Dataset:
    return Dataset("x", train, validation, test, ("a", "b", "c", "d", "e"), (0.5,) * 3, (0.2,) * 3)


def test_flipped_compares_with_the_clean_labels(split: MakeSplit) -> None:
    known = split(clean=True)
    assert torch.equal(known.flipped, known.labels != 0)
    assert split(clean=False).flipped is None


def test_subset_keeps_every_field_together(split: MakeSplit) -> None:
    whole = split(23, clean=True)
    by_position = whole.subset(torch.tensor([7, 2]))
    assert by_position.ids.tolist() == ["x/train/000007", "x/train/000002"]
    assert by_position.refs.tolist() == ["file#7", "file#2"]
    assert torch.equal(by_position.inputs, whole.inputs[[7, 2]])
    assert torch.equal(by_position.labels, whole.labels[[7, 2]])
    mask = whole.flipped
    assert mask is not None
    assert whole.subset(mask).corrupted is None
    assert replace(whole, corrupted=mask).subset(mask).corrupted.all()
    assert len(whole.subset(mask)) == int(mask.sum())
    described = replace(whole, columns={"place": whole.ids}).subset(mask)
    assert described.columns["place"].tolist() == described.ids.tolist()
    assert whole.subset(mask).flipped.all()


def test_hashes_are_sha1_of_the_pixels_of_images(split: MakeSplit) -> None:
    whole = split(4)
    images = whole.images()
    assert images.shape == (4, 8, 8, 3)
    assert images[1, 2, 3, 0] == whole.inputs[1, 0, 2, 3]
    assert whole.hashes() == [hashlib.sha1(image.tobytes()).hexdigest() for image in images]
    assert len(set(whole.hashes())) == 4


def test_a_data_set_that_shares_ids_between_splits_cannot_be_built(split: MakeSplit) -> None:
    train, validation, test = split(20, "x/train"), split(5, "x/more"), split(9, "x/test")
    leaked = replace(validation, ids=np.array([*validation.ids[:4], test.ids[3]]))
    with pytest.raises(UserError, match=r"validation and test splits share 1 samples \(first x/test/000003\)"):
        dataset(train, leaked, test)
    with pytest.raises(UserError, match="train and test splits share 9 samples"):
        dataset(train, validation, replace(test, ids=train.ids[:9]))


def test_copies_of_test_images_are_counted_but_allowed(split: MakeSplit) -> None:
    train, validation, test = split(20, "x/train"), split(5, "x/more"), split(9, "x/test")
    assert dataset(train, validation, test).test_copies == 0
    inputs = validation.inputs.clone()
    inputs[1], inputs[2] = test.inputs[0], test.inputs[8]
    assert dataset(train, replace(validation, inputs=inputs), test).test_copies == 2


def test_channel_statistics_are_exact() -> None:
    inputs = torch.randint(256, (7, 2, 5, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, std = channel_statistics(inputs)
    floats = inputs.double() / 255
    assert mean == pytest.approx(floats.mean(dim=(0, 2, 3)).tolist(), rel=1e-12)
    assert std == pytest.approx(floats.std(dim=(0, 2, 3), correction=0).tolist(), rel=1e-12)
    assert channel_statistics(torch.zeros(3, 1, 2, 2, dtype=torch.uint8)) == ((0.0,), (1.0,))
