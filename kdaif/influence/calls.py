"""Each run of a layer inside a forward pass, and the loss's gradient in its output.

The gradients are handed over one by one while a backward pass runs, so that a score needs no more memory than a gradient.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from kdaif.influence.layers import RULES, Directions, Rows, own_parameters

Criterion = Callable[[nn.Module, Any], Float[Tensor, "*terms batch"]]  # (model, batch) -> per-sample losses


class Call(NamedTuple):
    """One run of one layer inside a forward pass."""

    name: str
    layer: nn.Module
    own: dict[str, str]  # local parameter name -> name in the direction
    x: Tensor
    shape: torch.Size  # of the output
    training: bool

    @property
    def inputs(self) -> Tensor:
        """One row a sample, also where the output is broadcast over the batch."""
        return self.x.expand(self.shape[0], *self.x.shape[1:])

    def shares(self, gradient: Tensor, directions: Directions) -> Float[Tensor, "directions batch"]:
        """This run's share of each <v, grad l_i>, from the gradient of the summed losses in its output."""
        x = self.inputs.to(gradient.dtype) if self.x.is_floating_point() else self.inputs
        v = {local: _wide(directions[full]) for local, full in self.own.items()}
        with torch.no_grad(), full_precision(x):
            return RULES[type(self.layer)](self.layer, x, gradient, v, self.training)


def full_precision(like: Tensor) -> torch.autocast:
    """Autocast off on the tensor's device: it is for networks; a score's sums need float32, and inverses exist in no less."""
    return torch.autocast(like.device.type, enabled=False)


def _wide(v: Tensor | Rows) -> Tensor | Rows:
    """One layer's directions in at least float32; an embedding's rows are widened as they are looked up."""
    return v if isinstance(v, Rows) else v.to(torch.promote_types(v.dtype, torch.float32))


class Recorded(NamedTuple):
    """A call and its output's place in the graph; an edge stays right when the output is changed in place afterwards."""

    call: Call
    y: GradientEdge
    first: bool  # nothing that is trained comes before it


class Records(list[Recorded]):
    """Fills while the model runs, unless paused."""

    paused = False


