"""What a method does with the losses of a batch: the interface, and the weights that stay as they are."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kdaif.config import RunConfig, UserError
from kdaif.data import Batches, Dataset, Split
from kdaif.distill import LossTerms


@dataclass(frozen=True)
class Setting:
    """What a weighting is made from."""

    config: RunConfig
    dataset: Dataset
    student: nn.Module
    teacher: nn.Module | None
    ordered: Callable[[Split], Batches]  # a split's samples once, without augmentation
    device: torch.device
    # the precision of the training, for forward passes
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext

    def whole(self, split: Split) -> tuple[Tensor, Tensor]:
        """Inputs and labels of a split, in its order, on the device."""
        batch = self.ordered(split).whole()
        return batch.inputs, batch.labels


@dataclass(frozen=True)
class Step:
    """One batch before it is weighted."""

    index: Tensor
    labels: Tensor
    logits: Tensor  # the student's
    teacher_logits: Tensor | None
    losses: Callable[[Tensor], LossTerms]  # labels -> losses of the batch at these labels


class Weighting(Protocol):
    """What the loop asks of a method."""

    seconds: float  # spent on weighting since it was last set to zero
    scoring_runs: int  # training runs before the one that counts

    def next_run(self, student: nn.Module) -> "Weighting":
        """The weighting of the next training run, of a fresh student, with what this one has learnt."""

    def loss(self, step: Step) -> Tensor:
        """The weighted loss of a batch."""

    def before_epoch(self, epoch: int) -> None:
        """A training epoch begins."""

    def after_step(self) -> None:
        """The optimiser has stepped."""

    def columns(self) -> dict[str, Any]:
        """Columns of the epoch file that the method knows of."""

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a saved state."""


class FixedWeights:
    """The same weight for a sample throughout, batch mean 1."""

    scoring_runs = 0

    def __init__(self, weight: Tensor) -> None:
        self.weight, self.seconds = weight, 0.0

    def next_run(self, student: nn.Module) -> "FixedWeights":
        return self

    def loss(self, step: Step) -> Tensor:
        weight = self.weight[step.index]
        return (weight * step.losses(step.labels).total).sum() / weight.sum().clamp_min(1e-6)

    def before_epoch(self, epoch: int) -> None:
        pass

    def after_step(self) -> None:
        pass

    def columns(self) -> dict[str, Any]:
        return {"weight": self.weight.cpu().numpy()}

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def check_oracle(config: RunConfig, dataset: Dataset) -> None:
    """Raises `UserError` where nobody knows which labels are wrong."""
    if dataset.train.flipped is None:
        raise UserError("method: 'oracle' needs known clean labels, which this data has not; takes ce, kd or kd-aif.")


def uniform(setting: Setting) -> FixedWeights:
    """Weight 1 for all."""
    return FixedWeights(torch.ones(len(setting.dataset.train), device=setting.device))


def oracle(setting: Setting) -> FixedWeights:
    """Weight 0 for the wrongly labelled."""
    flipped = setting.dataset.train.flipped
    assert flipped is not None
    return FixedWeights((~flipped).float().to(setting.device))
