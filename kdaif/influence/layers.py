"""<v, grad l_i> inside one layer: the local half of the layer-wise product.

A layer's share of sample i's score takes its input x_i, the gradient g_i of the sample's loss in its output, and v. Every layer
here is linear in its parameters, so the share is a trilinear form, and it is contracted in the cheaper of two orders:

- move first: <g_i, layer(x_i; v in the place of the parameters)>, one more run of the layer for each direction;
- gather first: <parameter gradient of sample i, v>, one run for any number of directions, a few samples at a time.

`RULES` maps an exact module type to its share; a type that is not in it is scored by forward mode instead (see scores.py).
"""

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


class Rows(NamedTuple):
    """Directions of an embedding, which are zero for every token that no validation sample has: only the others are kept."""

    place: Int64[Tensor, "directions tokens"]  # of each token's row in `kept`
    kept: Float[Tensor, "rows features"]  # the last row is zero, for all the other tokens

    def dense(self) -> Float[Tensor, "directions tokens features"]:
        """All rows."""
        return self.kept[self.place]


Directions = Mapping[str, Tensor | Rows]  # parameter name -> (directions, *shape of the parameter)
Share = Float[Tensor, "directions batch"]
Own = Mapping[str, Any]  # the directions of one layer by local name; a parameter that has none is left out
# (layer, input, loss gradient in the output, directions, train mode)
Rule = Callable[[Any, Tensor, Tensor, Own, bool], Share]

# numbers in the sample gradients held at once, to stay in a processor's cache (and under 4 MiB an array, above which the system
# is asked for fresh memory each time); 16 times as many on a GPU
CHUNK = 5 * 2**18
FEW = 4  # input channels up to which a convolution's patches are laid out


