from collections.abc import Callable

import pytest
import torch

from kdaif.config import UserError
from kdaif.data import Batch, Batches, Split

MakeSplit = Callable[..., Split]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def batches(split: Split, size: int = 8, shuffle: bool = True, augment: str = "crop-flip", seed: int = 0) -> Batches:
    return Batches(split, MEAN, STD, size, shuffle=shuffle, augment=augment, device="cpu", seed=seed)


def order(stream: Batches) -> list[int]:
    return torch.cat([batch.index for batch in stream]).tolist()


def inputs_by_sample(stream: Batches) -> torch.Tensor:
    index = torch.cat([batch.index for batch in stream])
    return torch.cat([batch.inputs for batch in stream])[index.argsort()]


@pytest.mark.parametrize(
    ("count", "size", "sizes"),
    [(23, 8, [8, 8, 7]), (24, 8, [8, 8, 8]), (25, 8, [8, 8, 9]), (3, 8, [3]), (1, 8, [1]), (3, 1, [1, 1, 1])],
)
def test_each_sample_comes_once_an_epoch_and_none_is_alone(
    split: MakeSplit, count: int, size: int, sizes: list[int]
) -> None:
    stream = batches(split(count), size)
    assert [len(batch.index) for batch in stream] == sizes
    assert len(stream) == len(sizes)
    assert sorted(order(stream)) == list(range(count))


def test_order_and_augmentation_depend_on_seed_and_epoch_alone(split: MakeSplit) -> None:
    data = split(40)
    stream = batches(data)
    stream.set_epoch(3)
    first = list(stream)
    stream.set_epoch(4)
    assert order(stream) != torch.cat([batch.index for batch in first]).tolist()

    resumed = batches(data)
    resumed.set_epoch(3)
    for one, other in zip(first, resumed, strict=True):
        assert torch.equal(one.index, other.index)
        assert torch.equal(one.inputs, other.inputs)
    other_seed = batches(data, seed=1)
    other_seed.set_epoch(3)
    assert order(other_seed) != order(resumed)


def test_augmentation_leaves_the_order_and_batch_size_leaves_the_augmentation(split: MakeSplit) -> None:
    data = split(40)
    assert order(batches(data, augment="none")) == order(batches(data, augment="crop-flip"))
    assert torch.equal(inputs_by_sample(batches(data, size=8)), inputs_by_sample(batches(data, size=13)))
    assert not torch.equal(inputs_by_sample(batches(data)), inputs_by_sample(batches(data, augment="none")))


def test_evaluation_sees_the_normalised_split_in_its_order(split: MakeSplit) -> None:
    data = split(23)
    stream = list(batches(data, shuffle=False, augment="none"))
    inputs = torch.cat([batch.inputs for batch in stream])
    expected = (data.inputs.float() / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(inputs, expected)
    assert torch.cat([batch.index for batch in stream]).tolist() == list(range(23))
    assert torch.equal(torch.cat([batch.labels for batch in stream]), data.labels)


def test_inputs_are_float_channels_last_and_of_the_same_size(split: MakeSplit) -> None:
    batch = next(iter(batches(split(16))))
    assert isinstance(batch, Batch)
    assert batch.inputs.shape == (8, 3, 8, 8)
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_iterating_leaves_the_split_alone(split: MakeSplit) -> None:
    data = split(16)
    before = data.inputs.clone()
    list(batches(data))
    assert torch.equal(data.inputs, before)


def test_unknown_augmentation_is_refused(split: MakeSplit) -> None:
    with pytest.raises(UserError, match=r"data.augment: got 'mixup', takes one of crop-flip, none, shift"):
        batches(split(), augment="mixup")
