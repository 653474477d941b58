"""A validation probe: what a sample's gradient is held against, with the standard error of the answer.

Influence is a mean over validation samples, so it has a standard error, and t = mean / standard error says how sure a
score is on a scale that means the same everywhere. `HeadProbe` (last layer) takes it from all pairwise products with the
validation samples, at no extra pass; `FoldProbe` (any parameters) from K validation folds, that is K directions.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kdaif.influence.direction import (
    PRECONDITIONERS,
    damped_inverse,
    kronecker_factors,
    output_rows,
    rows,
    scope_names,
    validation_direction,
)
from kdaif.influence.scores import SCORERS, Call, Criterion, kept_buffers, taps

# preconditioners that are a Kronecker product, and so leave pairwise products cheap: name -> (with A, with G)
PAIRWISE = {"identity": (False, False), "whiten": (True, False), "kfac": (True, True)}


class Scores(NamedTuple):
    """Influence of each sample: mean over the validation samples, in nats per unit step, and its standard error."""

    mean: Float[Tensor, "batch"]
    error: Float[Tensor, "batch"]

    @property
    def t(self) -> Float[Tensor, "batch"]:
        """Standard errors away from zero; positive = helpful, below -2 = significantly harmful."""
        return self.mean / self.error.clamp_min(torch.finfo(self.error.dtype).tiny ** 0.5)


class HeadProbe:
    """Last layer: the influence of sample i on validation sample j is (g_i . G^-1 g_j)(a_i . A^-1 a_j)."""

    def __init__(
        self,
        inputs: Float[Tensor, "validation d"],
        gradients: Float[Tensor, "validation classes"],
        names: Sequence[str],
    ) -> None:
        self.names = list(names)
        self.inputs = inputs
        self.gradients = gradients

    def products(self, inputs: Float[Tensor, "batch d"], gradients: Float[Tensor, "batch classes"]) -> Scores:
        """Scores from the last layer's inputs (1 appended for its bias) and the loss gradients in its outputs."""
        each = (gradients.float() @ self.gradients.mT) * (inputs.float() @ self.inputs.mT)
        return Scores(each.mean(1), each.std(1) / each.shape[1] ** 0.5)

    def of_call(self, call: Call, gradient: Tensor) -> Scores:
        """Scores of one run of the last layer."""
        return self.products(rows(call.layer, call)[0, :, 0], output_rows(call.layer, gradient)[0, :, 0])

    def __call__(self, model: nn.Module, criterion: Criterion, batch: Any) -> Scores:
        _, tapped = taps(model, criterion, batch, self.names)
        return self.of_call(*tapped[-1])


class FoldProbe:
    """Any parameters: K directions from K validation folds; mean and standard error over the folds."""

    def __init__(self, directions: Sequence[dict[str, Tensor]], scorer: str = "layerwise") -> None:
        self.names = list(directions[0])
        self.directions = list(directions)
        self.scorer = SCORERS[scorer]

    def of_folds(self, folds: Float[Tensor, "folds batch"]) -> Scores:
        """Scores from each fold's scores."""
        return Scores(folds.mean(0), folds.std(0) / len(folds) ** 0.5)

    def __call__(self, model: nn.Module, criterion: Criterion, batch: Any) -> Scores:
        return self.of_folds(self.scorer(model, criterion, batch, self.directions))


Probe = HeadProbe | FoldProbe


def make_probe(
    model: nn.Module,
    criterion: Criterion,
    validation: Iterable[Any],
    *,
    scope: str = "last",
    preconditioner: str = "whiten",
    damping: float = 0.1,
    curvature: Iterable[Any] | None = None,
    scorer: str = "layerwise",
) -> Probe:
    """A probe of the model as it is now, in the mode (train or eval) that it is in.

    The curvature is taken from the validation batches unless others are given. Scope `last` with a Kronecker
    preconditioner gives a `HeadProbe`; all else a `FoldProbe` with one fold a validation batch, so hand in at least two.
    Raises ValueError for an unknown scope or preconditioner, an empty or single-sample validation set.
    """
    if preconditioner not in PRECONDITIONERS:
        raise ValueError(f"preconditioner: got {preconditioner!r}, takes one of {', '.join(PRECONDITIONERS)}")
    names = scope_names(model, scope)
    batches = list(validation)
    curved = batches if curvature is None else curvature
    if scope == "last" and preconditioner in PAIRWISE:
        return _head_probe(model, criterion, batches, curved, names, preconditioner, damping)
    if len(batches) < 2:
        raise ValueError(f"a standard error needs at least 2 validation batches as folds, got {len(batches)}")
    inverse = PRECONDITIONERS[preconditioner](model, criterion, curved, names, damping)
    with kept_buffers(model):
        return FoldProbe([validation_direction(model, criterion, [batch], names, inverse) for batch in batches], scorer)


def _head_probe(
    model: nn.Module,
    criterion: Criterion,
    batches: list[Any],
    curvature: Iterable[Any],
    names: list[str],
    kind: str,
    damping: float,
) -> HeadProbe:
    inputs, gradients = [], []
    for batch in batches:
        with kept_buffers(model):
            call, gradient = taps(model, criterion, batch, names)[1][-1]
        if call.x.dim() != 2:
            shape = tuple(call.x.shape)
            raise ValueError(f"pairwise products need one row a sample in the last layer, got {shape}; use scope='all'")
        inputs.append(rows(call.layer, call)[0, :, 0])
        gradients.append(output_rows(call.layer, gradient)[0, :, 0])
    a, g = torch.cat(inputs), torch.cat(gradients)
    if len(a) < 2:
        raise ValueError(f"influence needs at least 2 validation samples, got {len(a)}")
    with_a, with_g = PAIRWISE[kind]
    if with_a:
        (_, factor_a, factor_g) = kronecker_factors(model, criterion, curvature, names, outputs=with_g).popitem()[1]
        a = a @ damped_inverse(factor_a, damping)[0]
        g = g @ damped_inverse(factor_g, damping)[0] if with_g else g
    return HeadProbe(a, g, names)
