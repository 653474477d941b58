"""Methods that learn weights from a validation target, by a virtual step of the student in every step.

The target is what KD-AIF uses (`influence.validation`; by default the validation split with the teacher's labels), so that no
method has labels that another has not. About three times the cost of a step: the virtual step is differentiated again.
"""

import math
import time
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdaif.config import RunConfig, lookup
from kdaif.data import Dataset
from kdaif.evaluate import predict
from kdaif.optim import SCHEDULES
from kdaif.targets import VALIDATION, labelled
from kdaif.task import task_of
from kdaif.weighting import FixedWeights, Setting, Step

HIDDEN = 100  # neurons of the weighting network, as published


class _Meta(FixedWeights):
    """What the two share: the validation target, the virtual step, and the loss at weights that follow from them."""

    def __init__(self, setting: Setting) -> None:
        super().__init__(torch.ones(len(setting.dataset.train), device=setting.device))
        self.student, self.config = setting.student, setting.config
        self.inputs, self.labels = _target(setting)
        self.steps = 0

    def loss(self, step: Step) -> Tensor:
        began = time.monotonic()
        losses = step.losses(step.labels).total
        weight = self.weigh(losses)
        self.weight[step.index] = weight * len(weight) / weight.sum().clamp_min(1e-12)
        self.steps += 1
        self.seconds += time.monotonic() - began
        return (weight * losses).sum() / weight.sum().clamp_min(1e-12)

    def weigh(self, losses: Tensor) -> Tensor:
        """Weights (batch,) >= 0, without a gradient, of losses (batch,) that carry the student's graph."""
        raise NotImplementedError

    def validation_loss(self, loss: Tensor, lr: float) -> Tensor:
        """Mean loss on a batch of the target after a virtual gradient step on `loss`, differentiable through the step.

        The validation batch is as large as a training batch. BatchNorm takes that batch's statistics, as in training, and
        the student's own running statistics stay untouched.
        """
        parameters = dict(self.student.named_parameters())
        gradients = torch.autograd.grad(loss, list(parameters.values()), create_graph=True)
        ahead = {name: value - lr * slope for (name, value), slope in zip(parameters.items(), gradients)}
        buffers = {name: value.clone() for name, value in self.student.named_buffers()}
        drawn = torch.Generator().manual_seed(self.config.seed * 100_003 + self.steps)  # a resumed run draws the same
        rows = torch.randperm(len(self.labels), generator=drawn)[: self.config.student.optim.batch_size]
        rows = rows.to(self.labels.device)
        logits = functional_call(self.student, {**ahead, **buffers}, (self.inputs[rows],))
        return task_of(self.labels).loss(logits.float(), self.labels[rows]).mean()

    def state_dict(self) -> dict[str, Any]:
        return {"weight": self.weight, "steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.weight, self.steps = state["weight"], state["steps"]


class L2RW(_Meta):
    """`Weighting` of method l2rw: learning to reweight examples (Ren et al., arXiv 1803.09050, algorithm 1).

    The weights of a batch are max(0, -d L_val / d epsilon_i) at epsilon = 0, normalised to sum 1, after a virtual step on
    sum_i epsilon_i l_i: whatever would not lower the validation loss gets nothing. At epsilon = 0 the virtual learning
    rate is a factor of all weights, so it is 1. Nothing is kept from one step to the next.
    """

    def weigh(self, losses: Tensor) -> Tensor:
        epsilon = torch.zeros_like(losses, requires_grad=True)
        (slope,) = torch.autograd.grad(self.validation_loss((epsilon * losses).sum(), 1.0), epsilon)
        return (-slope).relu()


class MetaWeightNet(_Meta):
    """`Weighting` of method meta-weight-net (Shu et al., arXiv 1902.07379, algorithm 1): weight = V(loss).

    V is a 1-100-1 network with ReLU and a sigmoid at its end. In each step it follows the gradient of the validation loss
    after a virtual step of the student, with Adam at `baselines.meta_lr` (1e-3), and then weights the batch. The virtual
    step has the student's scheduled learning rate. Weights are normalised over the batch, as in the authors' code: the
    paper's plain mean would only scale the learning rate.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        with torch.random.fork_rng():
            torch.manual_seed(self.config.seed)
            net = nn.Sequential(nn.Linear(1, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 1), nn.Sigmoid())
        self.net = net.to(setting.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), self.config.baselines.meta_lr)
        optim = self.config.student.optim
        self.factor = lookup(SCHEDULES, optim.schedule, "student.optim.schedule")
        self.all_steps = optim.epochs * math.ceil(len(self.weight) / optim.batch_size)

    def weigh(self, losses: Tensor) -> Tensor:
        values = losses.detach()[:, None]
        weight = self.net(values).squeeze(1).float()
        lr = self.config.student.optim.lr * self.factor(self.steps / self.all_steps)
        self.optimizer.zero_grad()
        meta_loss = self.validation_loss((weight * losses).sum() / weight.sum(), lr)
        meta = list(self.net.parameters())
        for parameter, slope in zip(meta, torch.autograd.grad(meta_loss, meta)):
            parameter.grad = slope
        self.optimizer.step()
        with torch.no_grad():
            return self.net(values).squeeze(1).float()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "net": self.net.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.net.load_state_dict(state["net"])
        self.optimizer.load_state_dict(state["optimizer"])


def check_meta(config: RunConfig, dataset: Dataset) -> None:
    """Raises `UserError` for a validation target that does not exist, before a teacher is trained."""
    lookup(VALIDATION, config.influence.validation, "influence.validation")


def _target(setting: Setting) -> tuple[Tensor, Tensor]:
    """Inputs and labels of the validation target, on the device."""
    assert setting.teacher is not None
    split = setting.dataset.validation
    outputs = predict(setting.teacher, setting.ordered(split)).clone().cpu()
    says = task_of(split.labels).says(outputs)
    return setting.whole(labelled(setting.config.influence.validation, split, says))
