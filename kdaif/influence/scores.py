"""All <v, grad l_i> of a batch: how much a step on each sample moves the model along the direction v.

With v the (preconditioned) gradient of a validation loss the score is the sample's first-order influence on it: positive
means that training on the sample lowers that loss. Scorers are registry entries behind one call,
``scorer(model, criterion, batch, directions) -> (directions, batch)``, or ``(terms, directions, batch)`` where the
criterion returns its losses as ``(terms, batch)``, say the label's and the teacher's: each term's share of the score,
positive where a step on that term alone lowers the validation loss; their sum over the terms is the sample's score.

| scorer | exact | cost, in forward+backward passes |
|---|---|---|
| `layerwise` | yes | one, without the parameter gradients, and one more run of each scored layer |
| `jvp` | yes, any module | one forward-mode pass a direction, any number of terms |
| `finite-difference` | to about 1e-3 | two forward passes a direction, any number of terms |
| `loop` | yes: the reference | one backward pass a sample and term |

Terms cost `layerwise` all but the forward pass each: a backward pass carries one functional of the losses. With fewer
directions than terms `jvp` is the cheaper one; in the last layer alone (`HeadProbe`) terms need no further pass.

A direction is a dict from parameter name to tensor; parameters that it leaves out (frozen ones, or all but the last
layer's) are not part of the score. In BatchNorm's train mode a sample also acts through the batch statistics: `layerwise`
counts what passes through the sample's own rows, the other scorers its own loss; both add up to v . grad(sum of losses).
"""

import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm

from kdaif.influence.calls import Call, Criterion, evaluating, observe, restored, tap, visit
from kdaif.influence.layers import Rows

Direction = Mapping[str, Tensor]
Scorer = Callable[[nn.Module, Criterion, Any, Sequence[Direction]], Float[Tensor, "*terms directions batch"]]


class Stacked(Sequence[Direction]):
    """Directions that lie side by side: `together` is {parameter name: (directions, *shape)}.

    They are kept in `dtype`, or in at least float32; of the parameters in `sparse`, which embeddings alone hold, only the rows
    that are not zero.
    """

    def __init__(
        self,
        directions: Iterable[Direction],
        count: int,
        *,
        sparse: Collection[str] = (),
        dtype: torch.dtype | None = None,
    ) -> None:
        dense: dict[str, Tensor] = {}
        rows: defaultdict[str, list[tuple[Tensor, Tensor]]] = defaultdict(list)
        tokens: dict[str, int] = {}
        for number, direction in enumerate(directions):
            for name, v in direction.items():
                kept_in = dtype or torch.promote_types(v.dtype, torch.float32)
                if name in sparse:
                    there = v.any(1).nonzero()[:, 0]
                    rows[name].append((there, v.detach()[there].to(kept_in)))
                    tokens[name] = len(v)
                    continue
                if number == 0:
                    dense[name] = torch.empty(count, *v.shape, dtype=kept_in, device=v.device)
                dense[name][number] = v.detach()
            del direction, v  # before the next one is made
        self.together: dict[str, Tensor | Rows] = dense | {
            name: _side_by_side(each, tokens[name]) for name, each in rows.items()
        }
        self.size = count

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, number: Any) -> Any:
        return {name: (t.dense() if isinstance(t, Rows) else t)[number] for name, t in self.together.items()}


def _side_by_side(each: Sequence[tuple[Tensor, Tensor]], tokens: int) -> Rows:
    """From each direction's (tokens, rows) that are not zero."""
    count = sum(len(there) for there, _ in each)
    place = each[0][0].new_full((len(each), tokens), count)
    start = 0
    for number, (there, _) in enumerate(each):
        place[number, there] = torch.arange(start, start + len(there), device=there.device)
        start += len(there)
    zero = each[0][1].new_zeros(1, each[0][1].shape[1])
    return Rows(place, torch.cat([*(rows for _, rows in each), zero]))


