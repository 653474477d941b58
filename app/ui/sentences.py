"""The plain sentence that opens each page and answers its question in figures."""

from typing import Any

import numpy as np
import pandas as pd

from app.ui.card import CORRELATED
from app.ui.look import ACCENT, GOLD, HARMFUL, duration, ink, percent, points
from kdaif.runs.tables import METHODS, best_variant, method_table

SMALL_GAP = (
    0.01  # a gain of the oracle's below a point is not told from chance on most test splits: no share of it is told
)


def overview_sentence(methods: pd.DataFrame, counts: dict[str, Any] | None) -> str:
    """What KD-AIF gained and what it found; `methods` from `method_table`, `counts` from `verdict_counts`."""
    parts = [_gain(methods)]
    if counts and counts["harmful"]:
        parts.append(_found(counts))
    return " ".join(part for part in parts if part)


def samples_sentence(counts: dict[str, Any], method: str) -> str:
    """How many samples look harmful and how many rightly, as far as the method judges at all."""
    if method in ("ce", "kd"):
        return f"{METHODS[method]} weighs all {counts['samples']:,} training samples the same: none is judged harmful."
    if method == "oracle":
        return f"The oracle knows the labels and leaves {counts['harmful']:,} of {counts['samples']:,} samples out."
    if not counts["harmful"]:
        return f"None of the {counts['samples']:,} training samples looks harmful to the student."
    return _found(counts)


def compare_sentence(methods: pd.DataFrame) -> str:
    """Where the best KD-AIF run stands between vanilla KD and the oracle."""
    best = best_variant(methods)
    if best is None:
        return "No KD-AIF run of this experiment has finished yet."
    mean = ink(percent(best["mean"], 1), ACCENT)
    parts = [(f"{best['label']} reaches {mean} on the test set", best["runs"])]
    for differences, other in ((best["gains"], "vanilla KD"), (best["to_oracle"], f"the {ink('oracle', GOLD)}")):
        if differences:
            parts.append((f"{_above(np.mean([*differences.values()]))} {other}", len(differences)))
    return f"{_listed(_counted(parts))}."


def experiments_sentence(runs: pd.DataFrame, seconds: float | None) -> str:
    """How far these runs are; `runs` from `run_table`, `seconds` until all are done (None: not known)."""
    if runs.empty:
        return "Nothing has been trained yet: choose data, noise and methods, and queue the first sweep."
    counts = runs["state"].value_counts()
    total = "the only run" if len(runs) == 1 else f"{len(runs)} runs"
    waits, done = int(counts.get("queued", 0)), int(counts.get("done", 0))
    if done == len(runs):
        return f"{'The only run is' if done == 1 else f'All {done} runs are'} done."
    parts = [f"{ink(str(done), ACCENT)} of {total} {'is' if done == 1 else 'are'} done"]
    if running := int(counts.get("running", 0)):
        parts.append(f"{running} {'is' if running == 1 else 'are'} in training")
    if waits:
        parts.append(f"{waits} {'waits' if waits == 1 else 'wait'}")
    if stopped := len(runs) - done - running - waits:
        parts.append(f"{stopped} {'has' if stopped == 1 else 'have'} stopped before the end")
    left = f": about {duration(seconds)} left" if seconds and (running or waits) else ""
    return f"{', '.join(parts)}{left}."


def dynamics_sentence(now: np.ndarray, half: np.ndarray, epochs: tuple[int, int]) -> str:
    """When the verdicts were made: `now`, `half` say which samples look harmful after these `epochs` (last, half-way)."""
    last, middle = epochs
    if not now.any():
        return f"After epoch {last} no weight of {len(now):,} samples is below half of neutral."
    harmful = ink(f"{now.sum():,}", HARMFUL)
    found = f"{harmful} of {len(now):,} samples look harmful after epoch {last}"
    if middle == last:
        return f"{found}."
    early = percent(half[now].mean())
    return f"{found}; {early} of them already did after epoch {middle}."


def steady_sentence(method: str, samples: int, first: float, last: float, epochs: int) -> str:
    """What moves where the weights do not: the mean confidence after the first and the last epoch."""
    kept = f"{METHODS.get(method, method)} leaves the weights of all {samples:,} samples as they are"
    if epochs == 1:
        return f"{kept}; the student gives the given labels {percent(last)} after its first epoch."
    moved = "rises" if last >= first else "falls"
    return f"{kept}; its confidence in the given labels {moved} from {percent(first)} to {percent(last)}."


def card_sentence(table: pd.DataFrame) -> str:
    """What stands on the SAFE card, in a line; `table` from `card.card_table`."""
    figures = dict(zip(table["figure"], table["value"], strict=True))
    if "Test accuracy" not in figures:
        return "This run has not finished, so its card is not whole yet."
    reached = ink(percent(figures["Test accuracy"], 1), ACCENT)
    said = f"The student is right in {reached} of the test samples"
    if (table["meaning"] == CORRELATED).any():
        said = f"The student's predictions correlate with the test labels to {reached}"
    if damaged := [name for name in figures if name.startswith("Accuracy under ")]:
        said += f", {percent(figures[damaged[0]])} {damaged[0].removeprefix('Accuracy ')}"
    if (small := figures.get("Of the teacher's")) is not None:
        said += f", with {percent(small)} of the teacher's parameters"
    return f"{said}."


