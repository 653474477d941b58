"""What a layer's output does when its own parameters move: the local half of the layer-wise directional product.

Every layer here is linear in its parameters, so its output's derivative along a direction v is the layer itself run with v
in the place of its parameters: no unfolding, no per-sample gradients, any stride, groups or dilation.
`TANGENTS` maps an exact module type to that run; a type that is not in it is scored by forward mode instead (see scores.py).
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tangent = Callable[[Any, Tensor, Mapping[str, Tensor], bool], Tensor]  # (layer, input, v by local name, train mode)


def _linear(layer: nn.Linear, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    return F.linear(x, v["weight"], v.get("bias"))


def _conv(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    return layer._conv_forward(x, v["weight"], v.get("bias"))


def _embedding(layer: nn.Embedding, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    weight = v["weight"]
    if layer.padding_idx is not None:  # autograd gives the padding row no gradient
        keep = torch.arange(weight.shape[0], device=weight.device) != layer.padding_idx
        weight = weight * keep[:, None]
    return F.embedding(x, weight)


def _batch_norm(layer: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    if training or layer.running_mean is None:  # no running statistics handed in, so none are moved
        return F.batch_norm(x, None, None, v["weight"], v["bias"], True, 0.0, layer.eps)
    return F.batch_norm(x, layer.running_mean, layer.running_var, v["weight"], v["bias"], False, 0.0, layer.eps)


def _layer_norm(layer: nn.LayerNorm, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    return F.layer_norm(x, layer.normalized_shape, v["weight"], v.get("bias"), layer.eps)


def _group_norm(layer: nn.GroupNorm, x: Tensor, v: Mapping[str, Tensor], training: bool) -> Tensor:
    return F.group_norm(x, layer.num_groups, v["weight"], v["bias"], layer.eps)


TANGENTS: dict[type[nn.Module], Tangent] = {
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


def head(model: nn.Module) -> tuple[str, nn.Linear]:
    """Name and module of the last `nn.Linear`, which makes the logits; raises ValueError where there is none."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise ValueError(
            f"{type(model).__name__} has no nn.Linear, so it has no last layer to take influence in; use scope='all'."
        )
    return linears[-1]
