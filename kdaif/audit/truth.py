"""What happens to the validation loss when samples are really left out: retraining, and how well scores foretold it.

A `Bench` is a way to train (`learner`) and the samples to do it with. Scores come from networks that saw all the samples, as
pair scores (validation sample, training sample); the truth from trainings on chosen ones. Validation decides what is removed
and measures harm; test accuracy is reported beside it and decides nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor, nn

from kdaif.adaptive import criterion_at
from kdaif.audit import agreement, peers
from kdaif.audit.checkpoint import BATCH, Pair, draw
from kdaif.evaluate import judge
from kdaif.influence import PRECONDITIONERS, SCORERS, scope_names, validation_direction
from kdaif.influence.scores import Criterion

PLAIN = criterion_at(1.0)
NUMBERS = 2**27  # of the directions that are kept at a time
Learner = Callable[[NDArray[np.int64], int], nn.Module]  # positions to learn from, seed -> network in eval mode
Pairs = Callable[[nn.Module, Pair, Pair], Float[Tensor, "validation train"]]  # positive = helpful
Scores = Mapping[str, Float[np.ndarray, "validation train"]]
Say = Callable[[str], None]  # told what is being done


@dataclass(frozen=True)
class Bench:
    """A way to train, and the samples."""

    learner: Learner
    train: Pair
    validation: Pair
    test: Pair

    def losses(self, network: nn.Module) -> Float[np.ndarray, "validation"]:
        """The plain loss of each validation sample."""
        return losses_of(network, self.validation)

    def accuracy(self, network: nn.Module) -> float:
        """On test."""
        inputs, labels = self.test
        with torch.inference_mode():
            outputs = torch.cat([network(part) for part in inputs.split(BATCH)])
        return judge(outputs, labels).accuracy


def pair_scores(
    network: nn.Module,
    train: Pair,
    validation: Pair,
    *,
    scope: str,
    preconditioner: str,
    damping: float = 0.1,
    criterion: Criterion = PLAIN,
    scored: Criterion | None = None,
    curved: Criterion | None = None,
    curvature: Pair | None = None,
) -> Float[Tensor, "validation train"]:
    """Influence of each training sample on each validation sample: one direction a validation sample.

    `criterion` gives the validation losses, `scored` the training losses, the same ones where it is None.

    The curvature is that of `criterion` on the validation samples, as in a run, unless `curved` (another loss) or `curvature`
    (other samples) is given.
    """
    names = scope_names(network, scope)
    samples = validation if curvature is None else curvature
    inverse = PRECONDITIONERS[preconditioner](network, curved or criterion, [samples], names, damping)
    targets = list(zip(*(part.split(1) for part in validation)))
    batches = list(zip(*(part.split(BATCH) for part in train)))
    parameters = dict(network.named_parameters())
    fit = max(1, NUMBERS // sum(parameters[name].numel() for name in names))
    rows = []
    for start in range(0, len(targets), fit):
        chunk = targets[start : start + fit]
        directions = [validation_direction(network, criterion, [target], names, inverse) for target in chunk]
        scores = [SCORERS["layerwise"](network, scored or criterion, batch, directions) for batch in batches]
        rows.append(torch.cat(scores, 1))
    return torch.cat(rows)


# plain loss, damping 0.1
PAIRS: dict[str, Pairs] = {
    **{
        f"{scope}_{preconditioner}": partial(pair_scores, scope=scope, preconditioner=preconditioner)
        for scope in ("last", "all")
        for preconditioner in ("identity", "whiten", "kfac", "ekfac")
    },
    **peers.installed({"captum": {"captum_tracincp_fast": peers.tracin_fast}}),
}


def whole(bench: Bench, count: int, say: Say) -> list[nn.Module]:
    """`count` networks that learnt from all samples; they differ in their seed."""
    say("training on all samples")
    return [bench.learner(np.arange(len(bench.train[1])), seed) for seed in range(count)]


def score(
    bench: Bench, networks: Sequence[nn.Module], pairs: Mapping[str, Pairs], say: Say
) -> dict[str, Float[np.ndarray, "validation train"]]:
    """Pair scores by each of `pairs`, averaged over networks that saw all samples."""
    scores = {}
    for name, of in pairs.items():
        say(f"scoring by {name}")
        matrices = [of(network, bench.train, bench.validation).detach().cpu().double().numpy() for network in networks]
        scores[name] = np.mean(matrices, axis=0)
    return scores


def linear_datamodelling(bench: Bench, scores: Scores, subsets: int, repeats: int, say: Say) -> dict[str, Any]:
    """LDS of each score over random halves of the samples; see `agreement.with_errors` for the figures."""
    count = len(bench.train[1])
    rng = draw(2)
    members = np.zeros((subsets, count), bool)
    losses = []
    for number, member in enumerate(members):
        say(f"retraining on random half {number + 1} of {subsets}")
        half = np.sort(rng.permutation(count)[: count // 2])
        member[half] = True
        seeds = range(1000 + number * repeats, 1000 + (number + 1) * repeats)
        losses.append(np.mean([bench.losses(bench.learner(half, seed)) for seed in seeds], axis=0))
    predictions = {name: agreement.summed(of, members) for name, of in scores.items()}
    return agreement.with_errors(predictions, np.stack(losses, 1))


def leave_one_out(bench: Bench, scores: Scores, count: int, say: Say) -> dict[str, float]:
    """Pearson correlation of each score's mean over validation with the rise of the mean validation loss when the sample is
    left out, over `count` random samples. For a learner without chance: else the seeds drown one sample."""
    size = len(bench.train[1])
    everything = np.arange(size)
    before = bench.losses(bench.learner(everything, 0)).mean()
    chosen = draw(3).permutation(size)[:count]
    rises = []
    for number, one in enumerate(chosen, 1):
        say(f"leaving one out, {number} of {count}")
        rises.append(bench.losses(bench.learner(np.delete(everything, one), 0)).mean() - before)
    return {name: float(np.corrcoef(of.mean(0)[chosen], rises)[0, 1]) for name, of in scores.items()}


def removal(
    bench: Bench, harmful: Mapping[str, Float[np.ndarray, "train"]], shares: Sequence[float], repeats: int, say: Say
) -> dict[str, Any]:
    """Validation loss and test accuracy without the share of the samples that each score calls most harmful.

    `harmful`: higher = more harmful; beside them stands `random`. Each figure is a mean over `repeats` trainings, with its
    standard error (None for one). `shares` begin with 0: nothing removed.
    """
    count = len(bench.train[1])
    seeds = range(2000, 2000 + repeats)

    def without(name: str, share: float) -> list[tuple[float, float]]:
        say(f"removing {100 * share:.0f} % by {name}")
        results = []
        for seed in seeds:
            order = harmful[name] if name in harmful else draw(4, seed).random(count)
            kept = np.sort(np.argsort(-order, kind="stable")[round(share * count) :])
            network = bench.learner(kept, seed)
            results.append((float(bench.losses(network).mean()), bench.accuracy(network)))
        return results

    whole = without("random", 0.0)
    return {
        "shares": [0.0, *shares],
        **{name: _curve([whole, *(without(name, share) for share in shares)]) for name in [*harmful, "random"]},
    }


def _curve(results: Sequence[Sequence[tuple[float, float]]]) -> dict[str, list[float | None]]:
    """Means and standard errors of (loss, accuracy) by share and repeat."""
    figures = np.asarray(results)
    repeats = figures.shape[1]
    errors = figures.std(1, ddof=1) / repeats**0.5 if repeats > 1 else np.full(figures.shape[::2], None)
    curve: dict[str, list[float | None]] = {}
    for place, key in enumerate(("validation_loss", "test_accuracy")):
        curve[key] = figures[..., place].mean(1).tolist()
        curve[f"{key}_error"] = errors[:, place].tolist()
    return curve


def losses_of(network: nn.Module, pair: Pair) -> Float[np.ndarray, "n"]:
    """The plain loss of each sample."""
    batches = zip(*(part.split(BATCH) for part in pair))
    with torch.no_grad():
        return torch.cat([PLAIN(network, batch) for batch in batches]).cpu().double().numpy()
