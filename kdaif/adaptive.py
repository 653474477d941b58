"""KD-AIF: the weights follow each sample's influence, the teacher's first and the student's as it learns.

Before the student starts, the teacher scores every training sample in one pass: the t-statistic of its influence on the
validation samples. These carry the teacher's labels by default: it never saw them, so what it says of them is a second
opinion, and a validation split cut from data that nobody checked can be used as it is (with its given labels AUROC for
flipped labels falls from 0.99 to 0.80-0.88 on digits at 60 % noise). The student's own scores then update these.

`influence.target` narrows the validation samples whose loss counts. Classes are compared at equal medians of t only for
target `all`: for a narrower one it is the point that some classes help it and others harm it. The curvature is always taken
from the whole validation split: a target changes which loss is to fall, not which steps are cheap.
"""

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdaif.config import InfluenceConfig, RunConfig, UserError, lookup
from kdaif.data import AUGMENTATIONS, Dataset, Split
from kdaif.data.augment import View
from kdaif.evaluate import predict
from kdaif.influence import MAPPINGS, PRECONDITIONERS, SOURCES, UPDATES, InfluenceWeights, make_probe
from kdaif.influence.calls import Criterion
from kdaif.targets import VALIDATION, check_target, labelled, select
from kdaif.task import CLASSES, task_of
from kdaif.weighting import Setting, Step

FOLDS = 8  # validation folds of a teacher scored in all its layers
# A whitened direction keeps right and wrong labels of images apart (digits at 60 % noise: 93.9 % with 0.1, 91.1 with 3); a damped
# one ranks sentences better and splits them as well (SST-2 at 20 and 40 %: AUROC +0.02 and +0.01)
DAMPING, OF_SENTENCES = 0.1, 3.0


# --- how the weights act on the loss: (weights, step, the losses whose influence counts) -> loss ----------------------


def on_both(weights: InfluenceWeights, step: Step, scored: Tensor) -> Tensor:
    """Label and teacher term are weighted alike."""
    losses = step.losses(step.labels)
    return weights(losses.total, step.index, scored=scored, terms=torch.stack(losses))


def on_label(weights: InfluenceWeights, step: Step, scored: Tensor) -> Tensor:
    """The label term alone is weighted: the image goes on teaching what the teacher says of it."""
    losses = step.losses(step.labels)
    return weights(losses.label, step.index, rest=losses.teacher, scored=scored, terms=torch.stack(losses))


def by_relabelling(weights: InfluenceWeights, step: Step, scored: Tensor) -> Tensor:
    """What a given label loses in weight goes to the teacher's label, so that no sample is lost."""
    losses = step.losses(step.labels)
    assert step.teacher_logits is not None
    says = task_of(step.labels).says(step.teacher_logits)
    instead, terms = step.losses(says).label, torch.stack(losses)
    return weights(losses.label, step.index, rest=losses.teacher, instead=instead, scored=scored, terms=terms)


def by_confidence(weights: InfluenceWeights, step: Step, scored: Tensor) -> Tensor:
    """What a sample loses goes to the teacher's label as far as the teacher is sure of it; the rest of it is dropped, with the
    teacher's term: a teacher that learnt from wrong labels is wrong where they are. A number comes without a probability: there
    the teacher is trusted in full."""
    losses = step.losses(step.labels)
    assert step.teacher_logits is not None
    task = task_of(step.labels)
    trust, says = task.trust(step.teacher_logits), task.says(step.teacher_logits)
    instead, terms = step.losses(says).total, torch.stack(losses)
    return weights(losses.total, step.index, instead=instead, trust=trust, scored=scored, terms=terms)


APPLY: dict[str, Callable[[InfluenceWeights, Step, Tensor], Tensor]] = {
    "both": on_both,
    "label": on_label,
    "relabel": by_relabelling,
    "confident": by_confidence,
}

# --- who must second a weight below neutral: teacher's predictions, given labels -> where it may fall ----------------
# `disagreement`: the teacher says another class; of a number: one further from the given than the spread of all residuals
# (`metrics.residuals.far`)

