"""Distillation of hidden states: a transformer's layers learn what layers of its teacher make of the same tokens.

Student layer m of M is held against teacher layer m N / M of N, rounded, the last against the last: every k-th layer, as in Sun
et al., "Patient knowledge distillation for BERT model compression", EMNLP 2019 (PKD-skip); all tokens count and not the first
alone, as in DistilBERT (Sanh et al., arXiv 1910.01108). The distance is a mean squared error of each sample, so that weights act
on it as on the rest of its loss.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

from kdaif.config import UserError
from kdaif.models import hidden_layers, hidden_width


class Passed(NamedTuple):
    """Student and teacher on one batch."""

    logits: Float[Tensor, "batch classes"]
    teacher_logits: Float[Tensor, "batch classes"]
    distance: Float[Tensor, "batch"]  # between their hidden states: mean over layers, tokens and components


def compared(student: int, teacher: int) -> list[int]:
    """For each of the student's layers the teacher's that it is held against, both counted from 0."""
    return [round(layer * teacher / student) - 1 for layer in range(1, student + 1)]


def check_hidden(student: nn.Module, teacher: nn.Module) -> None:
    """Raises `UserError` for networks whose hidden states cannot be compared."""
    for field, network in (("student.model", student), ("teacher.model", teacher)):
        if not hidden_layers(network):
            raise UserError(
                f"distillation.hidden: {field} has no list of transformer layers, takes 0 or two BERT-like networks."
            )
    if len(hidden_layers(student)) > len(hidden_layers(teacher)):
        raise UserError("distillation.hidden: the student has more layers than the teacher, takes one with fewer.")
    if (own := hidden_width(student)) != (other := hidden_width(teacher)):
        raise UserError(
            f"distillation.hidden: hidden states have {own} components in the student and {other} in the teacher, takes "
            "networks of one width."
        )


def pass_both(student: nn.Module, teacher: nn.Module, inputs: Int32[Tensor, "batch 2 length"]) -> Passed:
    """Both networks on a batch; gradients reach the student alone."""
    chosen = compared(len(hidden_layers(student)), len(hidden_layers(teacher)))
    with torch.no_grad():
        teacher_logits, taught = _watched(teacher, inputs)
    logits, states = _watched(student, inputs)
    there = (inputs[:, 0, : states[0].shape[1]] >= 0).float()
    each = [(own.float() - taught[at].float()).square().mean(2) for own, at in zip(states, chosen, strict=True)]
    distance = (torch.stack(each).mean(0) * there).sum(1) / there.sum(1)
    return Passed(logits, teacher_logits.float(), distance)


def _watched(network: nn.Module, inputs: Tensor) -> tuple[Tensor, Sequence[Float[Tensor, "batch length width"]]]:
    """The network's logits and what each of its layers put out for them."""
    states: dict[int, Tensor] = {}

    def keep(number: int, output: Tensor | tuple[Tensor, ...]) -> None:
        # a pass made inside this one (for a new validation direction) comes first and is overwritten
        states[number] = output if isinstance(output, Tensor) else output[0]

    handles = [
        layer.register_forward_hook(lambda _, __, output, number=number: keep(number, output))
        for number, layer in enumerate(hidden_layers(network))
    ]
    try:
        logits: Tensor = network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return logits, [states[number] for number in range(len(handles))]
