"""A network's logits over a whole split, and the figures made from them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torchmetrics.functional import spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
)

from kdaif.data import Batch, Split
from kdaif.task import Labels, correlation, task_of


class Evaluation(NamedTuple):
    """Figures of a network on one split."""

    accuracy: float  # share 0..1; where labels are numbers Pearson's correlation with them, -1..1
    loss: float  # mean, in nats; of numbers in units of their variance
    class_accuracy: list[float]  # NaN for a class without a sample; of numbers one entry, the accuracy


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, "n classes"]:
    """Logits of every sample, in the split's order, in eval mode."""
    was_training = model.training
    model.eval()
    indices, parts = zip(*((batch.index, model(batch.inputs).float()) for batch in batches), strict=True)
    model.train(was_training)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, torch.cat(indices), logits)


def evaluate(model: nn.Module, batches: Iterable[Batch], labels: Labels) -> Evaluation:
    """Accuracy, mean loss and accuracy of each class."""
    return judge(predict(model, batches), labels)


def judge(logits: Float[Tensor, "n classes"], labels: Labels) -> Evaluation:
    """The same of logits."""
    labels = labels.to(logits.device)
    task = task_of(labels)
    loss = float(task.loss(logits, labels).mean())
    return Evaluation(task.accuracy(logits, labels), loss, task.by_class(logits, labels))


# --- what GLUE judges its tasks by, beside accuracy ------------------------------------------------------------------


def f1(logits: Float[Tensor, "n classes"], split: Split) -> float:
    """Of class 1 where there are two, else the mean over classes."""
    if logits.shape[1] == 2:
        return float(binary_f1_score(logits.argmax(1), split.labels.to(logits.device)))
    return float(multiclass_f1_score(logits, split.labels.to(logits.device), num_classes=logits.shape[1]))


def matthews(logits: Float[Tensor, "n classes"], split: Split) -> float:
    """Correlation of predicted and given class, -1..1."""
    return float(multiclass_matthews_corrcoef(logits, split.labels.to(logits.device), num_classes=logits.shape[1]))


def pearson(logits: Float[Tensor, "n classes"], split: Split) -> float:
    """Correlation of predicted and given number, -1..1."""
    return correlation(logits, split.labels.to(logits.device))


def spearman(logits: Float[Tensor, "n classes"], split: Split) -> float:
    """Rank correlation of the same, -1..1."""
    return float(spearman_corrcoef(logits.squeeze(1).float(), split.labels.to(logits)))


FIGURES: dict[str, Callable[[Float[Tensor, "n classes"], Split], float]] = {
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


class Opinions(NamedTuple):
    """What a network says of samples with given labels."""

    prediction: Labels
    confidence: Float[Tensor, "n"]  # probability of the prediction, 0..1; NaN: a number has none
    loss: Float[Tensor, "n"]  # on the given label: cross-entropy in nats, or squared error
    margin: Float[Tensor, "n"]  # logit of the given label less the best other; of a number minus the distance to it


def opinions(logits: Float[Tensor, "n classes"], labels: Labels) -> Opinions:
    """Prediction, confidence, loss and margin of each sample."""
    task = task_of(labels)
    return Opinions(task.says(logits), task.confidence(logits), task.loss(logits, labels), task.margin(logits, labels))
