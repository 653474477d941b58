"""What leaving out or relabelling samples would change, foretold without training: the student's last layer is fitted anew.

The features stay as the student has them (`kdaif.relations`); the layer learns what the run's loss asks for: of a sample
alpha times its label, as far as its weight goes, and for the rest the teacher's class. It is fitted twice, with the edits and
without, by L-BFGS on the same problem, and judged on the validation samples with the labels in use.
"""

from collections.abc import Callable
from itertools import count

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

from kdaif.relations import Relations
from kdaif.runs import Run

DECAY = 1e-3  # times the squared norm of the layer's weights, beside a mean loss
STEPS = 80  # of L-BFGS

Floats = NDArray[np.floating]


def foretell(
    run: Run, relations: Relations, edits: pd.DataFrame, say: Callable[[float], None] = lambda share: None
) -> float:
    """Change of the validation accuracy (share) by `edits`: columns row, label (class name; "": leave out).

    `say` is told the share done (0..1) after each step.
    """
    last = run.epoch(columns=["weight", "teacher_prediction"])
    names = {name: number for number, name in enumerate(run.classes())}
    labels = run.samples()["label"].to_numpy()
    trust = last["weight"].fillna(1).clip(0, 1).to_numpy(np.float64)
    before = _targets(run, labels, trust, last["teacher_prediction"].to_numpy(), len(names))
    leave = edits["label"].to_numpy() == ""
    rows = edits["row"].to_numpy()
    changed, trust = labels.copy(), trust.copy()
    changed[rows[~leave]] = [names[name] for name in edits["label"][~leave]]
    trust[rows[~leave]] = 1.0
    after = _targets(run, changed, trust, last["teacher_prediction"].to_numpy(), len(names))
    stay = np.ones(len(labels), bool)
    stay[rows[leave]] = False
    features = relations.features.astype(np.float64)
    weights = fit(features, before, say=lambda share: say(share / 2))
    others = fit(features[stay], after[stay], weights, say=lambda share: say((1 + share) / 2))
    held, truth = relations.held_plain, relations.held_labels
    right = [float(((held @ layer).argmax(1) == truth).mean()) for layer in (weights, others)]
    return right[1] - right[0]


def fit(
    features: Floats, targets: Floats, start: Floats | None = None, say: Callable[[float], None] = lambda share: None
) -> Floats:
    """Weights (d, classes) of a softmax regression on soft targets (n, classes); `say` is told the share of the steps done."""
    shape = features.shape[1], targets.shape[1]

    def loss(flat: Floats) -> tuple[float, Floats]:
        weights = flat.reshape(shape)
        logs = log_softmax(features @ weights, axis=1)
        gradient = features.T @ (np.exp(logs) - targets) / len(targets) + 2 * DECAY * weights
        return float(-(targets * logs).sum() / len(targets) + DECAY * (flat @ flat)), gradient.ravel()

    steps = count(1)
    began = np.zeros(shape) if start is None else start
    found = minimize(
        loss,
        began.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": STEPS},
        callback=lambda flat: say(next(steps) / STEPS),
    )
    return np.asarray(found.x).reshape(shape)


def _targets(
    run: Run, labels: NDArray[np.integer], trust: Floats, teacher: NDArray[np.integer], classes: int
) -> Floats:
    """What the layer learns of each sample: (n, classes), rows sum to 1."""
    alpha = run.config().distillation.alpha
    given = np.eye(classes)[labels]
    said = np.where((teacher >= 0)[:, None], np.eye(classes)[np.maximum(teacher, 0)], given)
    return alpha * (trust[:, None] * given + (1 - trust[:, None]) * said) + (1 - alpha) * said
