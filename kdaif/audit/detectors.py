"""Detectors of wrong labels: each gives every training sample a score from one checkpoint, higher = more harmful.

`DETECTORS` holds ours (`<scope>_<preconditioner>_<statistic>`: minus the influence on the validation targets, as its mean or as
its t-statistic, of the run's tempered loss), the loss, and the peers whose packages are installed. All read the same network,
the same labels and the same validation targets. What the run itself recorded (the influence it acted on, the student's loss
and AUM over its epochs) stands beside them in the result; the student's figures come of a training that already acted on
influence.
"""

from collections.abc import Callable
from functools import lru_cache, partial

import torch

from kdaif.adaptive import FOLDS, criterion_at
from kdaif.audit import peers
from kdaif.audit.checkpoint import BATCH, Checkpoint, Score
from kdaif.influence import Scores, make_probe

Detector = Callable[[Checkpoint], Score]


def influence(checkpoint: Checkpoint, scope: str, preconditioner: str, statistic: str) -> Score:
    """Minus the influence on the validation targets: `mean`, or `t` = mean / standard error.

    Scope `last` has its standard error from all validation samples, scope `all` from `FOLDS` folds of them.
    """
    scores = [getattr(part, statistic) for part in _scores(checkpoint, scope, preconditioner)]
    return -torch.cat(scores).detach().cpu().double().numpy()


@lru_cache(maxsize=1)  # both statistics come of one pass
def _scores(checkpoint: Checkpoint, scope: str, preconditioner: str) -> list[Scores]:
    inputs, labels = checkpoint.validation
    folds = min(FOLDS, len(labels)) if scope == "all" else 1
    probe = make_probe(
        checkpoint.network,
        checkpoint.criterion,
        list(zip(inputs.tensor_split(folds), labels.tensor_split(folds))),
        scope=scope,
        preconditioner=preconditioner,
        damping=checkpoint.damping,
    )
    batches = zip(*(part.split(BATCH) for part in checkpoint.train))
    return [probe(checkpoint.network, checkpoint.scored_criterion, batch) for batch in batches]


def loss(checkpoint: Checkpoint) -> Score:
    """The plain loss on the given label: cross-entropy, or of numbers the squared error."""
    plain, batches = criterion_at(1.0), zip(*(part.split(BATCH) for part in checkpoint.train))
    with torch.no_grad():
        losses = torch.cat([plain(checkpoint.network, batch) for batch in batches])
    return losses.cpu().double().numpy()


OURS: dict[str, Detector] = {
    f"{scope}_{preconditioner}_{statistic}": partial(
        influence, scope=scope, preconditioner=preconditioner, statistic=statistic
    )
    for scope in ("last", "all")
    for preconditioner in ("identity", "whiten", "kfac")
    for statistic in ("mean", "t")
}
OF_CLASSES = ("confident_learning",)  # detectors that labels which are numbers have not
DETECTORS: dict[str, Detector] = {**OURS, "network_loss": loss, **peers.installed(peers.PEERS)}
