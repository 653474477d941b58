"""The SAFE card's figures, each with what it means, as one table. Pure functions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdaif.runs import Run

PARTS = ("Accuracy", "Robustness", "Explainability", "Fairness", "Cost")
WATTS = 65  # of the machine while it trains: a desktop processor; a data-centre GPU takes 300 to 700
CORRELATED = "Pearson's correlation of predictions and test labels, which are numbers."
DAMAGE: Mapping[str, str] = {"gaussian": "noise", "blur": "blur", "occlusion": "a cover", "drop": "left-out words"}


def card_table(run: Run, watts: float) -> pd.DataFrame:
    """Columns part, figure, value, unit, meaning; what was not measured is left out."""
    result, facts = run.result() or {}, run.provenance()
    card: dict[str, Any] = run.read_notes("card") or {}
    lines = [*_accuracy(result, card), *_robustness(result, card), *_explained(card), *_fairness(run, card)]
    lines += _cost(run, result, facts, card, watts)
    table = pd.DataFrame(lines, columns=["part", "figure", "value", "unit", "meaning"])
    return table[table["value"].notna()].reset_index(drop=True)


def _accuracy(result: dict[str, Any], card: dict[str, Any]) -> list[tuple[Any, ...]]:
    return [
        ("Accuracy", "Test accuracy", result.get("test_accuracy"), "share",
         CORRELATED if "accuracy_is" in result else "Share of the test samples given their true class."),
        ("Accuracy", "RGA", card.get("rga"), "0–1, chance 0.5", "Rank graduation accuracy: how well the probabilities order "
         "each class against the rest, mean of the classes."),
        ("Accuracy", "Teacher", result.get("teacher_test_accuracy"), "share", "Test accuracy of the teacher, beside it."),
    ]  # fmt: skip


def _robustness(result: dict[str, Any], card: dict[str, Any]) -> list[tuple[Any, ...]]:
    lines: list[tuple[Any, ...]] = []
    for name, figures in card.get("robustness", {}).items():
        what = DAMAGE.get(name, name)
        lines += [
            ("Robustness", f"RGR under {what}", figures["rgr"], "0–1, chance 0.5", "Rank graduation robustness: how far the "
             f"order of the probabilities survives {what} in the inputs."),
            ("Robustness", f"Accuracy under {what}", figures["accuracy"], "share", f"Test accuracy with {what} in all inputs."),
        ]  # fmt: skip
    return lines


def _explained(card: dict[str, Any]) -> list[tuple[Any, ...]]:
    parts = card.get("parts", [])
    if not parts:
        return []
    what = (
        "leaving out that one third of the words" if _of_text(card) else "covering that one of nine parts of the image"
    )
    return [
        ("Explainability", "Highest RGE", max(parts), "0–0.5", f"Rank graduation explainability: how far {what} disorders the "
         "probabilities; 0 changes nothing, 0.5 everything."),
        ("Explainability", "Mean RGE", sum(parts) / len(parts), "0–0.5", "The mean over the parts: low where no single part "
         "decides."),
    ]  # fmt: skip


def _of_text(card: dict[str, Any]) -> bool:
    return card.get("input") == "sentence"


def _fairness(run: Run, card: dict[str, Any]) -> list[tuple[Any, ...]]:
    metrics = run.metrics()
    accuracy = np.asarray(metrics["class_accuracy"].iloc[-1], float) if len(metrics) else np.empty(0)
    lines: list[tuple[Any, ...]] = []
    if np.isfinite(accuracy).any() and not run.numbers:
        worst = run.classes()[int(np.nanargmin(accuracy))]
        lines = [
            ("Fairness", "Accuracy gap", 100 * (np.nanmax(accuracy) - np.nanmin(accuracy)), "points", "Test accuracy of the "
             "best class less that of the worst; 0 is even."),
            ("Fairness", f"Worst class: {worst}", np.nanmin(accuracy), "share", "Test accuracy of the class that fares worst."),
        ]  # fmt: skip
    gap = card.get("fairness", {}).get("robustness_gap")
    damage = DAMAGE["drop" if _of_text(card) else "gaussian"]
    meaning = f"RGR under {damage} of the steadiest class less that of the least steady; 0 is even."
    return [*lines, ("Fairness", "RGR gap", gap, "0–1", meaning)]


def _cost(
    run: Run, result: dict[str, Any], facts: dict[str, Any], card: dict[str, Any], watts: float
) -> list[tuple[Any, ...]]:
    seconds = result.get("seconds")
    student, teacher = facts.get("student_parameters"), facts.get("teacher_parameters")
    times = card.get("milliseconds", {})
    item = "a sentence" if _of_text(card) else "an image"
    kept = run.student_path.stat().st_size / 1e6 if run.student_path.is_file() else None
    return [
        ("Cost", "Training time", seconds, "s", "Wall-clock time of the whole run, its teacher's training included if it was "
         "not there yet."),
        ("Cost", "Energy, estimated", None if seconds is None else seconds * watts / 3.6e6, "kWh", f"Training time at an "
         f"assumed {watts:g} W; nothing was measured."),
        ("Cost", "Parameters", student, "", "Numbers that the student learns."),
        ("Cost", "Of the teacher's", student / teacher if student and teacher else None, "share", "The student's parameters "
         "as a share of the teacher's."),
        ("Cost", "File", kept, "MB", "The student on disk."),
        ("Cost", f"Time {item}", times.get("student"), "ms", f"In batches of 100 on {card.get('device', 'cpu')}."),
        ("Cost", "Speed-up", times["teacher"] / times["student"] if times else None, "times", f"The teacher's time {item} "
         "over the student's."),
    ]  # fmt: skip


def shown(value: float, unit: str) -> str:
    """The figure for people."""
    if unit == "share":
        return f"{100 * value:.1f}\u00a0%"
    if unit == "points":
        return f"{value:.1f}\u00a0points"
    if unit == "":
        return f"{value:,.0f}"
    if unit.startswith("0–"):
        return f"{value:.3f}"
    return f"{value:.2g}\u00a0{unit}" if abs(value) < 10 else f"{value:,.0f}\u00a0{unit}"