def _linear(layer: nn.Linear, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    x, g = (t.flatten(1, -2) if t.dim() > 2 else t[:, None] for t in (x, g))  # (batch, positions, features)
    shares = [_gathered(g.sum(1), v["bias"])] if "bias" in v else []
    if "weight" in v:
        weights = v["weight"]
        if len(weights) == 1 or x.shape[1] == 1:
            moved = F.linear(x, weights.flatten(0, 1).to(x.dtype)).unflatten(-1, weights.shape[:2])
            shares.append(_moved(moved.movedim(-2, 0), g))
        else:
            parts = _chunks(x, weights[0].numel())
            shares.append(torch.cat([_gathered(torch.bmm(g[part].mT, x[part]), weights) for part in parts], 1))
    return torch.stack(shares).sum(0)


def _conv(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    shares = [_gathered(_per_channel(g), v["bias"])] if "bias" in v else []
    if "weight" in v:
        weights = v["weight"]
        if len(weights) == 1:
            shares.append(_moved(layer._conv_forward(x, weights[0].to(x.dtype), None), g)[None])
        else:
            patches = layer.weight[0].numel() * g[0, 0].numel()
            if _patchable(layer):
                gradients, numbers = _patch_gradients, patches
            else:
                gradients, numbers = _conv_gradients, weights[0].numel() + 2 * x[0].numel()
            parts = _chunks(x, numbers)
            shares.append(torch.cat([_gathered(gradients(layer, x[p], g[p]), weights) for p in parts], 1))
    return torch.stack(shares).sum(0)


def _conv_gradients(layer: Any, x: Tensor, g: Tensor) -> Float[Tensor, "batch *weight"]:
    """The weight gradient of each sample, from one convolution that has a group for each."""
    n, padding = len(x), layer.padding
    if isinstance(padding, str) or layer.padding_mode != "zeros":
        x, padding = padded(layer, x), [0] * len(layer.stride)
    settings = (layer.stride, padding, layer.dilation, False, [0] * len(layer.stride), n * layer.groups)
    weight = x.new_empty(n * layer.out_channels, *layer.weight.shape[1:])  # only its shape counts
    x, g = x.reshape(1, -1, *x.shape[2:]), g.reshape(1, -1, *g.shape[2:])
    gradients = torch.ops.aten.convolution_backward(g, x, weight, None, *settings, [False, True, False])[1]
    return gradients.view(n, *layer.weight.shape)


def _patchable(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> bool:
    return layer.in_channels <= FEW and layer.groups == 1


def _patch_gradients(layer: Any, x: Tensor, g: Tensor) -> Float[Tensor, "batch *weight"]:
    """The same by a matrix product with the patches, which few channels keep small."""
    x = padded(layer, x)
    patches = x.new_empty(len(x), layer.in_channels, *layer.kernel_size, *g.shape[2:])
    rows: tuple[Any, ...] = (slice(None), slice(None))  # every sample, every channel
    for place in product(*map(range, layer.kernel_size)):
        places = zip(place, layer.dilation, layer.stride, g.shape[2:], strict=True)
        seen = [slice(at * apart, at * apart + (count - 1) * step + 1, step) for at, apart, step, count in places]
        patches[(*rows, *place)] = x[(*rows, *seen)]
    inner = len(layer.kernel_size)
    products = torch.bmm(g.flatten(2), patches.flatten(2 + inner).flatten(1, 1 + inner).mT)
    return products.unflatten(2, layer.weight.shape[1:])


def padded(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor) -> Tensor:
    """The input as the kernel sees it."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    return F.pad(x, layer._reversed_padding_repeated_twice, mode=mode)


def _embedding(layer: nn.Embedding, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    if layer.padding_idx is not None:  # autograd gives the padding row no gradient
        g = g * (x != layer.padding_idx)[..., None]
    weights = v["weight"]
    if isinstance(weights, Rows):
        return torch.stack([_moved(F.embedding(place[x], weights.kept), g) for place in weights.place])
    return torch.stack([_moved(F.embedding(x, weight), g) for weight in weights])


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    if training or layer.running_mean is None:  # no running statistics handed in, so none are moved
        normal = F.batch_norm(x, None, None, training=True, eps=layer.eps)
    else:
        normal = F.batch_norm(x, layer.running_mean, layer.running_var, eps=layer.eps)
    return _affine(normal, g, v, _per_channel)


def _group_norm(layer: nn.GroupNorm, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    return _affine(F.group_norm(x, layer.num_groups, eps=layer.eps), g, v, _per_channel)


def _layer_norm(layer: nn.LayerNorm, x: Tensor, g: Tensor, v: Own, training: bool) -> Share:
    normal = F.layer_norm(x, layer.normalized_shape, eps=layer.eps)
    return _affine(normal, g, v, lambda t: t.reshape(len(t), -1, *layer.normalized_shape).sum(1))


def _affine(normal: Tensor, g: Tensor, v: Own, gather: Callable[[Tensor], Tensor]) -> Share:
    """Scale and shift behind a normalisation, which is used up; `gather` sums over the positions that share them."""
    shares = [_gathered(gather(normal.mul_(g) if name == "weight" else g), part) for name, part in v.items()]
    return torch.stack(shares).sum(0)


def _per_channel(t: Float[Tensor, "batch channels ..."]) -> Float[Tensor, "batch channels"]:
    return t.sum(tuple(range(2, t.dim()))) if t.dim() > 2 else t


def _moved(y: Tensor, g: Tensor) -> Float[Tensor, "*directions batch"]:
    """<g_i, y_i> of each sample, added up in at least float32; y is used up."""
    wide = torch.promote_types(g.dtype, torch.float32)
    return y.to(wide).mul_(g).sum(tuple(range(1 - g.dim(), 0)))  # no flatten: it would copy channels-last images


def _gathered(gradients: Float[Tensor, "batch ..."], directions: Float[Tensor, "directions ..."]) -> Share:
    """<gradient_i, v_k> of each sample and direction."""
    return directions.flatten(1) @ gradients.to(directions.dtype).flatten(1).mT


def _chunks(x: Tensor, numbers: int) -> Iterator[slice]:
    """Slices of the batch with so few samples that `numbers` for each of them stay within `CHUNK`."""
    fit = max(1, (CHUNK if x.device.type == "cpu" else 16 * CHUNK) // numbers)
    size = 2 ** (fit.bit_length() - 1)  # a power of two: kernels take 16 rows at a time, and batches divide by it
    return (slice(start, start + size) for start in range(0, len(x), size))


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    nn.Conv3d: _conv,
    nn.Embedding: _embedding,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.LayerNorm: _layer_norm,
    nn.GroupNorm: _group_norm,
}


def own_parameters(module: nn.Module, names: Mapping[nn.Parameter, str]) -> dict[str, str]:
    """{local name: name in the direction} of the parameters that the module holds itself; tied ones are found by identity."""
    return {local: names[p] for local, p in module.named_parameters(recurse=False) if p in names}


def full_name(module: str, local: str) -> str:
    """Name of a module's own parameter in the model; the model may be one bare layer."""
    return f"{module}.{local}" if module else local


def head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last `nn.Linear`, which makes the logits; raises ValueError where there is none."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear, so it has no last layer to take influence in; use scope='all'."
        )
    return linears[-1]