@contextmanager
def recording(model: nn.Module, names: Sequence[str]) -> Iterator[Records]:
    """Collects each run of the layers that hold the named parameters while the model runs inside the block.

    A layer whose output has batch size 1 and is broadcast later (position embeddings) gets its output expanded to the
    batch, so that the gradient can be told apart by sample. Raises TypeError for a layer type without a rule.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    by_tensor = {parameters[name]: name for name in names}
    records = Records()
    batch: list[int] = []  # sizes of the forward passes under way: one may be made inside another

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        batch.append(_batch_size(args, kwargs))

    def end(*_: Any) -> None:
        batch.pop()

    handles = [model.register_forward_pre_hook(begin, with_kwargs=True)]

    def hook(name: str, own: dict[str, str]) -> Callable[..., Tensor | None]:
        def record(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor | None:
            if records.paused or not (batch and torch.is_grad_enabled() and y.requires_grad):
                return None
            # not where there is one sample: a view that is changed in place later on loses its own place in the graph
            expanded = y.expand(batch[-1], *y.shape[1:]) if y.shape[0] == 1 < batch[-1] else y
            if len(expanded) != batch[-1]:
                raise TypeError(
                    f"layer {name!r} has an output of {len(y)} rows for {batch[-1]} samples, so it is not told apart by sample"
                )
            call = Call(name, layer, own, args[0].detach(), expanded.shape, layer.training)
            records.append(Recorded(call, get_gradient_edge(expanded), args[0].is_leaf))
            return expanded

        return record

    ruled = {p for module in model.modules() if type(module) in RULES for p in module.parameters(recurse=False)}
    try:
        for name, module in model.named_modules():
            if own := own_parameters(module, by_tensor):
                if type(module) not in RULES:
                    # a bias that a module only shows, and its layer adds (BERT's prediction head): acting is what counts
                    if ruled.issuperset(module.parameters(recurse=False)):
                        continue
                    raise TypeError(f"there is no layer-wise rule for {type(module).__name__} {name!r}")
                handles.append(module.register_forward_hook(hook(name, own)))
        handles.append(model.register_forward_hook(end, always_call=True))  # last: the model may be a layer itself
        yield records
    finally:
        for handle in handles:
            handle.remove()


def _batch_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
    if not tensors:
        raise TypeError("the model was called without a tensor, so the batch size is not known")
    return len(tensors[0])


def observe(
    model: nn.Module, criterion: Criterion, batch: Any, names: Sequence[str]
) -> tuple[Float[Tensor, "*terms batch"], Records]:
    """The batch's losses, with a graph of the named parameters alone, and each run of a layer that holds one.

    Raises TypeError for a layer without a rule, ValueError where the losses do not depend on a named parameter.
    """
    with recording(model, names) as records, only_trained(model, names), torch.enable_grad():
        losses = criterion(model, batch)
    if not losses.requires_grad:
        raise ValueError(
            "the losses do not depend on any scored parameter; is the model frozen, or the criterion under no_grad?"
        )
    if not records:
        raise TypeError("no layer that holds a scored parameter is called")
    return losses, records


def visit(loss: Tensor, records: Records, visitor: Callable[[Call, Tensor], None]) -> None:
    """Calls visitor(call, gradient of the loss in its output) for each run, while a backward pass frees the graph.

    The records are used up, and their inputs let go one by one. Makes no parameter gradients: the pass ends at the runs that
    nothing trained comes before.
    """
    waiting = {number: record.call for number, record in enumerate(records)}
    ends = {number: record.y for number, record in enumerate(records) if record.first}
    ends = ends or {number: record.y for number, record in enumerate(records)}

    def hand_over(number: int, output: int, gradients: Sequence[Tensor | None]) -> None:
        call, gradient = waiting.pop(number), gradients[output]
        if gradient is not None:
            visitor(call, gradient)

    for number, record in enumerate(records):
        if number not in ends:
            record.y.node.register_prehook(partial(hand_over, number, record.y.output_nr))
    records.clear()
    gradients = torch.autograd.grad(loss, list(ends.values()), allow_unused=True)
    for output, number in enumerate(ends):
        hand_over(number, output, gradients)


def taps(
    model: nn.Module, criterion: Criterion, batch: Any, names: Sequence[str]
) -> tuple[Float[Tensor, "*terms batch"], list[tuple[Call, Tensor]]]:
    """The batch's losses, and each run of a layer with the summed losses' gradient in its output; raises as `observe`."""
    with restored(model):
        losses, records = observe(model, criterion, batch, names)
        return losses.detach(), tap(losses.sum(), records)


def tap(loss: Tensor, records: Sequence[Recorded], retain_graph: bool = False) -> list[tuple[Call, Tensor]]:
    """As `visit`, but all at once, and with records that may be of other graphs too."""
    edges = [record.y for record in records]
    gradients = torch.autograd.grad(loss, edges, retain_graph=retain_graph, allow_unused=True) if edges else []
    return [(record.call, g) for record, g in zip(records, gradients, strict=True) if g is not None]


# --- a model is left as it was found ---------------------------------------------------------------------------------


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Puts running statistics and random streams back as they were: scoring must not move a training run."""
    training = any(module.training for module in model.modules())
    before = [(buffer, buffer.clone()) for buffer in model.buffers()] if training else []
    devices = {p.device for p in model.parameters() if p.is_cuda}
    with torch.random.fork_rng(devices):
        try:
            yield
        finally:
            for buffer, value in before:
                buffer.copy_(value)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Eval mode inside; afterwards every module is back in its own mode (frozen BatchNorm in a training model stays so)."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def only_trained(model: nn.Module, names: Sequence[str]) -> Iterator[None]:
    """All parameters but the named ones are frozen inside."""
    parameters = dict(model.named_parameters())
    kept = {id(parameters[name]) for name in names}
    frozen = [p for p in model.parameters() if p.requires_grad and id(p) not in kept]
    for parameter in frozen:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(True)