def robustness_sentence(runs: pd.DataFrame) -> str:
    """What wrong labels cost; `runs`: the finished rows of `run_table` of one family."""
    rate = runs.loc[runs["method"] == "kd-aif", "noise"].max()
    best = best_variant(method_table(runs[runs["noise"] == rate]))
    if best is None:
        return "No KD-AIF run on these data and networks has finished yet."
    parts = [_cost(runs, best, rate)]
    gap = best["oracle_gap_recovered"]
    if pd.notna(gap) and gap > 0:
        _, oracle, seeds = _gains(best)
        if oracle < SMALL_GAP:
            recovers = f"the oracle's gain there is {_size(oracle)} {_unit(oracle)}"
        else:
            recovers = f"{best['label']} recovers {ink(percent(gap), ACCENT)} of the oracle gap there"
        parts.append((recovers, seeds))
    return f"{'; '.join(_counted(parts))}."


def _cost(runs: pd.DataFrame, best: pd.Series, rate: float) -> tuple[str, int]:
    """What the wrong labels up to this rate cost, over the seeds that stand at both ends, and how many seeds these are."""
    ours, vanilla = best["label"], METHODS["kd"]
    accuracy = runs.pivot_table(index="seed", columns=["noise", "label"], values="test_accuracy")
    for low in sorted(set(runs.loc[runs["noise"] < rate, "noise"])):
        changes = (accuracy[rate] - accuracy[low]).reindex(columns=[ours, vanilla]).dropna(subset=[ours])
        if changes.empty:
            continue
        said = f"From {percent(low)} to {percent(rate)} wrong labels {ours}"
        paired = changes.dropna()
        if paired.empty:
            return f"{said} {_change(changes[ours].mean())}", len(changes)
        return f"{said} {_change(paired[ours].mean())}, vanilla KD {_change(paired[vanilla].mean())}", len(paired)
    return f"At {percent(rate)} wrong labels {ours} reaches {ink(percent(best['mean'], 1), ACCENT)}", best["runs"]


def _change(difference: float) -> str:
    if abs(difference) < 0.0005:
        return "changes by 0.0 points"
    return f"{'gains' if difference > 0 else 'loses'} {_size(difference)} points"


def _gain(methods: pd.DataFrame) -> str:
    best = best_variant(methods)
    if best is None:
        return "No KD-AIF run of this experiment has finished yet."
    if pd.notna(best["oracle_gap_recovered"]) and best["oracle_gap_recovered"] > 0:
        ours, oracle, seeds = _gains(best)
        if oracle < SMALL_GAP:
            said = f"{best['label']} gained {ink(_size(ours), ACCENT)} {_unit(ours)} over vanilla KD"
            return f"{said}, a perfect label cleaner {_size(oracle)} ({_seeds(seeds)})."
        share = ink(percent(best["oracle_gap_recovered"]), ACCENT)
        if best["oracle_gap_recovered"] > 1:  # the oracle's teacher has learnt from the wrong labels all the same
            said = "gained more than a perfect label cleaner would"
            return f"{best['label']} {said}: {share} of its gain ({_seeds(seeds)})."
        return f"{best['label']} recovered {share} of what a perfect label cleaner would gain ({_seeds(seeds)})."
    parts = [(f"{best['label']} reached {ink(percent(best['mean'], 1), ACCENT)} test accuracy", best["runs"])]
    if pd.notna(best["gain"]):
        parts.append((f"{_above(best['gain'])} vanilla KD", len(best["gains"])))
        return f"{', '.join(_counted(parts))}."
    return f"{_counted(parts)[0]}; there is no vanilla KD run of the same seed to measure it against yet."


def _found(counts: dict[str, Any]) -> str:
    harmful = ink(f"{counts['harmful']:,}", HARMFUL)
    sentence = f"{harmful} of {counts['samples']:,} samples look harmful"
    if counts["precision"] is None:
        return f"{sentence}."
    return f"{sentence}, {percent(counts['precision'])} of them rightly."


def _gains(best: pd.Series) -> tuple[float, float, int]:
    """What it and the oracle gain over vanilla KD, means over the seeds that all three have, and how many these are."""
    shared = best["gains"].keys() & best["to_oracle"].keys()
    ours = float(np.mean([best["gains"][seed] for seed in shared]))
    return ours, ours - float(np.mean([best["to_oracle"][seed] for seed in shared])), len(shared)


def _counted(parts: list[tuple[str, int]]) -> list[str]:
    """The words of each part, with its number of seeds unless the next part's is the same."""
    following = [*(seeds for _, seeds in parts[1:]), None]
    return [
        words if seeds == after else f"{words} ({_seeds(seeds)})"
        for (words, seeds), after in zip(parts, following, strict=True)
    ]


def _seeds(count: int) -> str:
    return f"mean of {count} seeds" if count > 1 else "one seed"


def _above(difference: float) -> str:
    return f"{_size(difference)} {_unit(difference)} {'above' if difference >= 0 else 'below'}"


def _size(difference: float) -> str:
    return points(abs(difference)).lstrip("+±")


def _unit(difference: float) -> str:
    return "point" if abs(round(100 * difference, 1)) == 1 else "points"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{parts[0]}, {' and '.join(parts[1:])}"
