"""Small image tables of our own making."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdaif.data import Split

Png = Callable[..., bytes]


@pytest.fixture
def png() -> Png:
    """png(number, width, height, mode) -> the encoded image of that number; equal numbers give equal pixels."""

    def make(number: int, width: int = 6, height: int = 5, mode: str = "RGB") -> bytes:
        shape = (height, width, 3) if mode == "RGB" else (height, width)
        pixels = np.random.default_rng(number).integers(0, 256, shape, dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG")
        return buffer.getvalue()

    return make


@pytest.fixture
def frame(png: Png) -> Callable[..., pd.DataFrame]:
    """frame(count, start) -> table of `count` images (numbers from `start`) whose labels go round cat, dog, eel."""

    def make(count: int = 30, start: int = 0) -> pd.DataFrame:
        return pd.DataFrame(
            {
                "image": [{"bytes": png(start + row), "path": None} for row in range(count)],
                "label": [("cat", "dog", "eel")[row % 3] for row in range(count)],
                "serial": np.arange(count) + 1000,
            }
        )

    return make


@pytest.fixture
def folder(tmp_path: Path, frame: Callable[..., pd.DataFrame]) -> Path:
    """A data set of the user's: folder with train.parquet (30 images) and test.parquet (12)."""
    home = tmp_path / "pets"
    home.mkdir()
    frame(30).to_parquet(home / "train.parquet")
    frame(12, start=500).to_parquet(home / "test.parquet")
    return home


@pytest.fixture
def split() -> Callable[..., Split]:
    """split(count, name) -> a split of random 3 x 8 x 8 images, 5 classes."""

    def make(count: int = 23, name: str = "x/train", clean: bool = False) -> Split:
        generator = torch.Generator().manual_seed(count)
        labels = torch.randint(5, (count,), generator=generator)
        return Split(
            inputs=torch.randint(256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8),
            labels=labels,
            clean=torch.zeros_like(labels) if clean else None,
            ids=np.array([f"{name}/{row:06d}" for row in range(count)]),
            refs=np.array([f"file#{row}" for row in range(count)]),
        )

    return make
