"""Runs with made-up numbers, written through kdaif.runs as the trainer writes them."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from kdaif.config import RunConfig
from kdaif.runs import Run, new_run, runs_root, save_inputs

SAMPLES = 20
CLASSES = tuple(f"digit {n}" for n in range(10))
# reached test accuracy, and how fast
_CURVES = {"ce": (0.835, 2.0), "kd": (0.868, 2.2), "kd-aif": (0.921, 2.4), "oracle": (0.936, 2.6)}


def epoch_values(number: int, samples: int = SAMPLES) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(number)
    influence = rng.normal(size=samples).astype(np.float32)
    return {"influence": influence, "weight": np.full(samples, number, np.float32)}


def sample_frame(samples: int = SAMPLES) -> pd.DataFrame:
    label = np.arange(samples) % 3
    clean = np.where(np.arange(samples) < 5, 0, label)
    return pd.DataFrame(
        {
            "id": [f"toy/train/{i:06d}" for i in range(samples)],
            "split": "train",
            "label": label,
            "clean": clean,
            "value": np.linspace(0, 3, samples).astype(np.float32),
            "clean_value": np.linspace(1, 2, samples).astype(np.float32),
            "flipped": label != clean,
            "corrupted": np.arange(samples) % 4 == 0,
            "ref": [f"toy.parquet#{i}" for i in range(samples)],
            "hash": [f"{i:040x}" for i in range(samples)],
            "text": [f"sentence {i}" for i in range(samples)],
            "text_pair": [f"another {i}" for i in range(samples)],
            "rating": np.linspace(-1, 1, samples).astype(np.float32),
            "rating_spread": np.linspace(0, 2, samples).astype(np.float32),
        }
    )


def demo_runs(
    root: Path | None = None, seeds: int = 3, epochs: int = 10, methods: tuple[str, ...] = ("kd", "oracle", "kd-aif")
) -> list[Run]:
    """What the demo leaves: finished runs on scikit-learn's digits, 40 % of the labels flipped."""
    return [digits_run(method, seed, epochs, root=root) for seed in range(seeds) for method in methods]


def digits_run(
    method: str = "kd-aif",
    seed: int = 0,
    epochs: int = 10,
    *,
    recorded: int | None = None,
    noise: float = 0.4,
    known: bool = True,
    root: Path | None = None,
) -> Run:
    """A run that has recorded `recorded` of its epochs (None: all, and it is done)."""
    tree = {
        "method": method,
        "seed": seed,
        "noise": {"kind": "symmetric", "rate": noise} if noise else {},
        "student": {"optim": {"epochs": epochs}},
    }
    images, clean, label, opinion = digits(noise, seed)
    run = new_run(RunConfig.model_validate(tree), root)
    run.add_provenance(inputs=save_inputs(images, runs_root(root).parent))
    run.write_samples(_digit_samples(images, clean, label, known), CLASSES)
    recorded_epochs = epochs if recorded is None else recorded
    for number in range(1, recorded_epochs + 1):
        run.write_epoch(number, _digit_epoch(method, number / epochs, seed, clean, label, opinion))
        run.append_metrics(_metrics(method, number, epochs, seed))
    if recorded is None:
        run.write_status(state="done", epoch=epochs, stage="student")
        last = run.metrics().iloc[-1]
        figures = {name: float(last[name]) for name in ("test_accuracy", "validation_accuracy")}
        auroc = 0.97 if method == "kd-aif" and noise else None
        identity = {"run_id": run.id, "run_dir": str(run.path), "method": method}
        run.write_result({**identity, **figures, "flipped_auroc": auroc, "seconds": 9.0})
    else:
        run.write_status(state="running", epoch=recorded, stage="student", eta_seconds=1.1 * (epochs - recorded))
    return run


