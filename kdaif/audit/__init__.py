"""How good are the scores? Known wrong labels found, against every other detector; harm foretold, against retraining.

`audit(run)` detects on one checkpoint of a finished run. With `retrain` it also trains small models again and again without some
of their samples, and says how well the scores foretold the validation loss (linear datamodelling score, leave-one-out,
removal curve). All detectors are compared on the same samples, a random subset of a large training set (`compared` says how
many), for the peers take samples one by one; precision at k is then at the same share.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from kdaif.audit.checkpoint import FULL, QUICK, Case, Checkpoint, Effort, open_case, open_checkpoint
from kdaif.audit.detectors import DETECTORS, OF_CLASSES
from kdaif.audit.learners import convex_bench, convex_pairs, student_bench, student_pairs
from kdaif.audit.peers import missing
from kdaif.audit.truth import PAIRS, leave_one_out, linear_datamodelling, losses_of, removal, score, whole
from kdaif.config import UserError
from kdaif.metrics.detection import auroc, average_precision, precision_at_k, recall_at_share
from kdaif.runs import Run
from kdaif.task import NUMBERS, task_of

__all__ = ["DETECTORS", "FULL", "PAIRS", "QUICK", "Checkpoint", "Effort", "audit", "detection", "retraining"]

Say = Callable[[str], None]


def audit(
    run: Run,
    data_root: Path | None = None,
    *,
    network: str = "teacher",
    k: int = 100,
    retrain: bool = False,
    effort: Effort = FULL,
    say: Say = lambda sentence: None,
) -> dict[str, Any]:
    """The run's figures, as plain data for JSON; `network` is the teacher or the student.

    A run that knows of no wrong label can be retrained, not detected on. Raises `UserError` for a run that is not done, has no
    teacher, knows of no wrong label and is not to be retrained, or whose data are gone.
    """
    case = open_case(run, data_root)
    result: dict[str, Any] = {"run_id": run.id, "network": network, "missing": missing()}
    flipped = case.dataset.train.flipped
    if flipped is not None and flipped.any() and not flipped.all():
        result |= detection(open_checkpoint(case, network, effort), flipped.numpy(), k, say)
    elif not retrain:
        raise UserError(f"audit: run {run.id} knows of no wrong label, takes a run with known noise, or --lds.")
    return result | (retraining(case, effort, say) if retrain else {})


def detection(checkpoint: Checkpoint, flipped: np.ndarray, k: int, say: Say) -> dict[str, Any]:
    """AUROC, average precision, precision at k, recall at 10 % and seconds of everything recorded and of all `DETECTORS`.

    What was recorded has no seconds: it came with the training.
    """
    wrong = flipped[checkpoint.compared]
    result: dict[str, Any] = {"k": k, "samples": len(flipped), "flipped": int(flipped.sum()), "compared": len(wrong)}
    result |= {key: {} for key in ("auroc", "average_precision", "precision_at_k", "recall_at_10_percent", "seconds")}
    numbers = task_of(checkpoint.train[1]) is NUMBERS
    for name in [*checkpoint.recorded, *(name for name in DETECTORS if not (numbers and name in OF_CLASSES))]:
        say(f"detecting by {name}")
        began = time.monotonic()
        if name in checkpoint.recorded:
            values = checkpoint.recorded[name]
        else:
            values = DETECTORS[name](checkpoint)
            result["seconds"][name] = time.monotonic() - began
        result["auroc"][name] = auroc(values, wrong)
        result["average_precision"][name] = average_precision(values, wrong)
        result["precision_at_k"][name] = precision_at_k(values, wrong, max(1, round(k * len(wrong) / len(flipped))))
        result["recall_at_10_percent"][name] = recall_at_share(values, wrong)
    return result


def retraining(case: Case, effort: Effort, say: Say) -> dict[str, Any]:
    """`lds` and `removal` of a convex model and of the run's student, `leave_one_out` of the convex model alone."""
    began = time.monotonic()
    convex, student = convex_bench(case, effort.samples), student_bench(case, effort.samples)
    # one network: whatever the seed, training ends at the same
    of_convex = score(convex, whole(convex, 1, say), convex_pairs(case, effort), say)
    networks = whole(student, effort.networks, say)
    of_student = score(student, networks, student_pairs(case, effort), say)
    harmful = {name: -of.mean(0) for name, of in of_student.items()}
    harmful["loss"] = np.mean([losses_of(network, student.train) for network in networks], axis=0)
    return {
        "leave_one_out": leave_one_out(convex, of_convex, effort.left_out, say),
        "lds": {
            "convex": linear_datamodelling(convex, of_convex, effort.subsets, 1, say),
            "student": linear_datamodelling(student, of_student, effort.subsets, effort.repeats, say),
        },
        "removal": removal(student, harmful, effort.removed, effort.repeats, say),
        "retraining": {
            "samples": len(student.train[1]),
            "validation": len(student.validation[1]),
            "subsets": effort.subsets,
            "seconds": time.monotonic() - began,
        },
    }
