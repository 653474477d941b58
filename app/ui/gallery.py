"""The gallery: tiles with image, labels and weight, and one of them picked by a click or the keyboard."""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st
from PIL import Image

from app.ui.look import VERDICT_COLORS, VERDICT_SIGNS
from app.ui.painting import Span, to_plain
from kdaif.runs.tables import rows

HERE = Path(__file__).parent
_GALLERY = st.components.v2.component(
    "kdaif_gallery",
    html='<div class="gallery"></div>\n<!-- filled by gallery.js -->',
    css=(HERE / "gallery.css").read_text(),
    js=(HERE / "gallery.js").read_text(),
)


def gallery(
    groups: Mapping[str, pd.DataFrame],
    inputs: np.ndarray | None,
    primary: int | None,
    key: str,
    on_pick: Callable[[int], None],
    columns: int = 6,
    painted: Mapping[int, Sequence[Sequence[Span]]] | None = None,
) -> None:
    """Show the groups (title -> rows of the sample table); `on_pick` gets the row that was clicked.

    `columns` tiles stand in a line where there is room, fewer where there is not. The sentences of a row in `painted` are
    written as it says.
    """

    def picked() -> None:
        if (row := st.session_state[key].picked) is not None:
            on_pick(int(row))

    data = {
        "primary": primary,
        "columns": columns,
        "groups": [
            {"title": title, "samples": [tile(row, inputs, painted) for row in rows(group)]}
            for title, group in groups.items()
            if len(group)
        ],
    }
    _GALLERY(key=key, data=data, on_picked_change=picked)


def thumbnails(groups: Mapping[str, list[dict[str, Any]]], key: str, on_pick: Callable[[int], None]) -> None:
    """Rows of small tiles with a picture, a label and a figure; only those with a `row` can be picked."""

    def picked() -> None:
        if (row := st.session_state[key].picked) is not None:
            on_pick(int(row))

    shown = [{"title": title, "thumbnails": samples} for title, samples in groups.items() if samples]
    _GALLERY(key=key, data={"primary": None, "columns": 6, "groups": shown}, on_picked_change=picked)


def tile(
    sample: Any, inputs: np.ndarray | None, painted: Mapping[int, Sequence[Sequence[Span]]] | None = None
) -> dict[str, Any]:
    """What a tile shows of a row of the sample table (a named tuple)."""
    flipped = None if pd.isna(sample.flipped) else bool(sample.flipped)
    said = f"given {sample.given}"
    said += f", the teacher would rather say {sample.suggested}" if sample.suggested else ", the teacher agrees"
    weight = 1.0 if np.isnan(sample.weight) else float(sample.weight)
    return {
        "row": int(sample.Index),
        "image": None if inputs is None else data_url(inputs[sample.Index]),
        "words": sample.ref,
        "sentences": sentences_of(sample),
        "painted": to_plain((painted or {}).get(sample.Index, [])),
        "raters": raters_line(sample.rating, sample.rating_spread),
        "given": sample.given,
        "suggested": sample.suggested,
        "marker": "flipped" if flipped else "",
        "weight": weight,
        "sign": VERDICT_SIGNS[sample.verdict],
        "color": VERDICT_COLORS[sample.verdict],
        "description": f"Sample {sample.Index}, {sample.verdict}: {said}; weight {weight:.2f}"
        + (
            ""
            if flipped is None
            else ", the label is known to be wrong"
            if flipped
            else ", the label is known to be right"
        ),
    }


def sentences_of(sample: Any) -> list[str]:
    """The sentence of a sample, or both of a pair; none where it is an image."""
    return [text for text in (sample.text, sample.text_pair) if isinstance(text, str)]


def raters_line(rating: float, spread: float) -> str:
    """What several people said of the sample and how far they disagree; "" where nobody was asked."""
    if np.isnan(rating):
        return ""
    said = f"people {rating:+.1f}".replace("-", "−")
    return said if np.isnan(spread) else f"{said} ± {spread:.1f}"


def data_url(pixels: np.ndarray) -> str:
    """A lossless image of uint8 pixels (h, w, c), c = 1 or 3, as a data URL; the browser enlarges it."""
    return f"data:image/png;base64,{base64.b64encode(png(pixels)).decode()}"


def png(pixels: np.ndarray, side: int | None = None) -> bytes:
    """The pixels as PNG, enlarged by whole pixels (nearest neighbour) to about `side`."""
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels))
    if side is not None:
        factor = max(1, side // max(image.size))
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