@cache
def digits(noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images (1200, 8, 8, 1), clean labels, given labels, and the class probabilities of a model fitted to the latter."""
    from sklearn.datasets import load_digits
    from sklearn.linear_model import LogisticRegression

    data = load_digits()
    images = np.round(data.images[:1200] * 255 / 16).astype(np.uint8)[..., None]
    clean = data.target[:1200]
    rng = np.random.default_rng(seed)
    flip = rng.random(1200) < noise
    label = np.where(flip, (clean + rng.integers(1, 10, 1200)) % 10, clean)
    flat = data.data[:1200] / 16
    model = LogisticRegression(C=0.05).fit(flat, label)
    return images, clean, label, model.predict_proba(flat) ** 3


def _digit_samples(images: np.ndarray, clean: np.ndarray, label: np.ndarray, known: bool) -> pd.DataFrame:
    frame = pd.DataFrame({"id": [f"digits/train/{i:06d}" for i in range(len(label))], "split": "train", "label": label})
    if known:
        frame["clean"] = clean
        frame["flipped"] = label != clean
    frame["ref"] = [f"load_digits#{i}" for i in range(len(label))]
    frame["hash"] = [hashlib.sha1(image.tobytes(), usedforsecurity=False).hexdigest() for image in images]
    return frame


def _digit_epoch(
    method: str, progress: float, seed: int, clean: np.ndarray, label: np.ndarray, opinion: np.ndarray
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    count, rows = len(label), np.arange(len(label))
    flipped = label != clean
    probability = opinion / opinion.sum(1, keepdims=True)
    learnt = 0.1 + (probability - 0.1) * progress ** (1.5 * (1 - probability.max(1, keepdims=True)))
    # what a sample is like stays, what an epoch adds is noise that shrinks
    settled = np.where(flipped, rng.normal(-5.5, 2.2, count), rng.normal(2.6, 1.5, count))
    wobble = np.random.default_rng(int(progress * 1000) + seed).normal(0, 1 - 0.6 * progress, count)
    influence = settled * (0.4 + 0.6 * progress) + wobble
    keep = 1 / (1 + np.exp(-1.6 * (influence + 1)))
    confidence = probability.max(1)
    values = {
        "loss": -np.log(learnt[rows, label].clip(1e-4)),
        "teacher_loss": -np.log(probability[rows, label].clip(1e-4)) * 0.9,
        "margin": settled,
        "student_prediction": probability.argmax(1),
        "student_confidence": confidence * (0.5 + 0.5 * progress),
        "teacher_prediction": probability.argmax(1),
        "teacher_confidence": confidence,
        "weight": np.ones(count),
    }
    if method == "oracle":
        values["weight"] = ~flipped / (~flipped).mean()
    if method == "kd-aif":
        values |= {
            "influence": influence,
            "influence_raw": influence * 0.003,
            "student_influence": 0.9 * influence,
            "weight": keep / keep.mean(),
        }
    return values


def _metrics(method: str, number: int, epochs: int, seed: int) -> dict[str, object]:
    rng = np.random.default_rng([seed, number, len(method)])
    reached, speed = _CURVES[method]
    level = reached - (reached - 0.1) * np.exp(-speed * 3 * number / epochs) + rng.normal(0, 0.004)
    shape = np.random.default_rng(len(method)).normal(0, 0.025, 10)
    return {
        "epoch": number,
        "train_loss": 2.3 * np.exp(-2 * number / epochs) + 0.9,
        "train_accuracy": level * 0.65,
        "validation_accuracy": level * 0.6,
        "test_accuracy": level,
        "test_loss": 2.0 * (1 - level),
        "class_accuracy": (level + shape + rng.normal(0, 0.008, 10)).clip(0, 1),
        "lr": 0.05 * (1 - number / epochs),
        "flipped_auroc": 0.97 - 0.1 * np.exp(-number) if method == "kd-aif" else None,
        "seconds": 0.9,
        "overhead": 0.04 if method == "kd-aif" else 0.0,
    }


def sentence_run(pairs: bool = False, samples: int = 60, root: Path | None = None) -> Run:
    """A finished kd-aif run on sentences (or pairs) of one epoch, every third label flipped, with people's ratings."""
    rng = np.random.default_rng(0)
    label = np.arange(samples) % 2
    flipped = np.arange(samples) % 3 == 0
    influence = np.where(flipped, -4.0, 2.0) + rng.normal(size=samples)
    run = new_run(RunConfig.model_validate({"data": {"source": "reviews"}, "student": {"optim": {"epochs": 1}}}), root)
    frame = pd.DataFrame(
        {
            "id": [f"reviews/all/{i:06d}" for i in range(samples)],
            "split": "train",
            "label": label,
            "clean": np.where(flipped, 1 - label, label),
            "flipped": flipped,
            "ref": [f"snippets#{i}" for i in range(samples)],
            "hash": [f"{i:040x}" for i in range(samples)],
            "text": [f"A {'witty' if one else 'tedious'} film, number {i}." for i, one in enumerate(label)],
            "text_pair": [f"It was the film number {i}." for i in range(samples)] if pairs else None,
            "rating": rng.uniform(-4, 4, samples).astype(np.float32),
            "rating_spread": rng.uniform(0.2, 2, samples).astype(np.float32),
        }
    )
    run.write_samples(frame, ("negative", "positive"))
    says = frame["clean"].to_numpy()
    values = {"loss": np.full(samples, 0.5), "teacher_loss": np.full(samples, 0.5), "margin": np.ones(samples)}
    values |= {f"{network}_prediction": says for network in ("student", "teacher")}
    values |= {f"{network}_confidence": np.full(samples, 0.8) for network in ("student", "teacher")}
    run.write_epoch(1, {**values, "influence": influence, "weight": np.where(flipped, 0.1, 1.0)})
    figures = {"test_accuracy": 0.8, "validation_accuracy": 0.6}
    run.append_metrics({"epoch": 1, "train_loss": 0.6, "lr": 1e-4, "class_accuracy": [0.8, 0.8], **figures})
    run.write_status(state="done", epoch=1, stage="student")
    run.write_result({"run_id": run.id, "run_dir": str(run.path), "method": "kd-aif", "seconds": 1.0, **figures})
    return run


def number_run(samples: int = 60, root: Path | None = None) -> Run:
    """A finished kd-aif run on sentences whose labels are numbers, of two epochs, every third one altered."""
    rng = np.random.default_rng(0)
    altered = np.arange(samples) % 3 == 0
    clean = rng.uniform(0, 5, samples).astype(np.float32)
    value = np.where(altered, 5 - clean, clean).astype(np.float32)
    influence = np.where(altered, -4.0, 2.0) + rng.normal(size=samples)
    tree = {"data": {"source": "glue/stsb"}, "student": {"optim": {"epochs": 2}}}
    run = new_run(RunConfig.model_validate(tree), root)
    frame = pd.DataFrame(
        {
            "id": [f"glue/stsb/train/{i:06d}" for i in range(samples)],
            "split": "train",
            "label": 0,
            "clean": 0,
            "value": value,
            "clean_value": clean,
            "flipped": value != clean,
            "ref": [f"pairs#{i}" for i in range(samples)],
            "hash": [f"{i:040x}" for i in range(samples)],
            "text": [f"Two men are cooking, number {i}." for i in range(samples)],
            "text_pair": [f"A man cooks number {i}." for i in range(samples)],
        }
    )
    run.write_samples(frame, ("label",))
    for epoch in (1, 2):
        said = clean + rng.normal(0, 0.4 / epoch, samples)
        loss = (said - value) ** 2 / clean.var()
        values = {"loss": loss, "teacher_loss": loss, "margin": -np.sqrt(loss)}
        values |= {"student_value": said, "teacher_value": clean + 0.1}
        run.write_epoch(epoch, {**values, "influence": influence, "weight": np.where(altered, 0.1 / epoch, 1.0)})
        figures = {"test_accuracy": 0.8, "validation_accuracy": 0.6, "test_pearson": 0.8, "test_spearman": 0.78}
        run.append_metrics({"epoch": epoch, "train_loss": 0.6, "lr": 1e-4, "class_accuracy": [0.8], **figures})
    run.write_status(state="done", epoch=2, stage="student")
    identity = {"run_id": run.id, "run_dir": str(run.path), "method": "kd-aif", "seconds": 1.0}
    run.write_result({**identity, **figures, "accuracy_is": "Pearson's correlation"})
    return run
