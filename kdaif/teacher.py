"""The teacher: loaded from a checkpoint, taken as it comes, or trained on the run's data and kept for all runs that want it."""

import hashlib
import json
from collections.abc import Sequence
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
from kdaif.influence.layers import head
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
    """The teacher of a run from its checkpoint, its model or the cache, else one that waits for `train_teacher`.

    Raises `UserError` for a bad checkpoint, a model whose classes are not the data's, or a teacher that could not be trained.
    """
    torch.manual_seed(config.seed)
    model = new_model(config.teacher.model, dataset, device, "teacher.model")
    make_optimizer(model, config.teacher.optim, 1, "teacher.optim")  # names are checked before anything is trained
    checkpoint = config.teacher.checkpoint
    if config.teacher.labels == "none" and not checkpoint:
        return _as_it_comes(model, config.teacher.model, dataset)
    if checkpoint:
        path = _checkpoint_path(checkpoint, data_root)
    else:
        path = _folder(config, dataset, lesson) / "teacher.safetensors"
        if not path.exists():
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


def _as_it_comes(model: nn.Module, name: str, dataset: Dataset) -> Teacher:
    """A network that was trained for these classes elsewhere, its outputs in the data's order; kept in the cache as well."""
    classes = model.classes if isinstance(model, models.TextClassifier) else ()
    if not classes or dataset.scale is not None:
        wanted = "numbers" if dataset.scale else f"{len(dataset.classes)} classes"
        raise UserError(
            f"teacher.labels: got 'none', but {name!r} comes with no trained head for {wanted}; takes a text model that was "
            "fine-tuned for the classes of the data, a teacher.checkpoint, or given."
        )
    order = _order(classes, dataset.classes, name)
    with torch.no_grad():
        for parameter in head(model)[1].parameters():
            parameter.copy_(parameter[order].clone())
    digest = hashlib.sha1(usedforsecurity=False)
    for part, tensor in model.state_dict().items():
        digest.update(part.encode() + tensor.cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    path = cache_root() / "teachers" / digest.hexdigest()[:16] / "teacher.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        models.save_checkpoint(model, path)
    return Teacher(model.eval().requires_grad_(False), path, ready=True)


def _order(own: Sequence[str], classes: Sequence[str], name: str) -> list[int]:
    """Which output of the network says each class of the data: by name, or one by one where either has numbers for names."""
    if sorted(own) == sorted(classes):
        return [own.index(word) for word in classes]
    lower, wanted = ([word.lower() for word in words] for words in (own, classes))
    if sorted(lower) == sorted(wanted) and len(set(lower)) == len(lower):
        return [lower.index(word) for word in wanted]
    unnamed = [f"label_{number}" for number in range(len(own))]
    if lower == unnamed or wanted == [str(number) for number in range(len(wanted))]:
        return [*range(len(own))]
    raise UserError(
        f"teacher.labels: got 'none', but {name!r} tells {', '.join(own[:5])} apart and the data {', '.join(classes[:5])}; takes "
        "a text model whose config.json names the classes as the data do, or by number (LABEL_0, LABEL_1)."
    )


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
