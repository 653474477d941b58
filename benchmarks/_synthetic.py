"""Runs of any size with made-up figures, written as the trainer writes them: for benchmarks of reading and showing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from kdaif.config import RunConfig
from kdaif.runs import Run, new_run, save_inputs

CLASSES = tuple(f"class {number}" for number in range(10))
FLIPPED = 0.4  # share of the labels
Timed = Callable[[Callable[[], None]], None]  # carries out one append


def synthetic_run(
    root: Path,
    samples: int,
    epochs: int,
    *,
    method: str = "kd-aif",
    seed: int = 0,
    timed: Timed = lambda append: append(),
) -> Run:
    """A finished run of 8 x 8 grey images; `timed` is handed the writing of each epoch."""
    rng = np.random.default_rng(seed)
    config = {
        "method": method,
        "seed": seed,
        "noise": {"kind": "symmetric", "rate": FLIPPED},
        "student": {"optim": {"epochs": epochs}},
    }
    run = new_run(RunConfig.model_validate(config), root)
    clean = rng.integers(0, 10, samples)
    flipped = rng.random(samples) < FLIPPED
    label = np.where(flipped, (clean + rng.integers(1, 10, samples)) % 10, clean)
    names = pd.Series(np.arange(samples)).astype(str).str.zfill(7)
    run.write_samples(
        pd.DataFrame(
            {
                "id": "made-up/train/" + names,
                "split": "train",
                "label": label,
                "clean": clean,
                "flipped": flipped,
                "ref": "made-up#" + names,
                "hash": names,
            }
        ),
        CLASSES,
    )
    images = rng.integers(0, 256, (samples, 8, 8, 1), dtype=np.uint8)
    run.add_provenance(inputs=save_inputs(images, root.parent), student_parameters=1000, teacher_parameters=4000)
    settled = np.where(flipped, -5.0, 2.5).astype(np.float32) + rng.normal(0, 2, samples).astype(np.float32)
    for number in range(1, epochs + 1):
        values = _values(rng, settled, label, clean, number / epochs, method)
        timed(lambda number=number, values=values: run.write_epoch(number, values))  # type: ignore[misc]
        accuracy = 0.9 - 0.6 * np.exp(-4 * number / epochs)
        run.append_metrics(
            {
                "epoch": number,
                **dict.fromkeys(("train_accuracy", "validation_accuracy", "test_accuracy"), accuracy),
                "train_loss": 1 - accuracy,
                "class_accuracy": np.full(10, accuracy) - 0.01 * np.arange(10),
                "seconds": 1.0,
                "overhead": 0.05,
            }
        )
    figures = {
        "test_accuracy": accuracy,
        "validation_accuracy": accuracy,
        "flipped_auroc": 0.97,
        "seconds": 1.0 * epochs,
    }
    run.write_result({"run_id": run.id, "run_dir": str(run.path), "method": method, **figures})
    run.write_status(state="done", epoch=epochs, stage="student")
    return run


def _values(
    rng: np.random.Generator, settled: np.ndarray, label: np.ndarray, clean: np.ndarray, progress: float, method: str
) -> dict[str, np.ndarray]:
    """One epoch: what a sample is like stays, what an epoch adds is noise."""
    count = len(settled)
    influence = settled * (0.4 + 0.6 * progress) + rng.normal(0, 0.5, count).astype(np.float32)
    said = np.where(rng.random(count) < 0.8, clean, label)
    values = {
        "weight": np.ones(count, np.float32),
        "loss": np.abs(rng.normal(1, 0.5, count)).astype(np.float32) + (label != clean),
        "teacher_loss": np.abs(rng.normal(0.5, 0.3, count)).astype(np.float32) + 2 * (label != clean),
        "margin": influence,
        "student_prediction": said,
        "student_confidence": rng.uniform(0.2, 1, count).astype(np.float32),
        "teacher_prediction": clean,
        "teacher_confidence": rng.uniform(0.5, 1, count).astype(np.float32),
    }
    if method == "kd-aif":
        values |= {"influence": influence, "weight": 1 / (1 + np.exp(-1.6 * (influence + 1)))}
    return values
