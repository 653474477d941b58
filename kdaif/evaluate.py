"""A network's logits over a whole split, and the figures made from them."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_accuracy

from kdaif.data import Batch


class Evaluation(NamedTuple):
    """Figures of a network on one split: accuracies are shares 0..1, the loss is in nats."""

    accuracy: float
    loss: float
    class_accuracy: list[float]  # NaN for a class without a sample


@torch.inference_mode()
def predict(model: nn.Module, batches: Iterable[Batch]) -> Float[Tensor, "n classes"]:
    """Logits of every sample, in the split's order, in eval mode; batches must come unshuffled."""
    was_training = model.training
    model.eval()
    logits = torch.cat([model(batch.inputs).float() for batch in batches])
    model.train(was_training)
    return logits


def evaluate(model: nn.Module, batches: Iterable[Batch], labels: Int64[Tensor, "n"]) -> Evaluation:
    """Accuracy, mean cross-entropy and accuracy of each class."""
    logits = predict(model, batches)
    labels = labels.to(logits.device)
    classes = logits.shape[1]
    each = multiclass_accuracy(logits, labels, num_classes=classes, average="none")
    present = torch.bincount(labels, minlength=classes) > 0
    return Evaluation(
        accuracy=float((logits.argmax(1) == labels).double().mean()),
        loss=float(F.cross_entropy(logits, labels)),
        class_accuracy=torch.where(present, each, torch.nan).tolist(),
    )


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
