"""Where samples come from: named sources, folders, files, the Hugging Face hub."""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import datasets
import numpy as np
from sklearn.datasets import load_digits

from kdaif.config import UserError
from kdaif.data.corpora import CORPORA
from kdaif.data.tables import Source, Table, read_folder, read_hub, read_single
from kdaif.paths import find_path, is_hub_id


def read_source(source: str, data_root: Path | None) -> Source:
    """The tables behind `data.source`: a named source, a path (as it is, else under `data_root`), or a hub id
    ``owner/name`` or ``owner/name:config``. Raises `UserError` for anything that cannot be read."""
    if source in SOURCES:
        return SOURCES[source](data_root)
    if path := find_path(source, data_root):
        return read_folder(path, path.resolve().name) if path.is_dir() else read_single(path)
    if is_hub_id(source):
        return read_hub(source, source)
    raise UserError(
        f"data.source: got {source!r}, takes one of {', '.join(SOURCES)}, a folder or file that exists"
        f"{f' (also looked for under {data_root})' if data_root else ''}, or a Hugging Face hub id owner/name."
    )


@cache
def _digits(data_root: Path | None) -> Source:
    """scikit-learn's 1,797 handwritten digits, 8 x 8 grey: its 17 levels are spread over 0..255."""
    digits = load_digits()
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=[str(digit) for digit in range(10)])}
    )
    images = np.round(digits.images * 255 / 16).astype(np.uint8)
    rows = datasets.Dataset.from_dict({"image": list(images), "label": digits.target}, features)
    return Source("digits", Table("all", rows, [f"load_digits#{row}" for row in range(len(rows))], None), None)


def _named(name: str, hub_id: str, data_root: Path | None) -> Source:
    folder = data_root / name if data_root else None
    return read_folder(folder, name) if folder and folder.is_dir() else read_hub(name, hub_id)


SOURCES: dict[str, Callable[[Path | None], Source]] = {
    "digits": _digits,
    "cifar10": partial(_named, "cifar10", "uoft-cs/cifar10"),
    "cifar100": partial(_named, "cifar100", "uoft-cs/cifar100"),
    "svhn": partial(_named, "svhn", "ufldl-stanford/svhn:cropped_digits"),
    **CORPORA,
}
