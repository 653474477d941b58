"""Optimisers and learning-rate schedules by name."""

import math
from collections.abc import Callable, Iterable

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from kdaif.config import OptimConfig, lookup

Factor = Callable[[float], float]  # share of the training done, 0..1 -> factor of the learning rate


def _sgd(parameters: Iterable[nn.Parameter], optim: OptimConfig) -> torch.optim.Optimizer:
    nesterov = optim.momentum > 0
    return torch.optim.SGD(parameters, optim.lr, optim.momentum, weight_decay=optim.weight_decay, nesterov=nesterov)


def _adamw(parameters: Iterable[nn.Parameter], optim: OptimConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(parameters, optim.lr, weight_decay=optim.weight_decay, fused=True)


OPTIMIZERS: dict[str, Callable[[Iterable[nn.Parameter], OptimConfig], torch.optim.Optimizer]] = {
    "sgd": _sgd,
    "adamw": _adamw,
}

SCHEDULES: dict[str, Factor] = {
    "constant": lambda done: 1.0,
    "cosine": lambda done: 0.5 * (1 + math.cos(math.pi * done)),
    # 150, 180, 210 of 240 epochs: the schedule of the published CIFAR-100 distillation tables
    "step": lambda done: 0.1 ** sum(done >= at for at in (0.625, 0.75, 0.875)),
}


def make_optimizer(
    model: nn.Module, optim: OptimConfig, steps: int, field: str
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Optimiser and its schedule over `steps` steps; `field` is the config section that a `UserError` names."""
    optimizer = lookup(OPTIMIZERS, optim.optimizer, f"{field}.optimizer")(model.parameters(), optim)
    factor = lookup(SCHEDULES, optim.schedule, f"{field}.schedule")
    warm = max(1, round(optim.warmup * steps))

    def scale(step: int) -> float:
        return min(1.0, (step + 1) / warm) * factor(step / max(1, steps))

    return optimizer, LambdaLR(optimizer, scale)
