"""`InfluenceWeights`: the weights in a training loop of your own, in three lines.

    weights = InfluenceWeights(model, (x_val, y_val), size=len(train))      # 1
    for index, x, y in loader:
        losses = F.cross_entropy(model(x), y, reduction="none")
        loss = weights(losses, index)                                       # 2: weighted mean; scores taken on the way
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        weights.step()                                                      # 3: what is due after a step

Scope `last` scores a batch from the loss gradient in the logits before any backward pass. Scope `all` listens to the
step's own backward pass: it undoes the sample's weight and any scaling of the loss (gradient accumulation, AMP's loss
scale), so a score means the same under all of them. With BatchNorm in train mode that undoing is approximate, since
samples also act on each other through the batch statistics; weights under `FLOOR` are therefore not scored that visit.
Weight decay acts in the optimiser and is no part of a loss, hence of no score.
"""

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from kdaif.influence.calls import Criterion, Recorded, Records, evaluating, recording, tap
from kdaif.influence.direction import PRECONDITIONERS, check_name, scope_names
from kdaif.influence.probes import PAIRWISE, FoldProbe, HeadProbe, Probe, Scores, call_rows, make_probe
from kdaif.influence.scores import obstacle
from kdaif.influence.weights import UPDATES, Table

FLOOR = 0.05  # share of the neutral weight under which a weighted gradient says too little of its sample


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Float[Tensor, "batch"]:
    """The usual criterion: per-sample cross-entropy of (inputs, labels)."""
    inputs, labels = batch
    return F.cross_entropy(model(inputs), labels, reduction="none")


