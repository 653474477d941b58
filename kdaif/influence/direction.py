"""The direction v = P^-1 grad L_val that every influence score is a product with.

The preconditioner P says which steps are cheap: with the identity the score is the plain Taylor term (TracIn, L2RW); with
activation whitening (`whiten`: Kronecker factor A alone) or K-FAC (A and G) directions that many samples share no longer
drown the rest, which is what finds wrong labels (AUROC 0.76-0.82 -> 0.96 on noisy photographs). P touches v only,
so its cost falls on a refresh, never on a sample.

Damping rule, for every preconditioner: `damping` times the mean eigenvalue is added to each factor.
Curvature is taken from the samples handed in, at their given labels (the empirical Fisher).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kdaif.influence.calls import Call, Criterion, full_precision, observe, restored, tap, taps
from kdaif.influence.layers import full_name, head, padded
from kdaif.influence.scores import Direction, gradient

Inverse = Callable[[Direction], dict[str, Tensor]]  # v -> P^-1 v
Preconditioner = Callable[[nn.Module, Criterion, Iterable[Any], Sequence[str], float], Inverse]

_CONV = (nn.Conv1d, nn.Conv2d)
ROWS = 2**18  # numbers, of each layer and batch, that curvature is taken from
_TINY = 1e-30  # keeps a factor of nothing but zeros from making NaN


def check_name(field: str, name: str, registry: Mapping[str, Any]) -> None:
    """Raises ValueError where the registry has no entry of that name."""
    if name not in registry:
        raise ValueError(f"{field}: got {name!r}, takes one of {', '.join(registry)}")


def scope_names(model: nn.Module, scope: str) -> list[str]:
    """Names of the trained parameters in a scope: `last` (the layer that makes the logits) or `all`; ValueError otherwise."""
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if scope == "all":
        return trained
    if scope == "last":
        prefix = head(model)[0]
        names = [name for name in trained if name.rpartition(".")[0] == prefix]
        if names:
            return names
        raise ValueError(f"the last layer {prefix!r} has no trained parameter of its own; use scope='all'")
    raise ValueError(f"scope: got {scope!r}, takes last or all")


def identity(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """P = 1: the plain first-order Taylor term."""
    return dict


def adam(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """P = root of the second moment of the batch gradients, as Adam's step has it, damped by a share of its mean."""
    second: dict[str, Tensor] = {}
    count = 0
    for batch in batches:
        for name, g in gradient(model, criterion, [batch], names).items():
            second[name] = second.get(name, torch.zeros_like(g)) + g.square()
        count += 1
    roots = {name: (moment / count).sqrt() for name, moment in second.items()}
    return lambda v: {name: t / (roots[name] + damping * roots[name].mean() + _TINY) for name, t in v.items()}


