"""Heat maps: what a network's opinion of a sample rests on, painted over the sample itself. Pure functions."""

import io
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.ui.look import ACCENT, HARMFUL, HELPFUL

METHODS: Mapping[str, tuple[str, str]] = {  # name in `kdaif.explain` -> title, its one-sentence help
    "integrated-gradients": (
        "Integrated gradients",
        "Gradients along the way from the mean colour to the image; they add up to the change of the class's logit.",
    ),
    "saliency": ("Saliency", "How strongly the class's logit reacts to each pixel, whatever the direction."),
    "occlusion": ("Occlusion", "How far the class's logit falls when a patch is covered with the mean colour."),
}
UNSIGNED = ("saliency",)
TOP = 99.0  # percentile of the values' size that gets the full colour: one hot pixel must not hide the rest


def heat(pixels: NDArray[np.uint8], values: NDArray[np.floating], signed: bool, side: int) -> bytes:
    """The image (h, w, c) in faint grey with its attribution (h, w) over it, enlarged to about `side`, as PNG.

    Signed: green speaks for the class, vermilion against it; else the bluer, the more it matters.
    """
    strength = np.abs(values) / (np.percentile(np.abs(values), TOP) or 1.0)
    alpha = strength.clip(0, 1)[..., None]
    colors = np.where(values[..., None] >= 0, rgb(HELPFUL if signed else ACCENT), rgb(HARMFUL))
    grey = 255 - 0.45 * (255 - pixels.mean(-1, keepdims=True))
    painted = Image.fromarray((alpha * colors + (1 - alpha) * grey).astype(np.uint8))
    factor = max(1, side // max(painted.size))
    buffer = io.BytesIO()
    painted.resize((painted.width * factor, painted.height * factor), Image.Resampling.NEAREST).save(buffer, "PNG")
    return buffer.getvalue()


def said(network: str, values: NDArray[np.floating], signed: bool) -> str:
    """The heat map in words, for those who cannot see it: where its weight lies."""
    size = np.abs(values)
    if not size.sum():
        return f"Heat map of the {network}: every pixel counts nothing"
    rows, columns = np.indices(size.shape)
    upright = ("top", "middle", "bottom")[min(2, int(3 * (rows * size).sum() / size.sum() / size.shape[0]))]
    across = ("left", "centre", "right")[min(2, int(3 * (columns * size).sum() / size.sum() / size.shape[1]))]
    share = f"; {100 * size[values > 0].sum() / size.sum():.0f} % of it speaks for the class" if signed else ""
    return f"Heat map of the {network}: its centre lies {upright} {across}{share}"


def rgb(color: str) -> NDArray[np.integer]:
    """'#D55E00' as three numbers 0..255."""
    return np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)])
