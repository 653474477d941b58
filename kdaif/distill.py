"""Per-sample distillation losses: l_i = alpha CE(student_i, y_i) + (1 - alpha) T^2 D(teacher_i, student_i).

D is what a loss of `LOSSES` is told apart by: the KL divergence of softened outputs (Hinton), its decoupled form (DKD) or the one
of standardised logits. Nothing is summed over the batch: the two terms of each sample stay apart, so that each can be weighted
and its influence scored. T^2 keeps the gradient's size independent of T, and so alpha's meaning.

Where labels are numbers (see task.py) CE is the squared error, and D that between student and teacher: T cancels out.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from kdaif.task import NUMBERS, Labels, task_of

NCKD_WEIGHT = 8.0  # beta of DKD; the paper's usual choice on CIFAR-100, with 1 for TCKD


class LossTerms(NamedTuple):
    """One batch's losses, in nats (of numbers: in units of their variance), each already multiplied by its share; at least
    float32."""

    label: Float[Tensor, "batch"]  # alpha CE
    teacher: Float[Tensor, "batch"]  # (1 - alpha) T^2 D

    @property
    def total(self) -> Float[Tensor, "batch"]:
        return self.label + self.teacher

    def with_teacher(self, more: Float[Tensor, "batch"] | None) -> "LossTerms":
        """With something else that the teacher asks for added to its term."""
        return self if more is None else self._replace(teacher=self.teacher + more)


Logits = Float[Tensor, "batch classes"]
PerSample = Float[Tensor, "batch"]
Divergence = Callable[[Logits, Logits, Int64[Tensor, "batch"], float], PerSample]
Loss = Callable[[Logits, Logits | None, Labels, float, float], LossTerms]


def kl_divergence(log_teacher: Logits, log_student: Logits) -> PerSample:
    """KL(teacher || student) of each row, in nats, from finite log-probabilities."""
    return (log_teacher.exp() * (log_teacher - log_student)).sum(1)


def softened(
    student_logits: Logits, teacher_logits: Logits, labels: Int64[Tensor, "batch"], temperature: float
) -> PerSample:
    """KL of the softmaxes at temperature T (Hinton, Vinyals, Dean, arXiv 1503.02531, section 2, eq. 1)."""
    return kl_divergence(F.log_softmax(teacher_logits / temperature, 1), F.log_softmax(student_logits / temperature, 1))


def decoupled(
    student_logits: Logits, teacher_logits: Logits, labels: Int64[Tensor, "batch"], temperature: float
) -> PerSample:
    """TCKD + beta NCKD (Zhao et al., "Decoupled knowledge distillation", CVPR 2022, section 3), beta = `NCKD_WEIGHT`.

    TCKD is the KL of "the labelled class or not"; NCKD the KL among the other classes. `softened` is their sum with
    1 - p_teacher(label) in the place of beta: a sure teacher mutes what it knows of the other classes.
    """
    (teacher_is, teacher_others), (student_is, student_others) = (
        _decouple(logits / temperature, labels[:, None]) for logits in (teacher_logits, student_logits)
    )
    return kl_divergence(teacher_is, student_is) + NCKD_WEIGHT * kl_divergence(teacher_others, student_others)


def _decouple(logits: Logits, label: Int64[Tensor, "batch 1"]) -> tuple[Float[Tensor, "batch 2"], Logits]:
    """Log-probabilities of labelled class and rest, and of the classes in the rest (0 stands at the labelled class)."""
    labelled = torch.arange(logits.shape[1], device=logits.device) == label
    others = logits.masked_fill(labelled, -torch.inf)
    either = torch.cat([logits.gather(1, label), others.logsumexp(1, keepdim=True)], dim=1)
    # entries that teacher and student share add nothing to a KL
    return F.log_softmax(either, 1), F.log_softmax(others, 1).masked_fill(labelled, 0.0)


def standardised(
    student_logits: Logits, teacher_logits: Logits, labels: Int64[Tensor, "batch"], temperature: float
) -> PerSample:
    """`softened` on z-scores of each sample's logits (Sun et al., "Logit standardization in KD", CVPR 2024, algorithm 1).

    The student need not match the teacher's scale; T is usually 2. The z-score is a layer norm's: population variance, floored
    at 1e-5. (The authors' code takes the sample variance: its T is ours / sqrt(classes / (classes - 1)).)
    """
    student, teacher = (F.layer_norm(logits, logits.shape[1:]) for logits in (student_logits, teacher_logits))
    return softened(student, teacher, labels, temperature)


def label_only(
    student_logits: Logits, teacher_logits: Logits | None, labels: Labels, alpha: float, temperature: float
) -> LossTerms:
    """The label's loss alone, whatever alpha; the teacher has no say."""
    loss = task_of(labels).loss(_wide(student_logits), labels)
    return LossTerms(loss, torch.zeros_like(loss))


def _distilled(divergence: Divergence) -> Loss:
    def loss(
        student_logits: Logits, teacher_logits: Logits | None, labels: Labels, alpha: float, temperature: float
    ) -> LossTerms:
        plain = label_only(student_logits, teacher_logits, labels, alpha, temperature)
        if teacher_logits is None:
            return plain
        if task_of(labels) is NUMBERS:
            distance = NUMBERS.loss(_wide(student_logits), NUMBERS.says(_wide(teacher_logits)))
            return LossTerms(alpha * plain.label, (1 - alpha) * distance)
        distance = divergence(_wide(student_logits), _wide(teacher_logits), labels, temperature)
        return LossTerms(alpha * plain.label, (1 - alpha) * temperature**2 * distance)

    return loss


def _wide(logits: Logits) -> Logits:
    """Half precision is too coarse for a KL: at least float32."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


# name -> loss(student_logits, teacher_logits, labels, alpha in [0, 1], temperature > 0);
# without teacher logits each is the plain loss of the label. Gradients reach whichever logits require them.
LOSSES: dict[str, Loss] = {
    "ce": label_only,
    "kd": _distilled(softened),
    "dkd": _distilled(decoupled),
    "kd-standardised": _distilled(standardised),
}
OF_NUMBERS = ("ce", "kd")  # the losses that need no classes
