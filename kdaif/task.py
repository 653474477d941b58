"""What is learnt, a class or a number: all that differs between the two, in one place.

The labels' type tells which (`task_of`): whole numbers are class numbers, floating-point ones are numbers to be predicted (a
regression) by a network with one output. Such labels are standardised: 0 is the training samples' mean, 1 their standard
deviation. So a loss means the same for all data (1 is what it costs to say the mean of every sample), and a temperature moves an
output towards the mean as it moves probabilities towards even ones.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torchmetrics.functional.classification import multiclass_accuracy

from kdaif.metrics.residuals import far

Outputs = Float[Tensor, "n outputs"]  # logits of the classes, or the one number
Labels = Int64[Tensor, "n"] | Float[Tensor, "n"]


class Task(NamedTuple):
    """Functions of a network's outputs and the labels, one a row."""

    loss: Callable[[Outputs, Labels], Float[Tensor, "n"]]
    says: Callable[[Outputs], Labels]  # what the network would put in the label's place
    confidence: Callable[[Outputs], Float[Tensor, "n"]]  # in what it says, 0..1; NaN: it tells of none
    trust: Callable[[Outputs], Float[Tensor, "n"]]  # how far what a teacher says may stand for a doubtful label, 0..1
    differs: Callable[[Labels, Labels], Bool[Tensor, "n"]]  # said, given -> whether that is another label
    margin: Callable[[Outputs, Labels], Float[Tensor, "n"]]  # how far the output is on the label's side
    accuracy: Callable[[Outputs, Labels], float]
    by_class: Callable[[Outputs, Labels], list[float]]  # the accuracy of each class; NaN: it has no sample
    groups: Callable[[Labels], Int64[Tensor, "n"]]  # samples that are alike but for their inputs


def task_of(labels: Labels) -> Task:
    """By the labels' type."""
    return NUMBERS if labels.is_floating_point() else CLASSES


# --- classes ---------------------------------------------------------------------------------------------------------


def _cross_entropy(outputs: Outputs, labels: Labels) -> Float[Tensor, "n"]:
    return F.cross_entropy(outputs, labels, reduction="none")


def _class_margin(outputs: Outputs, labels: Labels) -> Float[Tensor, "n"]:
    """Logit of the given class less the best other."""
    given = outputs.gather(1, labels[:, None])
    others = outputs.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    return (given - others).squeeze(1)


def _share_right(outputs: Outputs, labels: Labels) -> float:
    return float((outputs.argmax(1) == labels).double().mean())


def _share_right_by_class(outputs: Outputs, labels: Labels) -> list[float]:
    classes = outputs.shape[1]
    each = multiclass_accuracy(outputs, labels, num_classes=classes, average="none")
    return torch.where(torch.bincount(labels, minlength=classes) > 0, each, torch.nan).tolist()


CLASSES = Task(
    loss=_cross_entropy,
    says=lambda outputs: outputs.argmax(1),
    confidence=lambda outputs: outputs.softmax(1).amax(1),
    trust=lambda outputs: outputs.softmax(1).amax(1),
    differs=lambda said, given: said != given,
    margin=_class_margin,
    accuracy=_share_right,
    by_class=_share_right_by_class,
    groups=lambda labels: labels,
)

# --- numbers ---------------------------------------------------------------------------------------------------------


def _number(outputs: Outputs) -> Float[Tensor, "n"]:
    return outputs.squeeze(1)


def _squared_error(outputs: Outputs, labels: Labels) -> Float[Tensor, "n"]:
    return (_number(outputs) - labels).square()


def _far(said: Labels, given: Labels) -> Bool[Tensor, "n"]:
    """See `metrics.residuals.far`."""
    return torch.from_numpy(far(*(values.detach().cpu().numpy() for values in (said, given)))).to(given.device)


def correlation(outputs: Outputs, labels: Labels) -> float:
    """Pearson's, of prediction and label, -1..1; 0 where either is constant."""
    said, given = (values.double() - values.double().mean() for values in (_number(outputs), labels))
    size = (said.square().sum() * given.square().sum()).sqrt()
    return float((said * given).sum() / size) if size > 0 else 0.0


NUMBERS = Task(
    loss=_squared_error,
    says=_number,
    confidence=lambda outputs: torch.full_like(_number(outputs), torch.nan),
    trust=lambda outputs: torch.ones_like(_number(outputs)),
    differs=_far,
    margin=lambda outputs, labels: -(_number(outputs) - labels).abs(),
    accuracy=correlation,
    by_class=lambda outputs, labels: [correlation(outputs, labels)],
    groups=lambda labels: torch.zeros_like(labels, dtype=torch.int64),
)