def whiten(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """P = A x 1: second moment of each layer's inputs (conv: of its patches, per group), bias included."""
    factors = kronecker_factors(model, criterion, batches, names, outputs=False)
    inverses = {name: (layer, damped_inverse(a, damping), None) for name, (layer, a, _) in factors.items()}
    return lambda v: _kronecker_solve(inverses, v)


def kfac(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """P = A x G (Martens & Grosse 2015): inputs' and output gradients' second moments; each factor damped alike."""
    factors = kronecker_factors(model, criterion, batches, names, outputs=True)
    inverses = {
        n: (layer, damped_inverse(a, damping), damped_inverse(g, damping)) for n, (layer, a, g) in factors.items()
    }
    return lambda v: _kronecker_solve(inverses, v)


def ekfac(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """K-FAC's eigenbasis with its eigenvalues measured anew (George et al. 2018): mean squared gradient on each axis."""
    kept = list(batches)
    factors = kronecker_factors(model, criterion, kept, names, outputs=True)
    bases = {n: (layer, torch.linalg.eigh(a)[1], torch.linalg.eigh(g)[1]) for n, (layer, a, g) in factors.items()}
    moments: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    for batch in kept:
        _, tapped = taps(model, criterion, batch, names)
        for name, _, inputs, outputs in layer_rows(tapped):
            _, basis_a, basis_g = bases[name]
            with full_precision(inputs):
                turned = torch.einsum("gbto,gbti->bgoi", outputs @ basis_g[:, None], inputs @ basis_a[:, None])
            moments[name] = moments.get(name, 0) + turned.square().sum(0)
            counts[name] = counts.get(name, 0) + len(turned)
    eigenvalues = {name: moment / counts[name] for name, moment in moments.items()}

    def solve(v: Direction) -> dict[str, Tensor]:
        solved = dict(v)
        for name, (layer, basis_a, basis_g) in bases.items():
            scale = eigenvalues[name] + damping * eigenvalues[name].mean((-2, -1), keepdim=True) + _TINY
            with full_precision(scale):
                turned = basis_g.mT @ _as_matrix(name, layer, v) @ basis_a
                solved.update(_from_matrix(name, layer, basis_g @ (turned / scale) @ basis_a.mT, v))
        return solved

    return solve


def exact(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], damping: float
) -> Inverse:
    """P = the Hessian of the mean loss, built whole: for tests and convex models; ValueError above 3,000 parameters."""
    parameters = dict(model.named_parameters())
    chosen = [parameters[name] for name in names]
    size = sum(parameter.numel() for parameter in chosen)
    if size > 3000:
        raise ValueError(
            f"the exact Hessian is for models of at most 3,000 parameters, got {size:,}; use whiten or kfac"
        )
    hessian = torch.zeros(size, size, dtype=chosen[0].dtype, device=chosen[0].device)

    def flat_gradient(value: Tensor, create_graph: bool = False) -> Tensor:
        parts = torch.autograd.grad(value, chosen, retain_graph=True, create_graph=create_graph, materialize_grads=True)
        return torch.cat([part.flatten() for part in parts])

    count = 0
    for batch in batches:
        with restored(model), torch.enable_grad():
            losses = criterion(model, batch)
            hessian += torch.stack([flat_gradient(one) for one in flat_gradient(losses.sum(), create_graph=True)])
        count += len(losses)
    hessian = hessian / count
    hessian += damping * hessian.diagonal().mean() * torch.eye(size, dtype=hessian.dtype, device=hessian.device)

    def solve(v: Direction) -> dict[str, Tensor]:
        flat = torch.linalg.solve(hessian, torch.cat([v[name].flatten() for name in names]))
        parts = flat.split([parameter.numel() for parameter in chosen])
        return {name: part.view_as(parameters[name]) for name, part in zip(names, parts, strict=True)}

    return solve


PRECONDITIONERS: dict[str, Preconditioner] = {
    "identity": identity,
    "adam": adam,
    "whiten": whiten,
    "kfac": kfac,
    "ekfac": ekfac,
    "exact": exact,
}


def validation_direction(
    model: nn.Module,
    criterion: Criterion,
    validation: Iterable[Any],
    names: Sequence[str],
    inverse: Inverse,
) -> dict[str, Tensor]:
    """v = P^-1 grad of the mean validation loss. A step on a sample with <v, grad l_i> > 0 lowers that loss."""
    return inverse(gradient(model, criterion, validation, names))


# --- Kronecker factors: a layer's weight seen as (groups, outputs, inputs [+ 1 for the bias]) -------------------------


def input_rows(layer: Any, x: Tensor) -> Float[Tensor, "groups batch positions inputs"]:
    """What the layer multiplies its weight with, one row a position, with a 1 for the bias."""
    x = _wide(x)
    if isinstance(layer, _CONV):
        x, kernel, dilation, stride = _as_2d(layer, padded(layer, x))
        patches = F.unfold(x, kernel, dilation, 0, stride).mT  # (batch, positions, channels * kernel)
        inputs = patches.unflatten(-1, (layer.groups, -1)).permute(2, 0, 1, 3)
    else:
        inputs = x.flatten(1, -2)[None] if x.dim() > 2 else x[None, :, None]
    ones = inputs.new_ones(*inputs.shape[:-1], 1)
    return torch.cat([inputs, ones], -1) if layer.bias is not None else inputs


def output_rows(layer: Any, grad: Tensor) -> Float[Tensor, "groups batch positions outputs"]:
    """The output gradient in the shape that matches `input_rows`."""
    grad = _wide(grad)
    if isinstance(layer, _CONV):
        return grad.flatten(2).mT.unflatten(-1, (layer.groups, -1)).permute(2, 0, 1, 3)
    return grad.flatten(1, -2)[None] if grad.dim() > 2 else grad[None, :, None]


def layer_rows(
    tapped: Iterable[tuple[Call, Tensor | None]],
) -> Iterator[tuple[str, Any, Tensor, Any]]:
    """(name, layer, input rows, output rows) of each Linear and Conv; several runs of a layer are further positions.

    Of a layer with many positions only the first samples count, as many as make up `ROWS` numbers.
    """
    runs: dict[str, list[tuple[Call, Tensor | None]]] = {}
    for call, grad in tapped:
        if isinstance(call.layer, (nn.Linear, *_CONV)):
            runs.setdefault(call.name, []).append((call, grad))
    for name, pairs in runs.items():
        layer: Any = pairs[0][0].layer
        positions = pairs[0][0].shape[1:].numel() // len(layer.weight)
        kept = max(1, ROWS // (positions * layer.weight[0].numel()))
        inputs = [input_rows(layer, call.inputs[:kept]) for call, _ in pairs]
        outputs = [output_rows(layer, grad[:kept]) for _, grad in pairs if grad is not None]
        yield name, layer, torch.cat(inputs, 2), torch.cat(outputs, 2) if outputs else None


def kronecker_factors(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], outputs: bool
) -> dict[str, tuple[Any, Tensor, Any]]:
    """{layer: (module, A (groups, inputs, inputs), G (groups, outputs, outputs))} of each Linear and Conv in the names.

    A is a mean over positions and samples, G over samples of the sum over positions; without `outputs` there is no G, and
    no backward pass. Layers whose parameters act elementwise (norms, embeddings), and a weight that two layers share, have no
    such factor and are not preconditioned.
    """
    layers: dict[str, Any] = {}
    sum_a: defaultdict[str, Any] = defaultdict(float)
    sum_g: defaultdict[str, Any] = defaultdict(float)
    samples: defaultdict[str, int] = defaultdict(int)
    for batch in batches:
        with restored(model), nullcontext() if outputs else _NOTHING_SAVED:
            losses, records = observe(model, criterion, batch, names)
            tapped = tap(losses.sum(), records) if outputs else [(record.call, None) for record in records]
        for name, layer, inputs, grads in layer_rows(tapped):
            layers[name] = layer
            samples[name] += inputs.shape[1]
            sum_a[name] += _moment(inputs) / inputs.shape[2]
            sum_g[name] += 0.0 if grads is None else _moment(grads)
    return {
        name: (layer, sum_a[name] / samples[name], sum_g[name] / samples[name] if outputs else None)
        for name, layer in layers.items()
    }


# a graph that nobody goes back through: half the memory of a pass
_NOTHING_SAVED = torch.autograd.graph.saved_tensors_hooks(lambda tensor: None, lambda _: torch.empty(0))


def _moment(rows: Float[Tensor, "groups batch positions d"]) -> Float[Tensor, "groups d d"]:
    flat = rows.flatten(1, 2)
    with full_precision(flat):
        return flat.mT @ flat


def damped_inverse(factor: Float[Tensor, "groups d d"], damping: float) -> Float[Tensor, "groups d d"]:
    """(factor + damping * mean eigenvalue)^-1, of each group."""
    mean = factor.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.inv(factor + (damping * mean + _TINY) * eye)


def _kronecker_solve(
    inverses: Mapping[str, tuple[nn.Module, Tensor, Tensor | None]], v: Direction
) -> dict[str, Tensor]:
    solved = dict(v)
    for name, (layer, inverse_a, inverse_g) in inverses.items():
        with full_precision(inverse_a):
            matrix = _as_matrix(name, layer, v) @ inverse_a
            solved.update(_from_matrix(name, layer, matrix if inverse_g is None else inverse_g @ matrix, v))
    return solved


def _as_matrix(name: str, layer: Any, v: Direction) -> Float[Tensor, "groups outputs inputs"]:
    weight, bias = layer.weight, layer.bias
    w = _wide(v.get(full_name(name, "weight"), torch.zeros_like(weight)))
    matrix = w.flatten(1).unflatten(0, (getattr(layer, "groups", 1), -1))
    if bias is None:
        return matrix
    b = _wide(v.get(full_name(name, "bias"), torch.zeros_like(bias)))
    return torch.cat([matrix, b.unflatten(0, (matrix.shape[0], -1))[..., None]], -1)


def _from_matrix(name: str, layer: Any, matrix: Tensor, like: Direction) -> dict[str, Tensor]:
    parts = {full_name(name, "weight"): matrix if layer.bias is None else matrix[..., :-1]}
    if layer.bias is not None:
        parts[full_name(name, "bias")] = matrix[..., -1]
    return {full: part.reshape(like[full].shape).to(like[full].dtype) for full, part in parts.items() if full in like}


def _as_2d(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> tuple[Tensor, Any, Any, Any]:
    settings: Any = (layer.kernel_size, layer.dilation, layer.stride)
    if isinstance(layer, nn.Conv1d):
        x, settings = x[:, :, None], tuple((1, *setting) for setting in settings)
    return x, *settings


def _wide(t: Tensor) -> Tensor:
    return t.to(torch.promote_types(t.dtype, torch.float32))