def stacked(directions: Sequence[Direction]) -> Stacked:
    """The directions side by side, unless they are so already."""
    return directions if isinstance(directions, Stacked) else Stacked(directions, len(directions))


def contributions(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> dict[str, Float[Tensor, "*terms directions batch"]]:
    """Layer-wise scores told apart by layer: {layer name: (*terms, directions, batch)}; their sum over layers is the score."""
    together = stacked(directions).together
    by_layer: dict[str, Tensor] = {}

    def add(call: Call, gradient: Tensor, term: int | None = None) -> None:
        shares = call.shares(gradient, together)
        if call.name not in by_layer:
            by_layer[call.name] = shares.new_zeros(*losses.shape[:-1], *shares.shape)
        by_layer[call.name][... if term is None else term] += shares

    with restored(model):
        losses, records = observe(model, criterion, batch, list(together))
        if losses.dim() == 1:
            visit(losses.sum(), records, add)
        for number, term in enumerate(losses if losses.dim() > 1 else ()):
            for call, gradient in tap(term.sum(), records, retain_graph=True):
                add(call, gradient, number)
    return by_layer


def layerwise(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> Float[Tensor, "*terms directions batch"]:
    """The layer-wise product; where it cannot be right (see `obstacle`) it warns and falls back to `jvp`."""
    if reason := obstacle(model, criterion, batch, list(directions[0])):
        warnings.warn(f"layer-wise influence is not possible ({reason}); scoring by forward mode instead", stacklevel=2)
        return jvp(model, criterion, batch, directions)
    return torch.stack(list(contributions(model, criterion, batch, directions).values())).sum(0)


_OBSTACLES: WeakKeyDictionary[nn.Module, dict[frozenset[str], str]] = WeakKeyDictionary()


def obstacle(model: nn.Module, criterion: Criterion, batch: Any, names: Sequence[str]) -> str:
    """Why layer-wise scores of these parameters would be wrong, or "" where they are right; found out once for a model.

    There may be a layer type without a rule, a parameter that acts outside its layer's forward, or a layer that mixes samples
    in its rows. The last two show in the identity of sums: with each loss times a number of its own, in eval mode,
    sum_i r_i s_i must be v . grad(sum_i r_i l_i), here for a random direction v.
    """
    known = _OBSTACLES.setdefault(model, {})
    if frozenset(names) not in known:
        known[frozenset(names)] = _find_obstacle(model, criterion, batch, names)
    return known[frozenset(names)]


def _find_obstacle(model: nn.Module, criterion: Criterion, batch: Any, names: Sequence[str]) -> str:
    parameters = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(0)
    v = {name: torch.randn(parameters[name].shape, generator=generator).to(parameters[name]) for name in names}
    with evaluating(model), restored(model):
        try:
            losses, records = observe(model, criterion, batch, names)
        except (TypeError, RuntimeError) as error:
            return str(error)
        losses = losses.reshape(-1, losses.shape[-1]).sum(0)  # terms add up
        factors = torch.linspace(0.5, 1.5, len(losses), dtype=losses.dtype, device=losses.device)
        if any(isinstance(m, _BatchNorm) and m.running_mean is None for m in model.modules()):
            factors = torch.ones_like(losses)  # mixes samples in eval mode too: read as in train mode
        chosen = [parameters[name] for name in names]
        gradients = torch.autograd.grad((factors * losses).sum(), chosen, retain_graph=True, materialize_grads=True)
        product = torch.stack([(g * v[name]).sum() for name, g in zip(names, gradients, strict=True)]).double().sum()
        shares: list[Tensor] = []
        slack = [0.0]

        def add(call: Call, gradient: Tensor) -> None:
            shares.append(call.shares(gradient, stacked([v]).together)[0].double())
            slack.append(_SLACK.get(gradient.dtype, 5e-2))

        visit(losses.sum(), records, add)
    parts = factors * torch.stack(shares or [torch.zeros_like(factors)]).double()
    agree = (parts.sum() - product).abs() <= max(slack) * parts.abs().sum()
    return "" if agree else _ACTS_OUTSIDE


_SLACK = {torch.float32: 1e-4, torch.float64: 1e-8}  # of rounding, relative to the sum of all shares
_ACTS_OUTSIDE = (
    "the scores do not add up to the batch gradient: a parameter acts outside its layer's forward, or samples are mixed"
)


def gradient(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], reduction: str = "mean"
) -> dict[str, Tensor]:
    """Gradient of the mean (or summed) loss over all samples of the batches: {name: tensor like the parameter}."""
    parameters = dict(model.named_parameters())
    chosen = [parameters[name] for name in names]
    total: list[Tensor] = []
    count = 0
    for batch in batches:
        with restored(model), torch.enable_grad():
            losses = criterion(model, batch)
            parts = list(torch.autograd.grad(losses.sum(), chosen, allow_unused=True, materialize_grads=True))
        total = [sum_.add_(part) for sum_, part in zip(total, parts, strict=True)] if total else parts
        count += len(losses)
    if count == 0:
        raise ValueError("no batches were given to take a gradient from")
    scale = count if reduction == "mean" else 1
    return {name: sum_.div_(scale) for name, sum_ in zip(names, total, strict=True)}


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
) -> Float[Tensor, "*terms directions batch"]:
    """Forward mode: the derivative of every loss as the parameters move along v. Any module whose ops have forward rules.

    Raises ValueError naming the operation that has none.
    """
    parameters = dict(model.named_parameters())
    rows = []
    for direction in directions:
        with restored(model), torch.no_grad(), _with_forward_rules(), forward_ad.dual_level():
            moved = {
                name: forward_ad.make_dual(parameters[name].detach(), v.to(parameters[name]))
                for name, v in direction.items()
            }
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
    return torch.stack(rows, -2)


