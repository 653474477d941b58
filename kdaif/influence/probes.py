"""A validation probe: what a sample's gradient is held against, with the standard error of the answer.

Influence is a mean over validation samples, so it has a standard error, and t = mean / standard error says how sure a
score is on a scale that means the same everywhere. `HeadProbe` (last layer) takes it from all pairwise products with the
validation samples, at no extra pass; `FoldProbe` (any parameters) from K validation folds, that is K directions.

Both score by term where the criterion returns its losses as (terms, batch), the label's and the teacher's, say: positive
where a step on that term alone lowers the validation loss; the means over all terms add up to the sample's. A `HeadProbe` needs
no further pass of the model for it: each term is one more gradient in the logits.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from kdaif.influence.calls import Call, Criterion, full_precision, observe, restored, tap
from kdaif.influence.direction import (
    PRECONDITIONERS,
    check_name,
    damped_inverse,
    input_rows,
    output_rows,
    scope_names,
    validation_direction,
)
from kdaif.influence.layers import full_name, head, own_parameters
from kdaif.influence.scores import SCORERS, Direction, Stacked, obstacle, stacked

# preconditioners that are a Kronecker product, and so leave pairwise products cheap: name -> (with A, with G)
PAIRWISE = {"identity": (False, False), "whiten": (True, False), "kfac": (True, True)}


class Scores(NamedTuple):
    """Influence of each sample: mean over the validation samples, in nats per unit step, and its standard error."""

    mean: Float[Tensor, "*terms batch"]
    error: Float[Tensor, "*terms batch"]
    freedom: int  # degrees of freedom of the error: validation samples, or folds, less one

    @property
    def t(self) -> Float[Tensor, "*terms batch"]:
        """Standard errors away from zero; positive = helpful, below -2 = significantly harmful.

        On the normal's scale, however few folds the error is from: by chance 2.3 % lie below -2 (Wallace 1959).
        """
        n = self.freedom
        t = self.mean / self.error.clamp_min(torch.finfo(self.error.dtype).tiny ** 0.5)
        return (8 * n + 1) / (8 * n + 3) * t.sign() * (n * (t.square() / n).log1p()).sqrt()


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

    def products(self, inputs: Float[Tensor, "batch d"], gradients: Float[Tensor, "*terms batch classes"]) -> Scores:
        """Scores from the last layer's inputs (1 appended for its bias) and the loss gradients in its outputs."""
        with full_precision(inputs):
            each = (gradients @ self.gradients.mT) * (inputs @ self.inputs.mT)
        count = each.shape[-1]
        return Scores(each.mean(-1), each.std(-1) / count**0.5, count - 1)

    def __call__(self, model: nn.Module, criterion: Criterion, batch: Any) -> Scores:
        return self.products(*head_rows(model, criterion, [batch], self.names))


class FoldProbe:
    """Any parameters: K directions from K validation folds; mean and standard error over the folds."""

    def __init__(self, directions: Sequence[Direction], scorer: str = "layerwise") -> None:
        self.names = list(directions[0])
        self.directions = stacked(directions)
        self.scorer = SCORERS[scorer]

    def of_folds(self, folds: Float[Tensor, "*terms folds batch"]) -> Scores:
        """Scores from each fold's scores."""
        count = folds.shape[-2]
        return Scores(folds.mean(-2), folds.std(-2) / count**0.5, count - 1)

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
    check_name("preconditioner", preconditioner, PRECONDITIONERS)
    names = scope_names(model, scope)
    batches = list(validation)
    if not batches:
        raise ValueError("validation: influence needs at least 2 validation samples, got none")
    if scope == "last" and preconditioner in PAIRWISE:
        return _head_probe(model, criterion, batches, curvature, names, preconditioner, damping)
    if len(batches) < 2:
        raise ValueError(f"a standard error needs at least 2 validation batches as folds, got {len(batches)}")
    curved = batches if curvature is None else curvature
    inverse = PRECONDITIONERS[preconditioner](model, criterion, curved, names, damping)
    directions = (validation_direction(model, criterion, _halves(batch), names, inverse) for batch in batches)
    exact = next(model.parameters()).dtype == torch.float64
    kept_in = None if exact else torch.bfloat16  # half the memory; rounds a score by far less than its standard error
    return FoldProbe(Stacked(directions, len(batches), sparse=looked_up(model, names), dtype=kept_in), scorer)


