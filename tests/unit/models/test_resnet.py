"""The padded shortcut by hand, and the shipped networks' published accuracy on real images."""

import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torch import nn

from kdaif.models import IMAGENET, InputStats, Normalised, build, load_checkpoint
from kdaif.models.resnet import BasicBlock, PaddedShortcut


def test_padded_shortcut_takes_every_second_pixel_and_centres_the_channels() -> None:
    inputs = torch.arange(32.0).reshape(1, 2, 4, 4)
    out = PaddedShortcut(2, 4, 2)(inputs)
    assert out.shape == (1, 4, 2, 2)
    assert out[0, 1].tolist() == [[0, 2], [8, 10]]
    assert out[0, 2].tolist() == [[16, 18], [24, 26]]
    assert out[0, [0, 3]].abs().sum() == 0


def test_block_without_convolutions_is_its_shortcut() -> None:
    block = BasicBlock(4, 4, 1, nn.Identity()).eval()
    nn.init.zeros_(block.conv2.weight)
    inputs = torch.rand(2, 4, 5, 5)
    assert torch.equal(block(inputs), inputs)


@pytest.mark.parametrize(("name", "layers"), [("resnet20", 20), ("resnet56", 56), ("resnet8x4", 8)])
def test_depth_counts_the_layers_on_the_main_path(name: str, layers: int) -> None:
    path = [part for part, module in build(name, 10, 3).named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert sum("downsample" not in part for part in path) == layers


@pytest.fixture(scope="module")
def cifar10_test(data_root: Path) -> tuple[torch.Tensor, torch.Tensor]:
    table = pq.read_table(data_root / "cifar10" / "test.parquet")
    images = [np.asarray(Image.open(io.BytesIO(image["bytes"]))) for image in table["img"].to_pylist()]
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.tensor(table["label"].to_pylist())


SHIPPED = {"resnet20": "12fca82f", "resnet32": "d509ac18", "resnet44": "014dd654", "resnet56": "4bfd9763"}


@pytest.mark.shared
@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_network_loads_by_name_and_brings_its_input_statistics(name: str, data_root: Path) -> None:
    network = build(name, 10, 3)
    assert load_checkpoint(network, data_root / "models" / f"cifar10-{name}-{SHIPPED[name]}.th") == IMAGENET
    # a trained network: its BatchNorm has seen data
    assert not torch.equal(network.get_buffer("bn1.running_mean"), torch.zeros(16))


@pytest.mark.shared
@pytest.mark.parametrize(("name", "percent"), [("resnet20", 91.73), ("resnet56", 93.39)])
def test_shipped_network_reaches_its_published_accuracy(
    name: str, percent: float, data_root: Path, cifar10_test: tuple[torch.Tensor, torch.Tensor]
) -> None:
    network = build(name, 10, 3)
    stats = load_checkpoint(network, data_root / "models" / f"cifar10-{name}-{SHIPPED[name]}.th")
    assert stats
    # the loader normalises by the training data's figures, as for the student; the wrapper gives the network its own
    loader = InputStats(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616))
    model = Normalised(network, loader, stats).eval().to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(row)[:, None, None] for row in loader)
    pixels, labels = cifar10_test
    with torch.inference_mode():
        right = [
            model(((batch.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)).argmax(1) == given
            for batch, given in zip(pixels.split(500), labels.split(500))
        ]
    # one image more or less may tip on another machine's convolutions
    assert 100 * torch.cat(right).float().mean().item() == pytest.approx(percent, abs=0.021)
