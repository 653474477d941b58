"""A network's logits over a whole split, and the figures made from them."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchmetrics.functional import pearson_corrcoef, spearman_corrcoef
from torchmetrics.functional.classification import (
    binary_f1_score,
    multiclass_accuracy,
    multiclass_f1_score,
    multiclass_matthews_corrcoef,
)

from kdaif.data import Batch, Split


class Evaluation(NamedTuple):
    """Figures of a network on one split: accuracies are shares 0..1, the loss is in nats."""

    accuracy: float
    loss: float
    class_accuracy: list[float]  # NaN for a class without a sample


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, "n classes"]:
    """Logits of every sample, in the split's order, in eval mode."""
    was_training = model.training
    model.eval()
    indices, parts = zip(*((batch.index, model(batch.inputs).float()) for batch in batches), strict=True)
    model.train(was_training)
    logits = torch.cat(parts)
    return torch.empty_like(logits).index_copy_(0, torch.cat(indices), logits)


def evaluate(model: nn.Module, batches: Iterable[Batch], labels: Int64[Tensor, "n"]) -> Evaluation:
    """Accuracy, mean cross-entropy and accuracy of each class."""
    return judge(predict(model, batches), labels)


def judge(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Evaluation:
    """The same of logits."""
    labels = labels.to(logits.device)
    classes = logits.shape[1]
    each = multiclass_accuracy(logits, labels, num_classes=classes, average="none")
    present = torch.bincount(labels, minlength=classes) > 0
    return Evaluation(
        accuracy=float((logits.argmax(1) == labels).double().mean()),
        loss=float(F.cross_entropy(logits, labels)),
        class_accuracy=torch.where(present, each, torch.nan).tolist(),
    )


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
    """Correlation of the expected class with people's mean rating, -1..1: for classes that are grades."""
    return float(pearson_corrcoef(*_grades(logits, split)))


def spearman(logits: Float[Tensor, "n classes"], split: Split) -> float:
    """Rank correlation of the same, -1..1."""
    return float(spearman_corrcoef(*_grades(logits, split)))


def _grades(logits: Float[Tensor, "n classes"], split: Split) -> tuple[Float[Tensor, "n"], Float[Tensor, "n"]]:
    rating = split.labels.float() if split.rating is None else torch.from_numpy(split.rating)
    return logits.float().softmax(1) @ torch.arange(logits.shape[1]).to(logits), rating.to(logits.device)


FIGURES: dict[str, Callable[[Float[Tensor, "n classes"], Split], float]] = {
    "f1": f1,
    "matthews": matthews,
    "pearson": pearson,
    "spearman": spearman,
}


class Opinions(NamedTuple):
    """What a network says of samples with given labels."""

    prediction: Int64[Tensor, "n"]
    confidence: Float[Tensor, "n"]  # probability of the prediction, 0..1
    loss: Float[Tensor, "n"]  # cross-entropy on the given label, nats
    margin: Float[Tensor, "n"]  # logit of the given label less the best other


def opinions(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, "n"]) -> Opinions:
    """Prediction, confidence, loss and margin of each sample."""
    confidence, prediction = logits.softmax(1).max(1)
    given = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf).amax(1, keepdim=True)
    loss = F.cross_entropy(logits, labels, reduction="none")
    return Opinions(prediction, confidence, loss, (given - others).squeeze(1))