@contextmanager
def _with_forward_rules() -> Iterator[None]:
    """The attention kernel that has one, and no word of how torch loads its own."""
    with sdpa_kernel(SDPBackend.MATH), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
        yield


def finite_difference(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction], step: float = 1e-3
) -> Float[Tensor, "*terms directions batch"]:
    """Central difference along v, with a step of `step` times the norm of the parameters."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    rows = []
    for direction in directions:
        size = _norm(parameters[name] for name in direction) / _norm(direction.values()).clamp_min(1e-30) * step
        losses = []
        for signed in (size, -size):
            moved = {name: parameters[name] + signed * v for name, v in direction.items()}
            with restored(model), torch.no_grad():
                losses.append(criterion(_Moved(model, moved), batch))
        rows.append((losses[0] - losses[1]) / (2 * size))
    return torch.stack(rows, -2)


def _norm(tensors: Iterable[Tensor]) -> Tensor:
    return torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(t.float()) for t in tensors]))


def loop(
    model: nn.Module, criterion: Criterion, batch: Any, directions: Sequence[Direction]
) -> Float[Tensor, "*terms directions batch"]:
    """One backward pass a sample: slow and plain, the reference that the others are tested against."""
    parameters = dict(model.named_parameters())
    names = list(directions[0])
    columns = []
    with restored(model), torch.enable_grad():
        losses = criterion(model, batch)
        for loss in losses.flatten():
            gradients = torch.autograd.grad(
                loss, [parameters[name] for name in names], retain_graph=True, allow_unused=True, materialize_grads=True
            )
            products = [[(g * v[name]).sum() for name, g in zip(names, gradients, strict=True)] for v in directions]
            columns.append(torch.stack([torch.stack(row).sum() for row in products]))
    return torch.stack(columns, dim=1).unflatten(1, losses.shape).movedim(0, -2)


SCORERS: dict[str, Scorer] = {
    "layerwise": layerwise,
    "jvp": jvp,
    "finite-difference": finite_difference,
    "loop": loop,
}
