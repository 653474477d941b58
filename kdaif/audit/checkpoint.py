"""What an audit looks at: one network of a finished run, the samples it learnt from, and what the run wrote down."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int32, Int64
from numpy.typing import NDArray
from torch import Tensor, nn

from kdaif import models
from kdaif.adaptive import criterion_at, damping_of
from kdaif.config import RunConfig, UserError
from kdaif.data import Batches, Dataset, Split, load
from kdaif.evaluate import predict
from kdaif.fit import make_accelerator, new_model
from kdaif.influence.scores import Criterion
from kdaif.report import detectors
from kdaif.runs import Run
from kdaif.runs.sameness import check_same_samples
from kdaif.targets import labelled, select
from kdaif.task import task_of
from kdaif.teacher import find_teacher

BATCH = 256

Pair = tuple[
    Float[Tensor, "_ ..."] | Int32[Tensor, "_ 2 _"], Int64[Tensor, "_"] | Float[Tensor, "_"]
]  # inputs and given labels, on the device
Score = NDArray[np.floating]  # a value a compared sample, higher = more harmful


def draw(part: int, seed: int = 0) -> np.random.Generator:
    """Random numbers of one part of the audit, from other seeds than those of label noise and splits: a subset drawn from the
    same stream as the flipped labels would be nothing but flipped labels."""
    return np.random.default_rng([0x61756469, 0x74, part, seed])


@dataclass(frozen=True)
class Effort:
    """How much an audit spends: the full one takes minutes on digits, the quick one seconds."""

    compared: int  # training samples, drawn at random, that all detectors are compared on
    krylov: int  # steps of captum's Arnoldi iteration as a detector
    curved: int  # samples, of those compared, whose loss it takes the Hessian of, again in each step
    arnoldi: int  # its steps against retraining; 0: it is left out, for it costs more than the retraining
    samples: int  # training samples, drawn at random, of the retrained set
    subsets: int  # random halves of it that are retrained
    repeats: int  # seeds of each retraining
    networks: int  # networks trained on all of it, whose scores are averaged
    left_out: int  # samples left out one at a time
    removed: tuple[float, ...]  # shares of the samples that the removal curve takes away


FULL = Effort(1000, 60, 128, 200, 2000, 50, 2, 2, 40, (0.1, 0.2, 0.4))
QUICK = Effort(400, 30, 100, 0, 2000, 16, 1, 1, 10, (0.2,))


@dataclass(frozen=True)
class Case:
    """A finished run with its data and its teacher."""

    run: Run
    config: RunConfig
    dataset: Dataset
    device: torch.device
    teacher: nn.Module  # eval mode, frozen

    def batches(self, split: Split) -> Batches:
        """The split's samples once, without augmentation."""
        options: dict[str, Any] = {"shuffle": False, "augment": "none", "device": self.device, "seed": 0}
        return Batches(split, self.dataset.mean, self.dataset.std, BATCH, **options)

    def pair(self, split: Split) -> Pair:
        """The split as one batch."""
        batch = self.batches(split).whole()
        return batch.inputs, batch.labels

    @property
    def criterion(self) -> Criterion:
        """The validation losses that are to fall."""
        return criterion_at(self.config.influence.target_temperature)

    @property
    def scored_criterion(self) -> Criterion:
        """The losses whose influence the run measures."""
        return criterion_at(self.config.influence.temperature)

    @property
    def damping(self) -> float:
        """Of the curvature, as the run has it."""
        return damping_of(self.config.influence, self.dataset.train)

    def targets(self) -> Split:
        """The run's influence targets: by default all validation samples, with the teacher's labels."""
        influence, validation = self.config.influence, self.dataset.validation
        said = predict(self.teacher, self.batches(validation)).cpu()
        in_use = labelled(influence.validation, validation, task_of(validation.labels).says(said))
        rows = torch.from_numpy(np.isin(validation.ids, in_use.ids))
        return select(influence.target, in_use, self.dataset.classes, said[rows])


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A network at the end of its training, with what a detector may use."""

    network: nn.Module  # eval mode, all parameters trained
    compared: NDArray[np.int64]  # positions, ascending, of the random training samples that detectors are compared on
    train: Pair  # these samples
    validation: Pair  # the influence targets
    criterion: Criterion  # the validation losses that are to fall
    scored_criterion: Criterion  # the losses whose influence the run measures
    damping: float
    recorded: Mapping[str, Score]  # what the run wrote down while it trained
    krylov: int
    curved: int


def open_case(run: Run, data_root: Path | None) -> Case:
    """The run as it was when it ended; `UserError` for one that is not done, has no teacher, or whose files are gone."""
    if (state := run.status().state) != "done":
        raise UserError(f"audit: run {run.id} is {state}, takes a run that is done.")
    config, provenance = run.config(), run.provenance()
    if "teacher" not in provenance:
        raise UserError(f"audit: run {run.id} of method {config.method} has no teacher, takes a run that has.")
    root = data_root or (Path(provenance["data_root"]) if provenance["data_root"] else None)
    dataset = load(config.data, config.noise, config.seed, root)
    check_same_samples(run, pd.DataFrame({"id": dataset.train.ids, "hash": dataset.train.hashes()}))
    device = make_accelerator(config).device
    kept = config.teacher.model_copy(update={"checkpoint": provenance["teacher"]})
    teacher = find_teacher(config.model_copy(update={"teacher": kept}), dataset, root, device)
    return Case(run, config, dataset, device, teacher.model)


def open_checkpoint(case: Case, network: str, effort: Effort) -> Checkpoint:
    """The run's `teacher` or `student` as a checkpoint; `UserError` for another name."""
    train = case.dataset.train
    chosen = np.sort(draw(0).permutation(len(train))[: effort.compared])
    return Checkpoint(
        network=open_network(case, network).eval().requires_grad_(True),
        compared=chosen,
        train=case.pair(train.subset(torch.from_numpy(chosen))),
        validation=case.pair(case.targets()),
        criterion=case.criterion,
        scored_criterion=case.scored_criterion,
        damping=case.damping,
        recorded={name: score[chosen] for name, score in detectors(case.run).items()},
        krylov=effort.krylov,
        curved=effort.curved,
    )


def open_network(case: Case, name: str) -> nn.Module:
    """The run's `teacher` or `student`; `UserError` for another name."""
    if name == "teacher":
        return case.teacher
    if name == "student":
        student = new_model(case.config.student.model, case.dataset, case.device, "student.model")
        models.load_checkpoint(student, case.run.student_path, "student")
        return student
    raise UserError(f"--network: got {name!r}, takes teacher or student.")
