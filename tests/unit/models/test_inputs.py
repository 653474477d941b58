"""A network sees its own normalisation, whatever the loader's."""

import torch
from torch import nn

from kdaif.models import IMAGENET, InputStats, Normalised


def normalise(pixels: torch.Tensor, stats: InputStats) -> torch.Tensor:
    mean, std = (torch.tensor(row)[:, None, None] for row in stats)
    return (pixels / 255 - mean) / std


def test_the_network_sees_its_own_normalisation() -> None:
    pixels = torch.randint(0, 256, (4, 3, 5, 5)).float()
    loader = InputStats(mean=[0.5, 0.4, 0.3], std=[0.2, 0.25, 0.3])
    model = nn.Sequential(nn.Flatten(), nn.Linear(75, 4))
    seen = Normalised(model, loader, IMAGENET)(normalise(pixels, loader))
    torch.testing.assert_close(seen, model(normalise(pixels, IMAGENET)))


def test_equal_statistics_change_nothing() -> None:
    inputs = torch.randn(4, 3, 5, 5)
    model = nn.Flatten()
    assert torch.equal(Normalised(model, IMAGENET, IMAGENET)(inputs), model(inputs))


def test_keeps_the_memory_format() -> None:
    formats: list[bool] = []
    model = nn.Sequential(nn.Identity(), nn.Flatten())
    model[0].register_forward_hook(
        lambda module, inputs, output: formats.append(output.is_contiguous(memory_format=torch.channels_last))
    )
    Normalised(model, IMAGENET, IMAGENET)(torch.randn(4, 3, 5, 5).to(memory_format=torch.channels_last))
    assert formats == [True]