def _halves(batch: Any) -> list[Any]:
    """A batch of tensors in two, so that no pass over a fold takes more memory than a training step; any other as it is."""
    if not (isinstance(batch, tuple) and all(isinstance(part, Tensor) for part in batch) and len(batch[0]) > 1):
        return [batch]
    return list(zip(*(part.chunk(2) for part in batch), strict=True))


def looked_up(model: nn.Module, names: Sequence[str]) -> set[str]:
    """Those of the named parameters that embeddings alone hold, which get a gradient only in the rows that a batch looks up."""
    named = {p: name for name, p in model.named_parameters() if name in names}
    held = [(name, type(m)) for m in model.modules() for name in own_parameters(m, named).values()]
    return {name for name, kind in held if kind is nn.Embedding} - {n for n, kind in held if kind is not nn.Embedding}


def _head_probe(
    model: nn.Module,
    criterion: Criterion,
    batches: list[Any],
    curvature: Iterable[Any] | None,
    names: list[str],
    kind: str,
    damping: float,
) -> HeadProbe:
    a, g = head_rows(model, criterion, batches, names)
    if len(a) < 2:
        raise ValueError(f"influence needs at least 2 validation samples, got {len(a)}")
    name, layer = head(model)
    weight, bias = (full_name(name, local) in names for local in ("weight", "bias"))
    scored = torch.tensor([weight] * layer.in_features + [bias] * (layer.bias is not None))
    scored = scored.to(a)  # a frozen weight or bias has no part in the score
    curved = (a, g) if curvature is None else head_rows(model, criterion, curvature, names)
    with full_precision(a):
        preconditioned = [
            t @ damped_inverse((c.mT @ c / len(c))[None], damping)[0] if with_factor else t
            for t, c, with_factor in zip((a * scored, g), curved, PAIRWISE[kind], strict=True)
        ]
    return HeadProbe(preconditioned[0] * scored, preconditioned[1], names)


def head_rows(
    model: nn.Module, criterion: Criterion, batches: Iterable[Any], names: Sequence[str]
) -> tuple[Float[Tensor, "samples d"], Float[Tensor, "*terms samples classes"]]:
    """The last layer's inputs, with a 1 for its bias, and each sample's loss gradient in its outputs.

    Raises ValueError where the last layer does not give one row a sample, once.
    """
    found = []
    for batch in batches:
        if reason := obstacle(model, criterion, batch, names):
            raise ValueError(f"the last layer cannot be scored ({reason}); use scope='all'")
        with restored(model):
            losses, records = observe(model, criterion, batch, names)
            terms = losses.reshape(-1, losses.shape[-1])
            rows = [call_rows(tap(term.sum(), records, retain_graph=True)) for term in terms]
        found.append((rows[0][0], torch.stack([g for _, g in rows]).reshape(*losses.shape, -1)))
    inputs, gradients = zip(*found, strict=True)
    return torch.cat(inputs), torch.cat(gradients, -2)


def call_rows(
    tapped: Sequence[tuple[Call, Tensor]],
) -> tuple[Float[Tensor, "batch d"], Float[Tensor, "batch classes"]]:
    """`head_rows` of one batch, from the run of the last layer in it; ValueError where there is not exactly one."""
    if len(tapped) != 1:
        raise ValueError(f"the last layer must run once for a loss, got {len(tapped)} runs; use scope='all'")
    call, gradient = tapped[0]
    if gradient.dim() != 2:
        shape = tuple(gradient.shape)
        raise ValueError(f"the last layer must give one row a sample, got an output of shape {shape}; use scope='all'")
    return input_rows(call.layer, call.x)[0, :, 0], output_rows(call.layer, gradient)[0, :, 0]
