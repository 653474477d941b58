"""A look at what a config would train on, before anything is trained: samples, wrong labels, networks and their sizes."""

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from kdaif import models
from kdaif.config import RunConfig
from kdaif.data import Dataset, load
from kdaif.fit import new_model


def preview(config: RunConfig, data_root: Path | None = None, count: int = 8) -> dict[str, Any]:
    """Reads the data as a run would; `UserError` for what is wrong with data or noise.

    `classes` (where labels are numbers their column alone); `sizes` of the splits; `wrong`: share of the training labels known to
    differ from the true ones (None: unknown);
    `samples` and `flipped`: up to `count` training samples, any and wrongly labelled or damaged ones, each with `id`, `given`,
    `true` and a PNG as base64 in `image`, or `text`; `models`: trainable parameters of the networks for these data.
    """
    dataset = load(config.data, config.noise, config.seed, data_root)
    train = dataset.train
    flipped = train.flipped if train.corrupted is None else train.corrupted
    order = np.random.default_rng(0).permutation(len(train))
    changed = order[:0] if flipped is None else order[flipped.numpy()[order]]
    return {
        "classes": list(dataset.classes),
        "sizes": {name: len(getattr(dataset, name)) for name in ("train", "validation", "test")},
        "wrong": None if flipped is None else float(flipped.double().mean()),
        "samples": [_sample(dataset, row) for row in order[:count].tolist()],
        "flipped": [_sample(dataset, row) for row in changed[:count].tolist()],
        "models": _sizes(config, dataset),
    }


def _sizes(config: RunConfig, dataset: Dataset) -> dict[str, int]:
    """Parameters of every network for images; for sentences, where a network may be a download, of the config's two."""
    if dataset.vocabulary is not None:
        named = {"student.model": config.student.model, "teacher.model": config.teacher.model}
        built = {name: new_model(name, dataset, torch.device("cpu"), field) for field, name in named.items()}
        return {name: models.parameter_count(network) for name, network in built.items()}
    channels = dataset.train.inputs.shape[1]
    with torch.device("meta"):
        return {
            name: models.parameter_count(build(len(dataset.classes), channels)) for name, build in models.MODELS.items()
        }


def _sample(dataset: Dataset, row: int) -> dict[str, Any]:
    split, of_row = dataset.train, slice(row, row + 1)
    words = {
        "id": str(split.ids[row]),
        "given": dataset.words(split.labels[of_row])[0],
        "true": None if split.clean is None else dataset.words(split.clean[of_row])[0],
    }
    if split.texts is not None:
        return words | {"text": " / ".join(split.texts[row])}
    pixels = split.inputs[row].permute(1, 2, 0).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return words | {"image": base64.b64encode(buffer.getvalue()).decode()}