CORROBORATE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "none": lambda predictions, labels: torch.ones_like(labels, dtype=torch.bool),
    "disagreement": lambda predictions, labels: task_of(labels).differs(predictions, labels),
}


def tempered(logits: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """T^2 l(logits / T, label) of each sample: the label's loss, whose influence is scored.

    A network that is sure of everything has no gradient left at T = 1, and a validation gradient of nothing points nowhere:
    with a teacher that had seen all images (99.9 % right) AUROC for flipped labels is 0.61 at T = 1 and 0.999 at T = 4.
    Of numbers l is the squared error, at T that of an output shrunk towards the mean label. At T = 1 a teacher has no loss, hence
    no gradient, on validation labels of its own; at T > 1 these pull away from the mean, each to its side.
    """
    return temperature**2 * task_of(labels).loss(logits / temperature, labels)


def criterion_at(temperature: float) -> Criterion:
    """(network, (inputs, labels)) -> `tempered` loss of each sample."""
    return lambda network, pair: tempered(network(pair[0]), pair[1], temperature)


def damping_of(influence: InfluenceConfig, train: Split) -> float:
    """What is added to the curvature, as a share of its mean eigenvalue."""
    if influence.damping is not None:
        return influence.damping
    return OF_SENTENCES if train.texts is not None and task_of(train.labels) is CLASSES else DAMPING


class AdaptiveWeights:
    """`Weighting` of method kd-aif."""

    def __init__(self, setting: Setting) -> None:
        began = time.monotonic()
        influence = setting.config.influence
        self.setting, self.influence = setting, influence
        self.criterion = criterion_at(influence.target_temperature)
        self.update = UPDATES[influence.update]
        self.apply = APPLY[influence.apply_to]
        train, validation = setting.dataset.train, setting.dataset.validation
        self.task = task_of(train.labels)
        self.teacher_logits = self._teacher_says(train)
        predictions = self.task.says(self.teacher_logits)
        disputed = CORROBORATE[influence.corroborate](predictions, train.labels.to(setting.device))
        said = self._teacher_says(validation).cpu()
        self.validation = labelled(influence.validation, validation, self.task.says(said))
        in_use = torch.from_numpy(np.isin(validation.ids, self.validation.ids))
        self.target = select(influence.target, self.validation, setting.dataset.classes, said[in_use])
        self.disputed = disputed
        self.scoring_runs = influence.scoring_runs if self.update.phases > 1 else 0
        self.prior = torch.full((len(train),), torch.nan, device=setting.device)
        with _sentences():
            if influence.source != "student":
                self.prior = self._score_with_teacher()
            self.weights = self._weights_of(setting.student, self.prior, influence.source)
        self.seconds = time.monotonic() - began

    def next_run(self, student: nn.Module) -> "AdaptiveWeights":
        following, table = copy.copy(self), self.weights.table
        self.weights.close()
        scores = SOURCES[self.influence.source](self.prior, table.own(), table.trust())
        scores = torch.where(torch.isfinite(scores), scores, table.influence())
        # a run's weights stay as the scoring runs before it made them
        following.weights = self._weights_of(student, scores, "teacher")
        return following

    def _weights_of(self, student: nn.Module, prior: Tensor, source: str) -> InfluenceWeights:
        influence, config = self.influence, self.setting.config
        size, whole = len(self.setting.dataset.train), influence.target == "all"
        return InfluenceWeights(
            student,
            self.setting.whole(self.target),
            size,
            curvature=None if whole else self.setting.whole(self.validation),
            criterion=self.criterion,
            scope=influence.scope,
            preconditioner=influence.preconditioner,
            damping=damping_of(influence, self.setting.dataset.train),
            update=influence.update,
            mapping=influence.mapping,
            source=source,
            smoothing=influence.smoothing,
            prior=prior,
            disputed=self.disputed,
            groups=self.task.groups(self.setting.dataset.train.labels) if whole else None,
            refresh_steps=influence.refresh_steps,
            validation_batch=influence.validation_batch,
            warmup=round(influence.warmup * config.student.optim.epochs) * size,
            seed=config.seed,
        )

    def loss(self, step: Step) -> Tensor:
        began = time.monotonic()
        scored = tempered(step.logits, step.labels, self.influence.temperature)
        loss = self.apply(self.weights, step, scored)
        self.seconds += time.monotonic() - began
        return loss

    def before_epoch(self, epoch: int) -> None:
        if self.update.whole_set and (epoch - 1) % self.influence.refresh_epochs == 0 and epoch > 1:
            began = time.monotonic()
            self.weights.rescore(self._pairs(self.setting.dataset.train), criterion_at(self.influence.temperature))
            self.seconds += time.monotonic() - began

    def after_step(self) -> None:
        self.weights.step()

    def columns(self) -> dict[str, Any]:
        table = self.weights.table
        known = {
            "influence": table.influence(),
            "influence_raw": table.raw / table.trust(),
            "influence_spread": table.spread(),
            "student_influence": table.own(),
            "influence_label": table.terms[0],
            "influence_teacher": table.terms[1],
            "visits": table.visits,
            "harmful_visits": table.harmful_visits,
            "weight": table.applied,
        }
        return {name: column.cpu().numpy() for name, column in known.items()}

    def state_dict(self) -> dict[str, Any]:
        return self.weights.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weights.load_state_dict(state)

    def _teacher_says(self, split: Split) -> Tensor:
        """The teacher's logits, in the split's order."""
        assert self.setting.teacher is not None
        with self.setting.autocast():
            return predict(self.setting.teacher, self.setting.ordered(split)).clone()

    def _score_with_teacher(self) -> Tensor:
        """The t-statistic of each training sample's influence in the teacher's parameters, mean over the views."""
        assert self.setting.teacher is not None
        self.setting.teacher.requires_grad_(True)
        views = lookup(AUGMENTATIONS, self.setting.config.data.augment, "data.augment").views
        scores = torch.stack([self._scores_of(view) for view in views]).mean(0)
        self.setting.teacher.requires_grad_(False)
        return scores

    def _scores_of(self, view: View) -> Tensor:
        """The same with all images, validation's too, seen in one way."""
        teacher, influence = self.setting.teacher, self.influence
        assert teacher is not None
        inputs, labels = self.setting.whole(self.target)
        folds = min(FOLDS, len(labels))
        batches = list(zip(view(inputs).tensor_split(folds), labels.tensor_split(folds), strict=True))
        curved = [(view(seen), given) for _, (seen, given) in self._pairs(self.validation)]
        with self.setting.autocast():
            probe = make_probe(
                teacher,
                self.criterion,
                batches,
                scope=influence.scope,
                preconditioner=influence.preconditioner,
                damping=damping_of(influence, self.setting.dataset.train),
                curvature=None if influence.target == "all" else curved,
            )
        scored = criterion_at(influence.temperature)
        scores = torch.empty(len(self.setting.dataset.train), device=self.setting.device)
        for index, (seen, given) in self._pairs(self.setting.dataset.train):
            with self.setting.autocast():
                found = probe(teacher, scored, (view(seen), given)).t
            scores[index] = found.detach().to(scores.dtype)
        return scores

    def _pairs(self, split: Split) -> Iterator[tuple[Tensor, tuple[Tensor, Tensor]]]:
        return ((batch.index, (batch.inputs, batch.labels)) for batch in self.setting.ordered(split))


@contextmanager
def _sentences() -> Iterator[None]:
    """What the engine refuses is a matter of the run's settings here: `UserError`."""
    try:
        yield
    except ValueError as error:
        raise UserError(f"influence: {str(error).rstrip('.')}.") from error


def check_adaptive(config: RunConfig, dataset: Dataset) -> None:
    """Raises `UserError` for a name that does not exist, before a teacher is trained."""
    for name, registry in _NAMES.items():
        lookup(registry, getattr(config.influence, name), f"influence.{name}")
    check_target(config.influence.target, dataset.classes, dataset.validation)


_NAMES: dict[str, Mapping[str, Any]] = {
    "source": SOURCES,
    "update": UPDATES,
    "mapping": MAPPINGS,
    "preconditioner": PRECONDITIONERS,
    "apply_to": APPLY,
    "corroborate": CORROBORATE,
    "validation": VALIDATION,
}
