"""Tables that answer people's questions: which samples harm, which runs belong together, what a method gained.

The command line prints them, the dashboard draws them.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from kdaif.config import InfluenceConfig, RunConfig
from kdaif.metrics.residuals import far
from kdaif.runs.run import Run, RunSummary

HARMFUL_WEIGHT = 0.5  # a sample looks harmful when less than half its neutral weight is left
HELPFUL_T = 2.0  # and helpful when its influence is this many standard errors above zero
METHODS = {
    "ce": "No teacher",
    "kd": "Vanilla KD",
    "small-loss": "Small loss",
    "aum": "AUM",
    "confident-learning": "Confident learning",
    "l2rw": "L2RW",
    "meta-weight-net": "Meta-Weight-Net",
    "kd-aif": "KD-AIF",
    "oracle": "Oracle",
}
_BESIDE_THE_SETTING = {"method", "seed", "name", "device", "precision", "checkpoint_every", "influence"}


def rows(table: pd.DataFrame) -> Iterable[Any]:
    """The rows as named tuples, `Index` first; typed loosely, because a column's type is known to people only."""
    return table.itertuples()


def sample_table(run: Run, number: int | None = None, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row a training sample (index = row in training order) with the values of one epoch (None: the last).

    Beside the columns of `Run.samples` and `Run.epoch`: class names (or numbers as words) `given`, `suggested` (the teacher's
    opinion where it differs, see `metrics.residuals.far` for numbers, else ""), `true`, `student`, `teacher` ("" unknown);
    `verdict` (harmful, neutral, helpful) and `rank` (0 = most harmful: lowest influence; by the student's loss in a run that
    measured no influence).
    `known` is `named_samples` of the run, where it was read before.
    """
    table = pd.concat([named_samples(run) if known is None else known, run.epoch(number)], axis=1)
    said = "value" if run.numbers else "prediction"
    student, teacher = table[f"student_{said}"], table[f"teacher_{said}"]
    opinion, differs = _opinion(table, run.numbers)
    table["suggested"] = np.where(differs, run.label_words(opinion), "")
    table["student"], table["teacher"] = run.label_words(student), run.label_words(teacher)
    harmful = table["weight"].to_numpy() < HARMFUL_WEIGHT
    helpful = table["influence"].to_numpy() > HELPFUL_T
    table["verdict"] = np.select([harmful, helpful], ["harmful", "helpful"], "neutral")
    unmeasured = table["influence"].isna().all()
    order = np.argsort((-table["loss"] if unmeasured else table["influence"]).to_numpy(), kind="stable")
    table["rank"] = np.empty(len(table), np.int64)
    table.loc[order, "rank"] = np.arange(len(table))
    return table


def named_samples(run: Run) -> pd.DataFrame:
    """The part of `sample_table` that no epoch changes: `Run.samples`, and the names `given` and `true`."""
    samples = run.samples()
    given, true = ("value", "clean_value") if run.numbers else ("label", "clean")
    return samples.assign(given=run.label_words(samples[given]), true=run.label_words(samples[true]))


def _opinion(table: pd.DataFrame, numbers: bool) -> tuple[np.ndarray, np.ndarray]:
    """What the teacher, else the student, would put in the label's place, and where that is another label."""
    if numbers:
        said = table["teacher_value"].where(table["teacher_value"].notna(), table["student_value"]).to_numpy()
        return said, far(said, table["value"].to_numpy())
    known = table["teacher_prediction"] >= 0
    said = np.where(known, table["teacher_prediction"], table["student_prediction"])
    return said, (said != table["label"].to_numpy()) & (said >= 0)


def verdict_counts(table: pd.DataFrame) -> dict[str, Any]:
    """How many samples look harmful and how many of them rightly.

    `samples`, `harmful`, and where flipped labels are known `flipped`, `precision`, `recall` (shares; None: no such).
    """
    harmful = (table["verdict"] == "harmful").to_numpy()
    counts: dict[str, Any] = {"samples": len(table), "harmful": int(harmful.sum())}
    if table["flipped"].isna().all():
        return {**counts, "flipped": None, "precision": None, "recall": None}
    flipped = table["flipped"].fillna(False).to_numpy(bool)
    hits = int((harmful & flipped).sum())
    return {
        **counts,
        "flipped": int(flipped.sum()),
        "precision": hits / counts["harmful"] if counts["harmful"] else None,
        "recall": hits / flipped.sum() if flipped.any() else None,
    }


def run_table(summaries: Iterable[RunSummary]) -> pd.DataFrame:
    """One row a sound run, in the order given.

    Runs of one `experiment` differ in method, influence settings and seed only, so that their figures compare; runs of
    one `family` may differ in the noise rate too.
    """
    return pd.DataFrame([_run_row(summary) for summary in summaries if not summary.error], columns=list(_RUN_COLUMNS))


def method_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row a method of one experiment, out of its finished rows of `run_table`; the newest run of a seed counts.

    `runs`, `mean`, `std` of test accuracy (shares), `gains` (by seed, against vanilla KD), `gain` (their mean), `to_oracle` (by
    seed, against the oracle) and `oracle_gap_recovered` (see `gap_recovered`).
    """
    done = runs[(runs["state"] == "done") & runs["test_accuracy"].notna()].drop_duplicates(["label", "seed"])
    accuracy = done.set_index(["seed", "label"])["test_accuracy"].unstack()  # noqa: PD010
    methods = dict(zip(done["label"], done["method"], strict=True))
    order = sorted(accuracy.columns, key=lambda label: (method_rank(methods[label]), label))
    lines = [_method_row(methods[label], accuracy, label) for label in order]
    columns = ["label", "method", "runs", "mean", "std", "gain", "gains", "to_oracle", "oracle_gap_recovered"]
    return pd.DataFrame(lines, columns=columns)


def best_variant(methods: pd.DataFrame) -> pd.Series | None:
    """The KD-AIF that stands for all in `method_table`: of those with the most seeds the most accurate; None without any."""
    found = methods[methods["method"] == "kd-aif"]
    return None if found.empty else found.sort_values(["runs", "mean"]).iloc[-1]


def gap_recovered(accuracy: pd.DataFrame, method: str, vanilla: str, oracle: str) -> float | None:
    """(method - vanilla KD) / (oracle - vanilla KD) of the means over the seeds that all three have.

    `accuracy`: a row a seed, a column a method. None without such a seed, or where the oracle gains nothing.
    """
    ours, low, high = accuracy.reindex(columns=[method, vanilla, oracle]).dropna().mean()
    return float((ours - low) / (high - low)) if high > low else None


def config_difference(configs: Sequence[RunConfig]) -> pd.DataFrame:
    """The settings in which the configs differ: one row a dotted setting, one column a config, values as text."""
    flat = [pd.json_normalize(config.model_dump(mode="json")).iloc[0].map(_text) for config in configs]
    table = pd.concat(flat, axis=1, ignore_index=True).fillna("–")
    return table[table.ne(table[0], axis=0).any(axis=1)]


_RUN_COLUMNS = (
    "run_id",
    "experiment",
    "family",
    "setting",
    "label",
    "method",
    "noise",
    "seed",
    "state",
    "stage",
    "epoch",
    "epochs",
    "eta_seconds",
    "message",
    "test_accuracy",
    "flipped_auroc",
    "seconds",
)


def _run_row(summary: RunSummary) -> dict[str, Any]:
    assert summary.config is not None
    assert summary.status is not None
    config, status, result = summary.config, summary.status, summary.result or {}
    return {
        "run_id": summary.id,
        "experiment": _experiment(config),
        "family": _family(config),
        "setting": setting(config) + (f"; accuracy: {result['accuracy_is']}" if "accuracy_is" in result else ""),
        "label": method_label(config),
        "method": config.method,
        "noise": config.noise.rate,
        "seed": config.seed,
        **status.model_dump(include={"state", "stage", "epoch", "epochs", "eta_seconds", "message"}),
        **{name: result.get(name) for name in ("test_accuracy", "flipped_auroc", "seconds")},
    }


def setting(config: RunConfig) -> str:
    """What an experiment is about, in a line."""
    noise = config.noise
    labels = {"none": "labels as given", "matrix": "noise from a class matrix", "column": "labels from a column"}
    said = labels.get(noise.kind, f"{100 * noise.rate:.0f} % {noise.kind} noise")
    said += ", edited" if config.data.edits else ""
    return f"{config.data.source}, {said}, {config.student.model}, {config.student.optim.epochs} epochs"


def method_label(config: RunConfig) -> str:
    """The method's name, with the influence settings that are not the default where they matter."""
    name = METHODS.get(config.method, config.method)
    default = InfluenceConfig().model_dump()
    changed = [f"{key} {value}" for key, value in config.influence.model_dump().items() if value != default[key]]
    return f"{name} ({', '.join(changed)})" if changed and config.method == "kd-aif" else name


def method_rank(method: str) -> int:
    """Place of a method in tables and legends."""
    return list(METHODS).index(method) if method in METHODS else len(METHODS)


def _experiment(config: RunConfig) -> str:
    return _digest(config.model_dump(mode="json", exclude=_BESIDE_THE_SETTING))


def _family(config: RunConfig) -> str:
    tree = config.model_dump(mode="json", exclude=_BESIDE_THE_SETTING)
    del tree["noise"]["rate"]
    return _digest(tree)


def _digest(tree: dict[str, Any]) -> str:
    return hashlib.sha1(json.dumps(tree, sort_keys=True).encode(), usedforsecurity=False).hexdigest()[:8]


def _method_row(method: str, accuracy: pd.DataFrame, label: str) -> dict[str, Any]:
    values = accuracy[label].dropna()
    ends = METHODS["kd"], METHODS["oracle"]
    gains, to_oracle = ((values - accuracy[other]).dropna() if other in accuracy else values[:0] for other in ends)
    return {
        "label": label,
        "method": method,
        "runs": len(values),
        "mean": values.mean(),
        "std": values.std(),
        "gain": gains.mean() if len(gains) else None,
        "gains": gains.to_dict(),
        "to_oracle": to_oracle.to_dict(),
        "oracle_gap_recovered": None if label in ends else gap_recovered(accuracy, label, *ends),
    }


def _text(value: Any) -> str:
    return "–" if value is None else str(value)