def squared_error(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Float[Tensor, "batch"]:
    """The criterion of a regression: per-sample squared error of the model's one output on (inputs, float labels)."""
    inputs, labels = batch
    return (model(inputs).squeeze(1) - labels).square()


class InfluenceWeights:
    """Per-sample weights from influence on a validation loss, kept up to date while a model trains.

    Arguments:
        model: the network in training; its last `nn.Linear` must make the logits for scope `last`.
        validation: (inputs, labels) tensors, or an iterable of batches that `criterion` takes; never test data.
        size: number of training samples; `index` of a batch counts from 0 to size - 1.
        criterion: (model, batch) -> per-sample validation losses; cross-entropy by default, `squared_error` for numbers.
        curvature: what the preconditioner is taken from, in the form of `validation`; None: `validation` itself. For a
            narrow target (one class, say) hand in a sample of all data: a target changes the loss, not which steps are cheap.
        scope, preconditioner, damping: see `make_probe`.
        update, mapping, source, smoothing: see weights.py; `prior` (t-statistics of shape (size,)) and `disputed` (bool)
            come from a teacher, where there is one. `groups` (given labels, say): their medians of t are made equal.
        refresh_steps: training steps between two validation directions. An epoch is `size` samples seen.
        validation_batch: validation samples that a direction is taken from (drawn anew each time); None: all.
        folds: parts that these are divided into; scope `all` takes its standard error from them, and keeps a direction of each.
        score_epochs: epochs from one that is scored to the next (`lagged` and `two_phase`); None: 1 for scope `last`, whose
            scores cost next to nothing, and 3 for `all`, which then takes about 1.2 times a plain step on average.
        warmup: samples seen before scores change a weight (0: from the first epoch's end on).
        seed: of the draw.

    Raises ValueError for an unknown name, an empty validation set or tensors of the wrong length.
    """

    def __init__(
        self,
        model: nn.Module,
        validation: tuple[Tensor, Tensor] | Sequence[Any],
        size: int,
        *,
        criterion: Criterion = cross_entropy,
        curvature: tuple[Tensor, Tensor] | Sequence[Any] | None = None,
        scope: str = "last",
        preconditioner: str = "whiten",
        damping: float = 0.1,
        update: str = "lagged",
        mapping: str = "sigmoid",
        source: str = "student",
        smoothing: float = 0.9,
        prior: Float[Tensor, "n"] | None = None,
        disputed: Bool[Tensor, "n"] | None = None,
        groups: Int64[Tensor, "n"] | None = None,
        refresh_steps: int = 100,
        validation_batch: int | None = 256,
        folds: int = 8,
        score_epochs: int | None = None,
        warmup: int = 0,
        seed: int = 0,
    ) -> None:
        check_name("update", update, UPDATES)
        check_name("preconditioner", preconditioner, PRECONDITIONERS)
        if size < 1:
            raise ValueError(f"size: got {size}, takes the number of training samples")
        device = next(model.parameters()).device
        prior = torch.full((size,), torch.nan) if prior is None else prior
        disputed = torch.ones(size, dtype=torch.bool) if disputed is None else disputed
        groups = torch.zeros(size, dtype=torch.int64) if groups is None else groups
        if not prior.shape == disputed.shape == groups.shape == (size,):
            shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (prior, disputed, groups))
            raise ValueError(f"prior, disputed and groups must have shape ({size},), got {shapes}")
        self.table = Table(prior.to(device), disputed.to(device), groups.to(device), source, mapping, smoothing)
        self.table.fit()
        self.model, self.criterion, self.update = model, criterion, UPDATES[update]
        self.refresh_steps, self.warmup = refresh_steps, warmup
        self.score_epochs = score_epochs or (1 if scope == "last" else 3)
        self.size, self.seen = size, 0
        self._steps, self._epoch = 0, 0
        self._validation = _Draw(validation, validation_batch, seed, folds)
        self._curvature = None if curvature is None else _Draw(curvature, validation_batch, seed, folds)
        self._make_probe = partial(
            make_probe, model, criterion, scope=scope, preconditioner=preconditioner, damping=damping
        )
        names = scope_names(model, scope)
        by_layer = self.update.in_step and not (scope == "last" and preconditioner in PAIRWISE)
        if by_layer and (reason := obstacle(model, criterion, self._validation(0)[0], names)):
            raise ValueError(f"influence cannot be taken in the step itself ({reason}); use update='periodic'")
        self._probe: Probe | None = None
        self._backward: _Backward | None = None
        self._hooks = ExitStack()
        self._records = Records()
        if self.update.in_step:
            # a plain function: a copy of the model must not copy all this
            due = model.register_forward_pre_hook(lambda *_: self._before_forward())
            self._hooks.callback(due.remove)
            self._records = self._hooks.enter_context(recording(model, names))

    def __call__(
        self,
        losses: Float[Tensor, "batch"],
        index: Int64[Tensor, "batch"],
        *,
        rest: Float[Tensor, "batch"] | None = None,
        instead: Float[Tensor, "batch"] | None = None,
        trust: Float[Tensor, "batch"] | None = None,
        scored: Float[Tensor, "batch"] | None = None,
        terms: Float[Tensor, "2 batch"] | None = None,
    ) -> Float[Tensor, ""]:
        """The weighted mean of the losses, to be back-propagated.

        Weights have batch mean 1, unless `instead` is given: a loss that takes over the share 1 - weight of each sample (the
        teacher's label in place of the given one), so that nothing is lost. Where it is to be trusted only so far (`trust`,
        0..1), it takes over that much of the share, and what remains of the batch has mean 1. `rest` is added unweighted (the
        teacher's term, where only the label's is weighted). `scored` is the loss whose influence counts, if not `losses`
        (scope `last` only: all layers are scored on the loss that is stepped). `terms`, the label's and the teacher's losses, are
        scored apart beside it, at no further pass (scope `last` only: in all layers each would be a backward pass more).
        """
        index = index.to(self.table.prior.device)
        if losses.shape != index.shape:
            raise ValueError(
                f"losses and index must have one entry a sample, got shapes {tuple(losses.shape)} and {tuple(index.shape)}"
            )
        self._settle()
        if self._scoring:
            self._observe(losses if scored is None else scored, index, terms)
        weight = (
            self.table.weights_of(index)
            if self.update.at_once and self.seen >= self.warmup
            else self.table.weight[index]
        )
        self.table.applied[index] = weight
        even = torch.ones_like(weight)
        if instead is None:
            weight = weight / weight.mean().clamp_min(1e-6)
            each = weight * losses
        else:
            taken = (1 - weight).clamp_min(0)
            if trust is not None:
                taken = taken * trust
                even = even / (weight + taken).mean().clamp_min(1e-6)
            each = even * (weight * losses + taken * instead)
        loss = (each if rest is None else each + rest).mean()
        if self._scoring and not self.update.at_once and isinstance(self.probe, FoldProbe):
            stepped = weight if rest is None and instead is None else even
            self._backward = _Backward(self.probe, self._records, loss, index, stepped)
        self._records.clear()
        self.seen += len(index)
        return loss

    def step(self) -> None:
        """To be called after each optimiser step: takes a new direction and puts new weights in force when they are due."""
        self._settle()
        self._steps += 1
        epoch_ended = self.seen // self.size > self._epoch
        self._epoch = self.seen // self.size
        # a direction of its own for each epoch, so that a run resumed at an epoch's end is the same run
        if epoch_ended or self._steps % self.refresh_steps == 0:
            self._probe = None
        if epoch_ended and self.update.phases == 1 and self.seen >= self.warmup:
            self.table.fit()

    def rescore(
        self, batches: Iterable[tuple[Int64[Tensor, "batch"], Any]], criterion: Criterion | None = None
    ) -> None:
        """Scores a whole set, given as (index, batch), and puts new weights in force (update `periodic`).

        `criterion` gives the losses that are scored; None: the validation's own.
        """
        with evaluating(self.model):
            for index, batch in batches:
                self.table.record(index, self.probe(self.model, criterion or self.criterion, batch))
        self.table.fit()
        self._probe = None

    def state_dict(self) -> dict[str, Any]:
        """All that a run resumed at an epoch's end needs."""
        return {"table": self.table.state_dict(), "seen": self.seen, "steps": self._steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over a saved state."""
        self.table.load_state_dict(state["table"])
        self.seen, self._steps, self._probe = state["seen"], state["steps"], None
        self._epoch = self.seen // self.size

    def close(self) -> None:
        """Takes the hooks off the model."""
        self._hooks.close()

    @property
    def _scoring(self) -> bool:
        return self.update.in_step and (self.update.at_once or self._epoch % self.score_epochs == 0)

    @property
    def probe(self) -> Probe:
        """The validation probe in force."""
        return self._probe or self._new_probe()

    def _before_forward(self) -> None:
        """Makes a probe that is due now, when no training graph takes up memory; its own passes are in eval mode."""
        if self._probe is None and self._scoring and self.model.training and torch.is_grad_enabled():
            self._new_probe()

    def _new_probe(self) -> Probe:
        batches = self._validation(self._steps)
        curvature = None if self._curvature is None else self._curvature(self._steps)
        self._records.paused = True  # else the graphs of the probe's own passes would live on in it
        try:
            with evaluating(self.model):
                self._probe = self._make_probe(batches, curvature=curvature)
        finally:
            self._records.paused = False
        return self._probe

    def _observe(self, losses: Tensor, index: Tensor, terms: Tensor | None) -> None:
        """Scores the batch now; scope `all` without `at_once` leaves it to the step's own backward pass."""
        probe = self.probe
        waits = isinstance(probe, FoldProbe) and not self.update.at_once
        tapped = [] if waits else tap(losses.sum(), self._records, retain_graph=True)
        if not (self._records if waits else tapped):
            raise ValueError(
                "no forward pass of the model was seen before the losses; call the model itself, with gradients on"
            )
        if isinstance(probe, HeadProbe):
            inputs, gradients = call_rows(tapped)
            each = [] if terms is None else [self._in_logits(term, gradients) for term in terms]
            mean, error, freedom = probe.products(inputs, torch.stack([gradients, *each]))
            of_terms = Scores(mean[1:], error[1:], freedom).t if each else None
            self.table.record(index, Scores(mean[0], error[0], freedom), of_terms)
        elif tapped:
            shares = [call.shares(gradient, probe.directions.together) for call, gradient in tapped]
            self.table.record(index, probe.of_folds(torch.stack(shares).sum(0)))

    def _in_logits(self, term: Tensor, like: Tensor) -> Tensor:
        """A term's gradient in the logits; zeros for one that does not depend on them."""
        tapped = tap(term.sum(), self._records, retain_graph=True) if term.requires_grad else []
        return call_rows(tapped)[1] if tapped else torch.zeros_like(like)

    def _settle(self) -> None:
        """Records what the last backward pass told."""
        if self._backward is not None and (scores := self._backward.scores()) is not None:
            self.table.record(self._backward.index, scores)
        self._backward = None


class _Backward:
    """Adds up the shares of all layers while the user's backward pass runs."""

    def __init__(
        self, probe: FoldProbe, records: Sequence[Recorded], loss: Tensor, index: Tensor, weight: Tensor
    ) -> None:
        self.probe, self.index, self.weight = probe, index, weight.detach()
        self.calls = {number: record.call for number, record in enumerate(records)}  # with their inputs, until used
        self.folds: Tensor | None = None
        self.scale = torch.ones(())
        loss.register_hook(self._begin)
        for number, record in enumerate(records):
            record.y.node.register_prehook(partial(self._layer, number, record.y.output_nr))

    def scores(self) -> Scores | None:
        """Of the batch, or None where no backward pass has run."""
        if self.folds is None:
            return None
        folds = self.folds / (self.scale * self.weight.clamp_min(1e-12))
        return self.probe.of_folds(torch.where(self.weight >= FLOOR, folds, torch.nan))

    def _begin(self, gradient: Tensor) -> None:
        if self.folds is None:
            self.folds = torch.zeros(len(self.probe.directions), len(self.index), device=gradient.device)
            self.scale = gradient.detach() / len(self.index)  # the loss was a mean, perhaps scaled further

    def _layer(self, number: int, output: int, gradients: tuple[Tensor | None, ...]) -> None:
        gradient = gradients[output]
        if self.folds is not None and gradient is not None and number in self.calls:
            self.folds = self.folds + self.calls.pop(number).shares(gradient, self.probe.directions.together)


class _Draw:
    """Draws the validation samples of one direction, as one batch or as folds; the same for the same seed and step."""

    def __init__(
        self, validation: tuple[Tensor, Tensor] | Sequence[Any], count: int | None, seed: int, folds: int
    ) -> None:
        self.validation = validation
        self.tensors = isinstance(validation, tuple) and all(isinstance(part, Tensor) for part in validation)
        self.count, self.seed, self.folds = count, seed, folds
        size = len(validation[0]) if self.tensors else len(validation)
        if size < 2:
            raise ValueError(f"validation: influence needs at least 2 validation samples, got {size}")

    def __call__(self, step: int) -> list[Any]:
        if not self.tensors:
            return list(self.validation)
        size = len(self.validation[0])
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        chosen = torch.randperm(size, generator=generator)[: self.count or size]
        folds = chosen.tensor_split(min(self.folds, len(chosen)))
        return [tuple(part[fold.to(part.device)] for part in self.validation) for fold in folds]
