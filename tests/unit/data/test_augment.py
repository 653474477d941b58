import pytest
import torch
import torch.nn.functional as F

from kdaif.data import AUGMENTATIONS


@pytest.fixture
def inputs() -> torch.Tensor:
    return torch.randint(1, 256, (200, 3, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_equals_a_loop_over_the_samples(name: str, inputs: torch.Tensor) -> None:
    augmentation = AUGMENTATIONS[name]
    drawn = augmentation.draw(len(inputs), torch.Generator().manual_seed(1))
    for image, moved, (top, left, mirrored) in zip(inputs, augmentation.apply(inputs, drawn), drawn.tolist()):
        expected = F.pad(image, (augmentation.pad,) * 4)[:, top : top + 12, left : left + 10]
        assert torch.equal(moved, expected.flip(2) if mirrored else expected)


def test_every_sample_has_a_draw_of_its_own() -> None:
    drawn = AUGMENTATIONS["crop-flip"].draw(2000, torch.Generator().manual_seed(0))
    assert len(drawn.unique(dim=0)) == 9 * 9 * 2
    assert drawn[:, 2].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_shift_never_mirrors_and_none_never_moves(inputs: torch.Tensor) -> None:
    generator = torch.Generator().manual_seed(0)
    shifts = AUGMENTATIONS["shift"].draw(500, generator)
    assert len(shifts.unique(dim=0)) == 9
    assert not shifts[:, 2].any()
    assert torch.equal(AUGMENTATIONS["none"].apply(inputs, AUGMENTATIONS["none"].draw(200, generator)), inputs)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_sample_is_judged_as_it_is_and_mirrored_where_training_mirrors_it(name: str, inputs: torch.Tensor) -> None:
    views = [view(inputs) for view in AUGMENTATIONS[name].views]
    assert torch.equal(views[0], inputs)
    assert len(views) == (2 if name == "crop-flip" else 1)
    assert all(torch.equal(view, inputs.flip(3)) for view in views[1:])
