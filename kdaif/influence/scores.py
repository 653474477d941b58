"""All <v, grad l_i> of a batch: how much a step on each sample moves the model along the direction v.

With v the (preconditioned) gradient of a validation loss the score is the sample's first-order influence on it: positive
means that training on the sample lowers that loss. Scorers are registry entries behind one call,
``scorer(model, criterion, batch, directions) -> (directions, batch)``:

| scorer | exact | cost, in forward+backward passes |
|---|---|---|
| `layerwise` | yes | one, without the parameter gradients, and one more run of each scored layer |
| `jvp` | yes, any module | one forward-mode pass |
| `finite-difference` | to about 1e-3 | two forward passes |
| `loop` | yes: the reference | one backward pass a sample |

A direction is a dict from parameter name to tensor; parameters that it leaves out (frozen ones, or all but the last
layer's) are not part of the score. In BatchNorm's train mode a sample also acts through the batch statistics: `layerwise`
counts what passes through the sample's own rows, the other scorers its own loss; both add up to v . grad(sum of losses).
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn.attention import SDPBackend, sdpa_kernel

from kdaif.influence.layers import TANGENTS, own_parameters

Direction = Mapping[str, Tensor]
Criterion = Callable[[nn.Module, Any], Float[Tensor, "batch"]]  # (model, batch) -> per-sample losses
Scorer = Callable[[nn.Module, Criterion, Any, Sequence[Direction]], Float[Tensor, "directions batch"]]


class Call(NamedTuple):
    """One run of one layer inside a forward pass."""

    name: str
    layer: nn.Module
    own: dict[str, str]  # local parameter name -> name in the direction
    x: Tensor
    y: GradientEdge  # edge, not tensor: stays right when the output is changed in place afterwards
    dtype: torch.dtype
    training: bool

    def contribution(self, gradient: Tensor, direction: Direction) -> Float[Tensor, "batch"]:
        """This run's share of <v, grad l_i>, from the gradient of the summed losses in its output."""
        v = {
            local: direction[full].detach().to(self.dtype)
            if full in direction
            else torch.zeros_like(getattr(self.layer, local))
            for local, full in self.own.items()
        }
        for local, parameter in self.layer.named_parameters(recurse=False):
            v.setdefault(local, torch.zeros_like(parameter))  # a frozen bias beside a trained weight
        x = self.x.to(self.dtype) if self.x.is_floating_point() else self.x
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            moved = TANGENTS[type(self.layer)](self.layer, x, v, self.training)
            wide = torch.promote_types(
                self.dtype, torch.float32
            )  # sums of products in half precision would lose the small ones
            return (gradient.to(wide) * moved.to(wide)).flatten(1).sum(1)


