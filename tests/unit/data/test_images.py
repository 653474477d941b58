import io
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdaif.config import UserError
from kdaif.data.images import decode, encoded
from kdaif.data.tables import Table

Png = Callable[..., bytes]


def saved(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **{"format": "PNG", **options})
    return buffer.getvalue()


def table(values: list, folder: Path | None = None) -> Table:
    rows = datasets.Dataset.from_pandas(pd.DataFrame({"x": values}))
    return Table("train", rows, [f"t#{row}" for row in range(len(values))], folder)


def test_pixels_are_those_of_the_file(png: Png) -> None:
    inputs = decode([png(3), png(4)], ["a", "b"], None)
    assert inputs.shape == (2, 3, 5, 6)
    assert inputs.dtype == torch.uint8
    assert (inputs[1].permute(1, 2, 0).numpy() == np.asarray(Image.open(io.BytesIO(png(4))))).all()


def test_grey_stays_one_channel_unless_a_colour_image_is_among_them(png: Png) -> None:
    grey = decode([png(1, mode="L"), saved(Image.new("1", (6, 5), 1))], ["a", "b"], None)
    assert grey.shape == (2, 1, 5, 6)
    assert (grey[1] == 255).all()
    mixed = decode([png(1, mode="L"), png(2)], ["a", "b"], None)
    assert mixed.shape == (2, 3, 5, 6)
    assert torch.equal(mixed[0], grey[0].expand(3, 5, 6))


@pytest.mark.parametrize("mode", ["RGBA", "P", "CMYK"])
def test_other_modes_become_rgb(mode: str) -> None:
    image = Image.new("RGB", (4, 4), (255, 0, 0)).convert(mode)
    inputs = decode([saved(image, format="TIFF")], ["a"], None)
    assert inputs[0, :, 0, 0].tolist() == [255, 0, 0]


def test_the_camera_orientation_is_followed() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees
    assert decode([saved(Image.new("RGB", (8, 4)), format="JPEG", exif=exif)], ["a"], None).shape == (1, 3, 8, 4)


def test_image_size_makes_all_square(png: Png) -> None:
    assert decode([png(1), png(2, width=9, height=20)], ["a", "b"], 7).shape == (2, 3, 7, 7)


def test_different_sizes_need_image_size(png: Png) -> None:
    with pytest.raises(UserError, match=r"data.image_size: .*a is 6 x 5 pixels, b is 9 x 5"):
        decode([png(1), png(2, width=9)], ["a", "b"], None)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (b"no image", "image a cannot be read: its bytes are of no known image format"),
        (saved(Image.new("RGB", (40, 40), (1, 2, 3)))[:60], "image a cannot be read"),
        (Path("nowhere.png"), "image a cannot be read: .*nowhere.png"),
        (saved(Image.new("I;16", (4, 4))), "image a has pixels of type I;16, takes images of 8 bits"),
    ],
)
def test_an_image_that_cannot_be_used_is_named(image: bytes | Path, said: str) -> None:
    with pytest.raises(UserError, match=said):
        decode([image], ["a"], None)


def test_columns_of_structs_bytes_and_paths_are_taken(tmp_path: Path) -> None:
    rows = np.array([1])
    assert encoded(table([{"bytes": b"a", "path": None}, {"bytes": b"b", "path": "p"}]), "x", rows) == [b"b"]
    assert encoded(table([{"bytes": None, "path": "a.png"}] * 2, tmp_path), "x", rows) == [tmp_path / "a.png"]
    assert encoded(table([b"a", b"b"]), "x", rows) == [b"b"]
    assert encoded(table(["a.png", "b.png"], tmp_path), "x", rows) == [tmp_path / "b.png"]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([1, 2], "column 'x' is int64, takes images as bytes or file paths"),
        ([b"a", None], r"1 rows of 'x' have no image \(first t#1\)"),
        ([{"bytes": None, "path": None}, {"bytes": b"a", "path": None}], r"have no image \(first t#0\)"),
        (
            ["it was a dark night", "and so on"],
            "holds 'it was a dark night', no image file; sentences are data.columns.text",
        ),
    ],
)
def test_columns_without_images_are_refused(values: list, said: str) -> None:
    with pytest.raises(UserError, match=f"data.columns.input: .*{said}"):
        encoded(table(values), "x", np.array([0, 1]))
