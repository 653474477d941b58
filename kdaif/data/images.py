"""Encoded images -> one uint8 tensor."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Int64, UInt8
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from kdaif.config import UserError
from kdaif.data.columns import holds_images, holds_strings
from kdaif.data.tables import Table, reason

GREY = ("1", "L", "LA")
DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def encoded(table: Table, column: str, rows: Int64[np.ndarray, "n"]) -> list[bytes | Path]:
    """Bytes or file of each row's image; raises `UserError` for a column that holds no images, or a row without one."""
    kind = table.rows.data.schema.field(column).type
    if not holds_images(kind) and not holds_strings(kind):
        raise UserError(f"data.columns.input: column {column!r} is {kind}, takes images as bytes or file paths.")
    values = table.rows.data.column(column).take(pa.array(rows)).to_pylist()
    images: list[Any] = [
        value.get("bytes") or value.get("path") if isinstance(value, dict) else value for value in values
    ]
    if missing := [table.refs[row] for row, image in zip(rows, images) if not image]:
        raise UserError(f"data.columns.input: {len(missing)} rows of {column!r} have no image (first {missing[0]}).")
    if holds_strings(kind) and Path(images[0]).suffix.lower() not in Image.registered_extensions():
        raise UserError(
            f"data.columns.input: column {column!r} holds {images[0][:40]!r}, no image file; sentences are data.columns.text."
        )
    folder = table.folder or Path()
    return [image if isinstance(image, bytes) else folder / image for image in images]


def decode(
    images: Sequence[bytes | Path], refs: Sequence[str], size: int | None
) -> UInt8[Tensor, "n channels height width"]:
    """Decodes images to one tensor, stored channels last: 1 channel where all are grey, else 3 (RGB).

    `size`: resized to this many pixels square. Raises `UserError` for an image that cannot be read, or differs in size.
    """
    # one thread: Pillow holds the interpreter lock for most of a small image (0.1 ms for 32 x 32), a pool is slower
    arrays = [_pixels(image, ref, size) for image, ref in zip(images, refs)]
    height, width = arrays[0].shape[:2]
    for array, ref in zip(arrays, refs):
        if array.shape[:2] != (height, width):
            raise UserError(
                f"data.image_size: images differ in size ({refs[0]} is {width} x {height} pixels, "
                f"{ref} is {array.shape[1]} x {array.shape[0]}); takes a number of pixels to resize all to."
            )
    channels = 1 if all(array.ndim == 2 for array in arrays) else 3
    pixels = np.empty((len(arrays), height, width, channels), np.uint8)
    for row, array in enumerate(arrays):
        pixels[row] = array if array.ndim == 3 else array[..., None]
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _pixels(image: bytes | Path, ref: str, size: int | None) -> np.ndarray:
    try:
        with Image.open(io.BytesIO(image) if isinstance(image, bytes) else image) as opened:
            picture: Image.Image = opened
            if "exif" in picture.info:  # cameras store which side is up
                picture = ImageOps.exif_transpose(picture)
            mode = picture.mode
            if mode not in ("L", "RGB", *DEEP):
                picture = picture.convert("L" if mode in GREY else "RGB")
            if size and picture.size != (size, size):
                picture = picture.resize((size, size), Image.Resampling.BILINEAR)
            pixels = np.asarray(picture)
    except UnidentifiedImageError:
        raise UserError(f"data: image {ref} cannot be read: its bytes are of no known image format.") from None
    except Exception as error:  # broken files raise OSError, SyntaxError, ValueError, struct.error and more in Pillow
        raise UserError(f"data: image {ref} cannot be read: {reason(error)}.") from None
    if mode in DEEP:
        raise UserError(f"data: image {ref} has pixels of type {mode}, takes images of 8 bits a channel.")
    return pixels
