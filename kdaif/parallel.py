"""One run in several processes: ``torchrun --nproc_per_node 2 -m kdaif train ...`` trains the student that one process would.

Every process has every batch. A spread model takes a batch, cuts out this process's share, and puts the shares together again
before its last layer, so that all that follows (losses, weights, scores by sample id) sees the whole batch and is the same
everywhere. On the way back each process gets the gradient of its own share; before the optimiser steps the parameters' gradients
are averaged. What comes back through the gathering is therefore `world` times the share: the mean over the processes is then
right for the layers before it, of which each process has a part, and for the last layer, of which each has all.

BatchNorm takes its statistics from the whole batch. Evaluation is the first process's, and it alone writes the run folder.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from kdaif.config import RunConfig, UserError
from kdaif.influence.layers import head
from kdaif.outside import rank, world
from kdaif.runs import Run


def check(config: RunConfig, spreads: bool, smallest: int) -> None:
    """Raises `UserError` for what several processes cannot do as one would; `smallest`: samples of the smallest batch."""
    if world() == 1:
        return
    if not spreads:
        raise UserError(f"method: {config.method!r} trains in one process, takes another method under torchrun.")
    if config.method == "kd-aif" and config.influence.scope == "all" and config.influence.update != "periodic":
        raise UserError("influence.scope: got 'all', takes last under torchrun (or influence.update periodic).")
    if config.distillation.hidden:  # a process sees the hidden states of its own share alone
        raise UserError(f"distillation.hidden: got {config.distillation.hidden:g}, takes 0 under torchrun.")
    if smallest < world():
        raise UserError(
            f"student.optim.batch_size: got {config.student.optim.batch_size}, which leaves a batch of {smallest} samples "
            f"for {world()} processes; takes another size."
        )


# --- the run folder has one writer -----------------------------------------------------------------------------------


class Follower(Run):
    """The run as all processes but the first have it: they read it and write nothing."""

    @contextmanager
    def hold(self, seconds: float = 2.0) -> Iterator[None]:
        yield

    def write_status(self, **changes: Any) -> None:
        pass

    def add_provenance(self, **facts: Any) -> None:
        pass

    def write_result(self, result: Any) -> None:
        pass


def follow(run: Run) -> Run:
    """The run for its writer, a `Follower` of it in the other processes."""
    return Follower(run.path) if rank() else run


def same_run(make: Callable[[], Run]) -> Run:
    """Made by the first process; the others follow it."""
    if world() == 1:
        return make()
    return follow(said_by_first(lambda: Run(make().path)))


def said_by_first(make: Callable[[], Any]) -> Any:
    """What the first process makes, in all of them."""
    if world() == 1:
        return make()
    said = [None if rank() else make()]
    dist.broadcast_object_list(said)
    return said[0]


# --- training --------------------------------------------------------------------------------------------------------


def spread(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """From now on a training step of this model is shared among the processes; evaluation is not."""
    if world() > 1:
        _Spread(model, optimizer)


def begin_epoch(weighting: Any) -> None:
    """The first process's weights in all of them, and a random state of its own in each: no two drop the same units."""
    if world() > 1:
        weighting.load_state_dict(_same(weighting.state_dict()))
        torch.manual_seed(torch.initial_seed() + rank() * 10**12)


@torch.no_grad()
def shared(model: nn.Module, inputs: Tensor) -> Float[Tensor, "batch classes"]:
    """The model's outputs for a batch, each process computing its share; without gradients."""
    if world() == 1 or len(inputs) < world():
        return model(inputs)
    sizes = _sizes(len(inputs))
    return _Gather.apply(model(inputs.split(sizes)[rank()]), sizes)


class _Spread:
    """The hooks of a spread model."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        self.model, self.sizes = model, [0]
        model.register_forward_pre_hook(self._cut)
        head(model)[1].register_forward_pre_hook(self._gather)
        for module in model.modules():
            if isinstance(module, _BatchNorm):
                # the type stays: other parts go by it
                module.forward = partial(_batch_norm, module)  # type: ignore[method-assign]
        optimizer.register_step_pre_hook(_average_gradients)

    @property
    def _training(self) -> bool:
        return self.model.training and torch.is_grad_enabled()

    def _cut(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        if not self._training:
            return None
        self.sizes = _sizes(len(args[0]))
        return args[0].split(self.sizes)[rank()], *args[1:]

    def _gather(self, _: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        return (_Gather.apply(args[0], self.sizes),) if self._training else None


class _Gather(torch.autograd.Function):
    """The rows of all processes, in the order of the batch."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, sizes: Sequence[int]) -> Tensor:
        ctx.sizes = sizes
        padded = own.new_zeros(max(sizes), *own.shape[1:])
        padded[: len(own)] = own
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return gradients[0].split(ctx.sizes)[rank()] * world(), None


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient, for the sum is used in all of them."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        return _summed(own)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _summed(gradients[0])


def _batch_norm(norm: Any, x: Tensor) -> Tensor:
    """`norm` with the mean and variance of the whole batch, of which x (batch, channels, ...) is a share."""
    if not (norm.training and torch.is_grad_enabled()):
        return type(norm).forward(norm, x)
    wide = x.float()
    over = [d for d in range(x.dim()) if d != 1]
    like = [-1, *([1] * (x.dim() - 2))]  # a row of channels beside x
    count = _summed(torch.tensor(float(x.numel() // x.shape[1]), device=x.device))
    mean = _Sum.apply(wide.sum(over)) / count
    centred = wide - mean.view(like)
    variance = _Sum.apply(centred.square().sum(over)) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return (centred * scale.view(like) + norm.bias.view(like)).to(x.dtype)


def _average_gradients(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    flat = torch.cat([p.grad.flatten() for p in parameters])
    dist.all_reduce(flat)
    for parameter, part in zip(parameters, (flat / world()).split([p.numel() for p in parameters]), strict=True):
        parameter.grad.copy_(part.view_as(parameter))


def _summed(own: Tensor) -> Tensor:
    total = own.contiguous().clone()
    dist.all_reduce(total)
    return total


def _same(state: Any) -> Any:
    """A tree with the tensors of the first process."""
    if isinstance(state, dict):
        return {name: _same(part) for name, part in state.items()}
    if not isinstance(state, Tensor):
        return state
    whole = state.contiguous().clone()
    dist.broadcast(whole.view(torch.uint8) if whole.dtype == torch.bool else whole, src=0)
    return whole


def _sizes(samples: int) -> list[int]:
    """Samples of each process's share."""
    return [len(part) for part in torch.empty(samples).tensor_split(world())]
