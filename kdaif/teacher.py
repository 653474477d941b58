"""The teacher: loaded from a checkpoint, or trained on the run's own data and kept for every run that wants the same."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import nn

from kdaif import models
from kdaif.callbacks import Callback, Moment
from kdaif.config import RunConfig, UserError
from kdaif.data import Batch, Batches, Dataset
from kdaif.fit import fit
from kdaif.optim import make_optimizer
from kdaif.runs import cache_root


class Teacher(NamedTuple):
    """A network in eval mode that is not trained any more."""

    model: nn.Module
    path: Path  # of its weights


def find_teacher(
    config: RunConfig, dataset: Dataset, data_root: Path | None, accelerator: Accelerator, callback: Callback
) -> Teacher:
    """The teacher of a run: its checkpoint, the cached one, or a newly trained one. `UserError` for a bad checkpoint."""
    torch.manual_seed(config.seed)
    model = models.build(config.teacher.model, len(dataset.classes), dataset.train.inputs.shape[1], "teacher.model")
    path = _checkpoint_path(config.teacher.checkpoint, data_root) if config.teacher.checkpoint else _cached_path(config)
    if config.teacher.checkpoint or path.exists():
        stats = models.load_checkpoint(model, path)
        own = models.InputStats(dataset.mean, dataset.std)
        model = model if stats is None else models.Normalised(model, own, stats)
        model = model.to(accelerator.device).to(memory_format=torch.channels_last)
    else:
        model = model.to(accelerator.device).to(memory_format=torch.channels_last)
        _train(model, config, dataset, accelerator, callback)
        path.parent.mkdir(parents=True, exist_ok=True)
        models.save_checkpoint(model, path)
        (path.parent / "teacher.json").write_text(json.dumps(_recipe(config), indent=2))
    return Teacher(model.eval().requires_grad_(False), path)


def _train(model: nn.Module, config: RunConfig, dataset: Dataset, accelerator: Accelerator, callback: Callback) -> None:
    optim, train = config.teacher.optim, dataset.train
    if config.teacher.labels == "clean" and train.clean is None:
        raise UserError("teacher.labels: got 'clean', but the clean labels of this data are not known; takes given.")
    labels = train.clean if config.teacher.labels == "clean" and train.clean is not None else train.labels
    labels = labels.to(accelerator.device)
    batches = Batches(
        train,
        dataset.mean,
        dataset.std,
        optim.batch_size,
        shuffle=True,
        augment=config.data.augment,
        device=accelerator.device,
        seed=config.seed,
    )
    optimizer, schedule = make_optimizer(model, optim, optim.epochs * len(batches), "teacher.optim")

    def loss_of(model: nn.Module, batch: Batch) -> torch.Tensor:
        return F.cross_entropy(model(batch.inputs), labels[batch.index])

    moment = Moment(stage="teacher", epochs=optim.epochs)
    fit(model, batches, loss_of, optimizer, schedule, accelerator, callback, moment, seed=config.seed)


def _recipe(config: RunConfig) -> dict[str, object]:
    """Everything that a trained teacher depends on."""
    sections = {"teacher", "data", "noise", "seed", "precision"}
    return config.model_dump(mode="json", include=sections)


def _cached_path(config: RunConfig) -> Path:
    digest = hashlib.sha1(json.dumps(_recipe(config), sort_keys=True).encode(), usedforsecurity=False).hexdigest()[:16]
    return cache_root() / "teachers" / digest / "teacher.safetensors"


def _checkpoint_path(checkpoint: str, data_root: Path | None) -> Path:
    places = [Path(checkpoint), *([data_root / checkpoint] if data_root else [])]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"teacher.checkpoint: got {checkpoint!r}, found no such file (looked at {', '.join(map(str, places))})."
    )