@contextmanager
def recording(model: nn.Module, names: Sequence[str]) -> Iterator[list[Call]]:
    """Collects each run of the layers that hold the named parameters; the list fills while the model runs inside the block.

    A layer whose output has batch size 1 and is broadcast later (position embeddings) gets its output expanded to the
    batch, so that the gradient can be told apart by sample. Raises TypeError for a layer type without a rule.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    by_tensor = {parameters[name]: name for name in names}
    calls: list[Call] = []
    batch = [0]  # size of the forward pass under way

    def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        batch[0] = _batch_size(args, kwargs)

    handles = [model.register_forward_pre_hook(begin, with_kwargs=True)]

    def hook(name: str, own: dict[str, str]) -> Callable[..., Tensor | None]:
        def record(layer: nn.Module, args: tuple[Tensor, ...], y: Tensor) -> Tensor | None:
            if not (torch.is_grad_enabled() and y.requires_grad):
                return None
            expanded = y.expand(batch[0], *y.shape[1:]) if y.shape[0] == 1 and batch[0] > 1 else y
            if expanded.shape[0] != batch[0]:
                raise TypeError(
                    f"layer {name!r} merges samples into its first axis: got {y.shape[0]} rows for {batch[0]} samples"
                )
            x = args[0].detach()
            calls.append(Call(name, layer, own, x, get_gradient_edge(expanded), y.dtype, layer.training))
            return expanded if expanded is not y else None

        return record

    for name, module in model.named_modules():
        if own := own_parameters(module, by_tensor):
            if type(module) not in TANGENTS:
                raise TypeError(f"no layer-wise rule for {type(module).__name__} {name!r}")
            handles.append(module.register_forward_hook(hook(name, own)))
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def _batch_size(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> int:
    tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor) and value.dim() > 0]
    if not tensors:
        raise TypeError("the model was called without a tensor, so the batch size is not known")
    return tensors[0].shape[0]


def taps(
    model: nn.Module, criterion: Criterion, batch: Any, names: Sequence[str]
) -> tuple[Float[Tensor, "batch"], list[tuple[Call, Tensor]]]:
    """The batch's losses, and each layer run with the gradient of the summed losses in its output.

    The backward pass stops at the earliest of these outputs and makes no parameter gradients.
    Raises TypeError for a layer without a rule.
    """
    with recording(model, names) as calls, torch.enable_grad():
        losses = criterion(model, batch)
    if not losses.requires_grad or not calls:
        raise ValueError(
            "the losses do not depend on any scored parameter; is the model frozen, or the criterion under no_grad?"
        )
    gradients = torch.autograd.grad(losses.sum(), [call.y for call in calls], allow_unused=True)
    return losses.detach(), [(call, g) for call, g in zip(calls, gradients, strict=True) if g is not None]


def contributions(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> dict[str, Float[Tensor, "directions batch"]]:
    """Layer-wise scores told apart by layer: {layer name: (directions, batch)}; their sum over layers is the score."""
    shares: dict[str, Tensor] = {}
    for call, gradient in taps(model, criterion, batch, list(directions[0]))[1]:
        share = torch.stack([call.contribution(gradient, v) for v in directions])
        shares[call.name] = shares[call.name] + share if call.name in shares else share
    return shares


# layer-wise scoring of a model's parameter set: True once it was checked, False where it fell back
_VERDICTS: WeakKeyDictionary[nn.Module, dict[frozenset[str], bool]] = WeakKeyDictionary()


def layerwise(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> Float[Tensor, "directions batch"]:
    """The layer-wise directional product; where it cannot be right it warns and falls back to `jvp`.

    The first batch that a model is scored on is checked against the identity of sums, so a parameter that is used outside
    its layer's forward (packed attention projections, say) cannot give a silent wrong number.
    """
    verdicts = _VERDICTS.setdefault(model, {})
    names = frozenset(directions[0])
    if verdicts.get(names) is not False:
        try:
            with kept_buffers(model):
                scores = torch.stack(list(contributions(model, criterion, batch, directions).values())).sum(0)
            reason = (
                ""
                if verdicts.get(names) or _sums_agree(model, criterion, batch, directions[0], scores[0])
                else _UNCALLED
            )
        except TypeError as error:
            reason = str(error)
        verdicts[names] = not reason
        if not reason:
            return scores
        warnings.warn(f"layer-wise influence is not possible ({reason}); scoring by forward mode instead", stacklevel=2)
    return jvp(model, criterion, batch, directions)


_UNCALLED = "the scores do not add up to the batch gradient, so a parameter acts outside its layer's forward"


_SLACK = {torch.float64: 1e-6, torch.float32: 1e-3}  # of the sum of absolute scores; half precision: 5e-2


def _sums_agree(model: nn.Module, criterion: Criterion, batch: Any, direction: Direction, scores: Tensor) -> bool:
    """sum_i s_i = v . grad(sum_i l_i), to the rounding of the precision in use."""
    with kept_buffers(model):
        total = gradient(model, criterion, [batch], list(direction), reduction="sum")
    products = torch.stack([(total[name] * direction[name]).sum() for name in total]).double()
    slack = 5e-2 if torch.is_autocast_enabled(scores.device.type) else _SLACK.get(scores.dtype, 5e-2)
    return bool((scores.double().sum() - products.sum()).abs() <= slack * (scores.double().abs().sum() + 1e-12))


@contextmanager
def kept_buffers(model: nn.Module) -> Iterator[None]:
    """Puts running statistics back as they were: scoring must not move them."""
    before = [(buffer, buffer.clone()) for buffer in model.buffers()] if model.training else []
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.copy_(value)


def gradient(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], reduction: str = "mean"
) -> dict[str, Tensor]:
    """Gradient of the mean (or summed) loss over all samples of the batches: {name: tensor like the parameter}."""
    parameters = dict(model.named_parameters())
    chosen = [parameters[name] for name in names]
    total = [torch.zeros_like(parameter) for parameter in chosen]
    count = 0
    for batch in batches:
        with torch.enable_grad():
            losses = criterion(model, batch)
        for sum_, part in zip(total, torch.autograd.grad(losses.sum(), chosen, allow_unused=True), strict=True):
            if part is not None:
                sum_ += part
        count += len(losses)
    if count == 0:
        raise ValueError("no batches were given to take a gradient from")
    scale = count if reduction == "mean" else 1
    return {name: sum_ / scale for name, sum_ in zip(names, total, strict=True)}


class _Moved(nn.Module):
    """The model with other parameter values, to be called as the model itself."""

    def __init__(self, model: nn.Module, values: Mapping[str, Tensor]) -> None:
        super().__init__()
        self._model = [model]  # in a list: not a submodule, so the model is left alone
        self._values = dict(values)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return torch.func.functional_call(self._model[0], self._values, args, kwargs)


def jvp(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> Float[Tensor, "directions batch"]:
    """Forward mode: the derivative of every loss as the parameters move along v. Any module whose ops have forward rules.

    Raises ValueError naming the operation that has none.
    """
    parameters = dict(model.named_parameters())
    rows = []
    for direction in directions:
        with (
            kept_buffers(model),
            forward_ad.dual_level(),
            sdpa_kernel(SDPBackend.MATH),
        ):  # fused attention has no forward rule
            moved = {name: forward_ad.make_dual(parameters[name].detach(), v) for name, v in direction.items()}
            try:
                tangent = forward_ad.unpack_dual(criterion(_Moved(model, moved), batch)).tangent
            except (NotImplementedError, RuntimeError) as error:
                raise ValueError(
                    f"{type(model).__name__} cannot be scored by forward mode ({str(error).splitlines()[0]}); "
                    "use the scorer 'finite-difference' or 'loop'"
                ) from error
            if tangent is None:
                raise ValueError("the losses do not depend on any scored parameter")
            rows.append(tangent.detach())
    return torch.stack(rows)


def finite_difference(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction], step: float = 1e-3
) -> Float[Tensor, "directions batch"]:
    """Central difference along v, with a step of `step` times the norm of the parameters."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    rows = []
    for direction in directions:
        size = _norm(parameters[name] for name in direction) / _norm(direction.values()).clamp_min(1e-30) * step
        with kept_buffers(model), torch.no_grad():
            ahead, behind = (
                criterion(_Moved(model, {n: parameters[n] + sign * size * v for n, v in direction.items()}), batch)
                for sign in (1, -1)
            )
        rows.append((ahead - behind) / (2 * size))
    return torch.stack(rows)


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.float()) for t in tensors]))


def loop(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> Float[Tensor, "directions batch"]:
    """One backward pass a sample: slow and plain, the reference that the others are tested against."""
    parameters = dict(model.named_parameters())
    names = list(directions[0])
    columns = []
    with kept_buffers(model), torch.enable_grad():
        losses = criterion(model, batch)
        for loss in losses:
            grads = torch.autograd.grad(loss, [parameters[n] for n in names], retain_graph=True, allow_unused=True)
            pairs = [(name, g) for name, g in zip(names, grads, strict=True) if g is not None]
            columns.append(
                torch.stack([torch.stack([(g * v[name]).sum() for name, g in pairs]).sum() for v in directions])
            )
    return torch.stack(columns, dim=1)


SCORERS: dict[str, Scorer] = {
    "layerwise": layerwise,
    "jvp": jvp,
    "finite-difference": finite_difference,
    "loop": loop,
}
