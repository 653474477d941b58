"""The direction v = P^-1 grad L_val that every influence score is a product with.

The preconditioner P says which steps are cheap: with the identity the score is the plain Taylor term (TracIn, L2RW); with
activation whitening (`whiten`: Kronecker factor A alone) or K-FAC (A and G) directions that many samples share no longer
drown the rest, which is what finds wrong labels (AUROC 0.76-0.82 -> 0.96 on noisy photographs). P touches v only,
so its cost falls on a refresh, never on a sample.

Damping rule, for every preconditioner: `damping` times the mean eigenvalue is added to each factor.
Curvature is taken from the samples handed in, at their given labels (the empirical Fisher).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from kdaif.influence.layers import head
from kdaif.influence.scores import Call, Criterion, Direction, gradient, kept_buffers, taps

Inverse = Callable[[Direction], dict[str, Tensor]]  # v -> P^-1 v
Preconditioner = Callable[[nn.Module, Criterion, Iterable[Any], Sequence[str], float], Inverse]

_CONV = (nn.Conv1d, nn.Conv2d)


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
    return lambda v: {name: t / (roots[name] + damping * roots[name].mean() + 1e-12) for name, t in v.items()}


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
    count = 0
    for batch in kept:
        with kept_buffers(model):
            losses, tapped = taps(model, criterion, batch, names)
        count += len(losses)
        for call, grad in tapped:
            if call.name in bases:
                _, basis_a, basis_g = bases[call.name]
                inputs, outputs = rows(call.layer, call), output_rows(call.layer, grad)
                turned = torch.einsum("gbto,gbti->bgoi", outputs @ basis_g[:, None], inputs @ basis_a[:, None])
                moments[call.name] = moments.get(call.name, 0) + turned.square().sum(0)
    eigenvalues = {name: moment / count for name, moment in moments.items()}

    def solve(v: Direction) -> dict[str, Tensor]:
        solved = dict(v)
        for name, (layer, basis_a, basis_g) in bases.items():
            scale = eigenvalues[name] + damping * eigenvalues[name].mean() + 1e-12
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
    count = 0
    for batch in batches:
        losses = criterion(model, batch)
        first = torch.autograd.grad(losses.sum(), chosen, create_graph=True)
        flat = torch.cat([g.flatten() for g in first])
        hessian += torch.stack(
            [torch.cat([g.flatten() for g in torch.autograd.grad(one, chosen, retain_graph=True)]) for one in flat]
        )
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


def rows(layer: nn.Module, call: Call) -> Float[Tensor, "groups batch positions inputs"]:
    """What the layer multiplies its weight with, one row a position, with a 1 for the bias."""
    x = call.x.float()
    if isinstance(layer, _CONV):
        x, kernel, stride, padding, dilation = _as_2d(layer, x)
        patches = F.unfold(x, kernel, dilation, padding, stride).mT  # (batch, positions, channels * kernel)
        inputs = patches.unflatten(-1, (layer.groups, -1)).permute(2, 0, 1, 3)
    else:
        inputs = x.flatten(1, -2)[None] if x.dim() > 2 else x[None, :, None]
    ones = inputs.new_ones(*inputs.shape[:-1], 1)
    return torch.cat([inputs, ones], -1) if layer.bias is not None else inputs


def output_rows(layer: nn.Module, grad: Tensor) -> Float[Tensor, "groups batch positions outputs"]:
    """The output gradient in the shape that matches `rows`."""
    grad = grad.float()
    if isinstance(layer, _CONV):
        return grad.flatten(2).mT.unflatten(-1, (layer.groups, -1)).permute(2, 0, 1, 3)
    return grad.flatten(1, -2)[None] if grad.dim() > 2 else grad[None, :, None]


def kronecker_factors(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str], outputs: bool
) -> dict[str, tuple[nn.Module, Tensor, Tensor]]:
    """{layer: (module, A (groups, inputs, inputs), G (groups, outputs, outputs))} of each Linear and Conv in the names.

    A is a mean over positions and samples, G over samples of the sum over positions. Without `outputs` G is left empty.
    Layers whose parameters act elementwise (norms, embeddings), and a weight that two layers share, are not preconditioned.
    """
    sums: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}
    counts: dict[str, int] = {}
    total = 0
    for batch in batches:
        with kept_buffers(model):
            losses, tapped = taps(model, criterion, batch, names)
        total += len(losses)
        for call, grad in tapped:
            if not isinstance(call.layer, (nn.Linear, *_CONV)):
                continue
            inputs = rows(call.layer, call).flatten(1, 2)
            a = inputs.mT @ inputs
            deltas = output_rows(call.layer, grad).flatten(1, 2) if outputs else a.new_zeros(1, 1, 0)
            _, sum_a, sum_g = sums.get(call.name, (call.layer, 0, 0))
            sums[call.name] = (call.layer, sum_a + a, sum_g + deltas.mT @ deltas)
            counts[call.name] = counts.get(call.name, 0) + inputs.shape[1]
    return {name: (layer, a / counts[name], g / total) for name, (layer, a, g) in sums.items()}


def damped_inverse(factor: Float[Tensor, "groups d d"], damping: float) -> Float[Tensor, "groups d d"]:
    """(factor + damping * mean eigenvalue)^-1, of each group."""
    mean = factor.diagonal(dim1=-2, dim2=-1).mean(-1)[:, None, None]
    eye = torch.eye(factor.shape[-1], dtype=factor.dtype, device=factor.device)
    return torch.linalg.inv(factor + (damping * mean + 1e-12) * eye)


def _kronecker_solve(
    inverses: Mapping[str, tuple[nn.Module, Tensor, Tensor | None]], v: Direction
) -> dict[str, Tensor]:
    solved = dict(v)
    for name, (layer, inverse_a, inverse_g) in inverses.items():
        matrix = _as_matrix(name, layer, v) @ inverse_a
        solved.update(_from_matrix(name, layer, matrix if inverse_g is None else inverse_g @ matrix, v))
    return solved


def _as_matrix(name: str, layer: Any, v: Direction) -> Float[Tensor, "groups outputs inputs"]:
    weight, bias = layer.weight, layer.bias
    w = v.get(_full(name, "weight"), torch.zeros_like(weight)).float()
    matrix = w.flatten(1).unflatten(0, (getattr(layer, "groups", 1), -1))
    if bias is None:
        return matrix
    b = v.get(_full(name, "bias"), torch.zeros_like(bias)).float()
    return torch.cat([matrix, b.unflatten(0, (matrix.shape[0], -1))[..., None]], -1)


def _from_matrix(name: str, layer: Any, matrix: Tensor, like: Direction) -> dict[str, Tensor]:
    parts = {_full(name, "weight"): matrix if layer.bias is None else matrix[..., :-1]}
    if layer.bias is not None:
        parts[_full(name, "bias")] = matrix[..., -1]
    return {full: part.reshape(like[full].shape).to(like[full].dtype) for full, part in parts.items() if full in like}


def _full(name: str, local: str) -> str:
    return f"{name}.{local}" if name else local  # a model may be one bare layer


def _as_2d(layer: nn.Conv1d | nn.Conv2d, x: Tensor) -> tuple[Tensor, Any, Any, Any, Any]:
    settings = (layer.kernel_size, layer.stride, layer._reversed_padding_repeated_twice, layer.dilation)
    kernel, stride, padding, dilation = settings
    x = F.pad(x, padding, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode)
    if isinstance(layer, nn.Conv1d):
        return x[:, :, None], (1, *kernel), (1, *stride), 0, (1, *dilation)
    return x, kernel, stride, 0, dilation
