"""How good the scores are: wrong labels found, against the best of all other detectors, and harm foretold, against retraining.

``--quick``: digits, one seed, small subsets. Otherwise: 3 seeds and, with ``--data-root``, CIFAR-10 (20,000 images) with 3 seeds
beside them. Runs are kept, and done ones reused, under KDAIF_CACHE (a temporary folder if it is not set).
"""

import os
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks._common import emit, options
from kdaif.audit import FULL, QUICK, audit
from kdaif.audit.detectors import OURS
from kdaif.audit.peers import missing
from kdaif.config import load_config
from kdaif.runs import open_run
from kdaif.sweep import sweep

NOISE = [0.4, 0.1]
INFLUENCE = {"influence", "student_influence", "weight", *OURS}  # all else is other people's, or a loss


def detection(results: Sequence[dict[str, Any]]) -> dict[float, dict[str, dict[str, float]]]:
    """{noise: {figure: {detector: mean over the seeds}}}."""
    return {
        noise: {
            key: {name: float(np.mean([r[key][name] for r in of])) for name in of[0][key]}
            for key in ("auroc", "recall_at_10_percent")
        }
        for noise in NOISE
        if (of := [r for r in results if r["noise"] == noise])
    }


def figures(results: Sequence[dict[str, Any]]) -> dict[str, float | None]:
    """AUROC at 40 % noise and recall at 10 % noise, each beside the best of the others, who may be lucky on a small subset."""
    means = detection(results)
    auroc, recall = means[0.4]["auroc"], means[0.1]["recall_at_10_percent"]
    best = {
        key: max(value for name, value in of.items() if name not in INFLUENCE)
        for key, of in (("auroc", auroc), ("recall", recall))
    }
    return {
        "auroc_influence": auroc["influence"],
        "auroc_best_other": best["auroc"],
        "auroc_lead": auroc["influence"] - best["auroc"],
        "recall_at_10_percent": recall["influence"],
        "recall_at_10_percent_best_other": best["recall"],
    }


def truth(result: dict[str, Any]) -> dict[str, float | None]:
    """What retraining says, at 40 % noise, of scores as a run makes them and of plain whitening."""
    student, convex = result["lds"]["student"], result["lds"]["convex"]
    lines = {"lds": student["last_as_in_run"], "lds_whiten": student["last_whiten"], "lds_convex": convex["all_whiten"]}
    found = {"leave_one_out": result["leave_one_out"]["all_exact"]}
    for name, line in lines.items():
        found[name] = line["lds"]
        found[f"{name}_over_identity"] = line["lds_over_identity"]
        found[f"{name}_over_identity_error"] = line["lds_over_identity_error"]
    return found


def audits(
    preset: str, seeds: Sequence[int], quick: bool, retrain: bool, data_root: Path | None
) -> list[dict[str, Any]]:
    """One audit a run; with `retrain` the first is retrained too."""
    rows = sweep(load_config(preset), methods=["kd-aif"], noise=NOISE, seeds=seeds, data_root=data_root).rows
    effort = replace(QUICK, removed=()) if quick else FULL
    return [
        {
            "noise": row["noise"],
            **audit(open_run(row["run_id"]), data_root, retrain=retrain and row is rows[0], effort=effort),
        }
        for row in rows
    ]


def main() -> None:
    arguments = options(__doc__ or "").parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.setdefault("KDAIF_CACHE", scratch)
        seeds = [0] if arguments.quick else [0, 1, 2]
        digits = audits("digits", seeds, arguments.quick, retrain=True, data_root=None)
        found, by_detector = figures(digits) | truth(digits[0]), {"digits": detection(digits)}
        if arguments.data_root is not None and not arguments.quick:
            photos = audits("cifar10-resnet8", seeds, quick=False, retrain=False, data_root=arguments.data_root)
            found |= {f"cifar10_{name}": value for name, value in figures(photos).items()}
            by_detector["cifar10"] = detection(photos)
    emit(found, {"seeds": seeds, "noise": NOISE, "missing": missing(), "detectors": by_detector}, arguments.json)


if __name__ == "__main__":
    main()
