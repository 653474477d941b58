"""The teacher: loaded from a checkpoint, or trained on the run's own data and kept for every run that wants the same."""

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from filelock import FileLock
from jaxtyping import Float
from torch import Tensor, nn

from kdaif import models
from kdaif.callbacks import Callback, Moment
from kdaif.config import RunConfig, UserError
from kdaif.data import Batch, Batches, Dataset
from kdaif.fit import fit, new_model
from kdaif.optim import make_optimizer
from kdaif.runs import cache_root
from kdaif.runs.files import write_json
from kdaif.task import Labels, task_of


class Lesson(NamedTuple):
    """What a teacher is to learn of the training samples, where that is not simply their labels; on the CPU."""

    weight: Float[Tensor, "samples"]  # of the given label
    says: Labels  # another label
    trust: Float[Tensor, "samples"]  # the weight of that


class Teacher(NamedTuple):
    """A network, and where its weights are kept."""

    model: nn.Module
    path: Path
    ready: bool  # False: still to be trained
    lesson: Lesson | None = None


def find_teacher(
    config: RunConfig, dataset: Dataset, data_root: Path | None, device: torch.device, lesson: Lesson | None = None
) -> Teacher:
    """The teacher of a run from its checkpoint or the cache, else one that waits for `train_teacher`.

    Raises `UserError` for a bad checkpoint, or a teacher that could not be trained.
    """
    torch.manual_seed(config.seed)
    model = new_model(config.teacher.model, dataset, device, "teacher.model")
    make_optimizer(model, config.teacher.optim, 1, "teacher.optim")  # names are checked before anything is trained
    checkpoint = config.teacher.checkpoint
    kept = _folder(config, dataset, lesson) / "teacher.safetensors"
    path = _checkpoint_path(checkpoint, data_root) if checkpoint else kept
    if not checkpoint and not path.exists():
        return Teacher(model, path, False, lesson)
    stats = models.load_checkpoint(model, path)
    own = models.InputStats(dataset.mean, dataset.std)
    model = model if stats is None else models.Normalised(model, own, stats).to(device)
    return Teacher(model.eval().requires_grad_(False), path, ready=True)


def train_teacher(
    teacher: Teacher, config: RunConfig, dataset: Dataset, accelerator: Accelerator, callback: Callback
) -> Teacher:
    """Trains it and keeps it in the cache; where another run trains the same one meanwhile, waits for that."""
    teacher.path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(teacher.path.parent / ".lock"):
        if teacher.path.exists():
            return find_teacher(config, dataset, None, accelerator.device, teacher.lesson)
        return _train_teacher(teacher, config, dataset, accelerator, callback)


def _train_teacher(
    teacher: Teacher, config: RunConfig, dataset: Dataset, accelerator: Accelerator, callback: Callback
) -> Teacher:
    model, optim, device = teacher.model, config.teacher.optim, accelerator.device
    labels = _labels(config, dataset).to(device)
    batches = Batches(
        dataset.train,
        dataset.mean,
        dataset.std,
        optim.batch_size,
        shuffle=True,
        augment=config.data.augment,
        device=device,
        seed=config.seed,
    )
    optimizer, schedule = make_optimizer(model, optim, optim.epochs * len(batches), "teacher.optim")

    loss = task_of(labels).loss
    lesson = teacher.lesson and Lesson(*(part.to(device) for part in teacher.lesson))

    def loss_of(model: nn.Module, batch: Batch) -> Tensor:
        logits, index = model(batch.inputs), batch.index
        given = loss(logits, labels[index])
        if lesson is None:
            return given.mean()
        weight, trust, said = lesson.weight[index], lesson.trust[index], loss(logits, lesson.says[index])
        return (weight * given + trust * said).sum() / (weight + trust).sum().clamp_min(1e-6)

    moment = Moment(stage="teacher" if lesson is None else "teacher again", epochs=optim.epochs)
    fit(model, batches, loss_of, optimizer, schedule, accelerator, callback, moment, seed=config.seed)
    write_json(teacher.path.parent / "teacher.json", _recipe(config, dataset, teacher.lesson))
    models.save_checkpoint(model, teacher.path)
    return Teacher(model.eval().requires_grad_(False), teacher.path, True, teacher.lesson)


def _labels(config: RunConfig, dataset: Dataset) -> Tensor:
    """What a teacher learns."""
    train = dataset.train
    if config.teacher.labels == "given":
        return train.labels
    if train.clean is None:
        raise UserError("teacher.labels: got 'clean', but the clean labels of this data are not known; takes given.")
    return train.clean


def _recipe(config: RunConfig, dataset: Dataset, lesson: Lesson | None) -> dict[str, object]:
    """Everything that a trained teacher depends on; the samples themselves too, for a file may change under its name."""
    samples = hashlib.sha1(b"".join(dataset.train.content()), usedforsecurity=False)
    samples.update(_labels(config, dataset).numpy().data)
    for part in lesson or ():
        samples.update(part.numpy().data)
    sections = {"teacher", "data", "noise", "seed", "precision"}
    return {**config.model_dump(mode="json", include=sections), "samples": samples.hexdigest()}


def _folder(config: RunConfig, dataset: Dataset, lesson: Lesson | None) -> Path:
    recipe = json.dumps(_recipe(config, dataset, lesson), sort_keys=True)
    return cache_root() / "teachers" / hashlib.sha1(recipe.encode(), usedforsecurity=False).hexdigest()[:16]


def _checkpoint_path(checkpoint: str, data_root: Path | None) -> Path:
    places = [Path(checkpoint), *([data_root / checkpoint] if data_root else [])]
    for place in places:
        if place.is_file():
            return place
    raise UserError(
        f"teacher.checkpoint: got {checkpoint!r}, found no such file (looked at {', '.join(map(str, places))})."
    )
