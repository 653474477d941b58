"""The influence target: the validation samples whose loss a training sample is held to help or harm.

`influence.validation` says which labels a validation sample carries, by name in `VALIDATION`. `influence.target` is a name of
`TARGETS`, some with an argument behind a colon: `all`, `class:NAME-or-INDEX`, `worst-class`, `group:COLUMN=VALUE`, `ids:FILE`.
Each takes the validation split with the labels in use, the class names and the teacher's logits, and says which samples count.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from kdaif.config import UserError
from kdaif.data import Split
from kdaif.task import NUMBERS, Labels, task_of

# validation split, the teacher's predictions for it (on the CPU) -> the samples and labels in use
VALIDATION: dict[str, Callable[[Split, Tensor], Split]] = {
    "given": lambda split, predictions: split,
    "agreed": lambda split, predictions: split.subset(~task_of(split.labels).differs(predictions, split.labels)),
    "teacher": lambda split, predictions: replace(split, labels=predictions),
}

OF_CLASSES = ("class", "worst-class")  # targets that labels which are numbers have not
LEAST = 2  # samples of which a mean has a standard error
Mask = Bool[Tensor, "n"]
Chooser = Callable[[str, Split, tuple[str, ...], Float[Tensor, "n classes"]], Mask]


def labelled(validation: str, split: Split, predictions: Labels) -> Split:
    """The validation samples with the labels in use; `UserError` where fewer than two are left."""
    found = VALIDATION[validation](split, predictions)
    if len(found) < LEAST:
        raise UserError(
            "influence.validation: the teacher agrees with fewer than 2 validation labels; takes teacher or given."
        )
    return found


def everything(argument: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Mask:
    """The whole split."""
    return torch.ones(len(split), dtype=torch.bool)


def one_class(argument: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Mask:
    """The samples of the class of that name, else of that number from 0."""
    return split.labels == class_number(argument, classes)


def worst_class(argument: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Mask:
    """The samples of the class with the teacher's highest mean cross-entropy; a class of fewer than two is passed over.

    A loss and not an accuracy, because with the teacher's own labels in use (the default) every accuracy is 1: then it is the
    class that the teacher is least sure of.
    """
    counts = torch.bincount(split.labels, minlength=len(classes))
    losses = F.cross_entropy(logits, split.labels, reduction="none")
    means = torch.zeros(len(classes), dtype=losses.dtype).index_add(0, split.labels, losses) / counts
    return split.labels == means.where(counts >= LEAST, -torch.inf).argmax()


def group(argument: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Mask:
    """The samples of which a column of the source says this value."""
    column, value = group_of(argument, split)
    return torch.from_numpy(split.columns[column] == value)


def chosen(argument: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Mask:
    """The samples whose ids stand in a text file, one a line."""
    ids = read_ids(argument)
    if unknown := sorted(set(ids) - set(split.ids.tolist())):
        raise UserError(
            f"influence.target: {len(unknown)} ids in {argument} are none of the {len(split)} validation samples "
            f"in use (first {unknown[0]!r})."
        )
    return torch.from_numpy(np.isin(split.ids, ids))


TARGETS: dict[str, Chooser] = {
    "all": everything,
    "class": one_class,
    "worst-class": worst_class,
    "group": group,
    "ids": chosen,
}
ARGUMENTS = {
    "class": "NAME",
    "group": "COLUMN=VALUE",
    "ids": "FILE",
}  # what stands behind the colon, where something does


def select(target: str, split: Split, classes: tuple[str, ...], logits: Float[Tensor, "n classes"]) -> Split:
    """The target's samples, in the split's order; `UserError` for a target that does not fit or has fewer than two."""
    kind, argument = parse(target)
    found = split.subset(TARGETS[kind](argument, split, classes, logits))
    if len(found) < LEAST:
        raise UserError(
            f"influence.target: {target!r} leaves {len(found)} of the {len(split)} validation samples in use, "
            f"takes a target of at least {LEAST}."
        )
    return found


def parse(target: str) -> tuple[str, str]:
    """(name in `TARGETS`, argument or ""); raises `UserError` for any other form."""
    kind, colon, argument = target.partition(":")
    whole = kind != "group" or "=" in argument
    if kind in TARGETS and bool(colon) == bool(argument) == (kind in ARGUMENTS) and whole:
        return kind, argument
    forms = [f"{name}:{ARGUMENTS[name]}" if name in ARGUMENTS else name for name in TARGETS]
    raise UserError(f"influence.target: got {target!r}, takes one of {', '.join(forms)}.")


def check_target(target: str, classes: tuple[str, ...], validation: Split) -> None:
    """What can be told before there is a teacher; raises `UserError`."""
    kind, argument = parse(target)
    if kind in OF_CLASSES and task_of(validation.labels) is NUMBERS:
        others = ", ".join(name for name in TARGETS if name not in OF_CLASSES)
        raise UserError(
            f"influence.target: got {target!r}, which is made for classes; takes one of {others} for numbers."
        )
    if kind == "class":
        class_number(argument, classes)
    if kind == "group":
        group_of(argument, validation)
    if kind == "ids":
        read_ids(argument)


def class_number(name: str, classes: tuple[str, ...]) -> int:
    """Of a class's name or, where no class is called so, its number from 0; `UserError` for an unknown one."""
    if name in classes:
        return classes.index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    named = ", ".join(classes[:10]) + (", ..." if len(classes) > 10 else "")
    raise UserError(
        f"influence.target: there is no class {name!r}, takes one of {named} or a number from 0 to {len(classes) - 1}."
    )


def group_of(argument: str, split: Split) -> tuple[str, str]:
    """(column, value) of COLUMN=VALUE; `UserError` for a column or value that the samples have not."""
    column, _, value = argument.partition("=")
    if column not in split.columns:
        there = (
            f"takes one of {', '.join(split.columns)}" if split.columns else "the data have none beside input and label"
        )
        raise UserError(f"influence.target: there is no column {column!r}, {there}.")
    values = np.unique(split.columns[column]).tolist()
    if value not in values:
        named = ", ".join(values[:10]) + (", ..." if len(values) > 10 else "")
        raise UserError(
            f"influence.target: no validation sample has {value!r} in column {column!r}, takes one of {named}."
        )
    return column, value


def read_ids(file: str) -> list[str]:
    """The lines of a text file, but for empty ones; `UserError` for a file that cannot be read."""
    try:
        lines = Path(file).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"influence.target: {file} cannot be read as text ({type(error).__name__}).") from None
    return [line.strip() for line in lines if line.strip()]
