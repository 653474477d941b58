"""Chosen runs beside a reference run: classes, confusions, ranks of the same sample, size and speed. Pure, frame in, frame or
figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.ui.figures import styled, wrapped
from app.ui.look import ACCENT, GOLD, HARMFUL, HELPFUL, NEUTRAL, VIOLET, points
from kdaif.runs import Run
from kdaif.runs.tables import sample_table

FEW_CLASSES = 20  # above, a confusion matrix is no picture any more
PAIRS = 15  # of classes that are listed then
SHIFTS = 200  # samples in the table of ranks
COLORS = (ACCENT, GOLD, VIOLET, NEUTRAL)


def class_accuracies(runs: Mapping[str, Run]) -> pd.DataFrame:
    """Test accuracy of each class after the last epoch: index class, a column a run."""
    columns = {name: np.asarray(run.metrics()["class_accuracy"].iloc[-1], float) for name, run in runs.items()}
    return pd.DataFrame(columns, index=pd.Index(next(iter(runs.values())).classes(), name="class"))


def classes_figure(accuracies: pd.DataFrame) -> go.Figure:
    """Points of test accuracy over the first column, by class, the greatest difference first."""
    reference, *others = accuracies.columns
    differences = accuracies[others].sub(accuracies[reference], axis=0)
    differences = differences.sort_values(others[0], ascending=False)
    figure = go.Figure()
    for color, name in zip(COLORS, others):
        values = differences[name]
        alone = len(others) == 1
        figure.add_bar(
            x=list(differences.index),
            y=100 * values,
            name=wrapped(name),
            marker={"color": np.where(values >= 0, HELPFUL, HARMFUL) if alone else color, "opacity": 0.9},
            text=[points(value) for value in values] if alone and len(values) <= FEW_CLASSES else None,
            hovertemplate=f"{name}, %{{x}}: %{{y:+.1f}} points<extra></extra>",
            cliponaxis=False,
        )
    figure.update_layout(uniformtext={"minsize": 11, "mode": "show"})
    figure.update_yaxes(title="points over the reference", zeroline=True)
    figure.update_xaxes(showgrid=False, type="category")
    return styled(figure, height=max(205, 165 + 20 * len(others)), legend=len(others) > 1)


def confusion(run: Run) -> pd.DataFrame:
    """Share of each class's training samples that the student takes for each class: rows true (given where unknown)."""
    samples, said = run.samples(), run.epoch(columns=["student_prediction"])["student_prediction"].to_numpy()
    truth = samples["clean"].where(samples["clean"] >= 0, samples["label"]).to_numpy()
    names, seen = list(run.classes()), said >= 0
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (truth[seen], said[seen]), 1)
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    return pd.DataFrame(shares, index=names, columns=names)


def confusion_figure(difference: pd.DataFrame) -> go.Figure:
    """How much more often (in points) a class is taken for another than by the reference run; better is green."""
    better = np.where(np.eye(len(difference), dtype=bool), difference, -difference)
    top = float(np.abs(better).max(initial=0)) or 1.0
    text = np.vectorize(lambda value: points(value, 0) if abs(value) >= 0.005 else "")(difference.to_numpy())
    figure = go.Figure()
    figure.add_heatmap(
        x=list(difference.columns),
        y=list(difference.index)[::-1],
        z=better[::-1].astype(np.float32),
        text=text[::-1],
        texttemplate="%{text}",
        customdata=100 * difference.to_numpy()[::-1],
        colorscale=[[0, HARMFUL], [0.5, "rgba(138, 144, 153, 0.08)"], [1, HELPFUL]],
        zmin=-top,
        zmax=top,
        showscale=False,
        xgap=1,
        ygap=1,
        hovertemplate="%{y} taken for %{x}: %{customdata:+.1f} points<extra></extra>",
        name="difference",
    )
    figure.update_xaxes(title="the student says", showgrid=False, type="category")
    figure.update_yaxes(title="truly", showgrid=False, type="category")
    return styled(figure, height=max(205, 90 + 24 * len(difference)))


def confusion_pairs(difference: pd.DataFrame) -> pd.DataFrame:
    """The pairs of classes that changed most: truly, taken for, points."""
    named = difference.rename_axis("Truly").reset_index()
    pairs = named.melt("Truly", var_name="Taken for", value_name="Points").assign(Points=lambda p: 100 * p["Points"])
    return pairs.sort_values("Points", key=abs, ascending=False).head(PAIRS).reset_index(drop=True)


def ranks(runs: Mapping[str, Run], primary: int | None) -> pd.DataFrame:
    """The rank (1 = most harmful) that each run gives to the same sample under the same label, what shifted most first.

    `primary`: a row of the first run, which stands on top whatever its shift. Columns id, given, flipped, a rank a run, shift
    (the last run's rank less the first's).
    """
    frames = []
    for name, run in runs.items():
        table = sample_table(run)
        frames.append(table[["id", "given"]].assign(**{name: table["rank"] + 1}))
    first = next(iter(runs.values())).samples()
    shared = frames[0]
    for frame in frames[1:]:
        shared = shared.merge(frame, on=["id", "given"])
    shared = shared.merge(first[["id", "flipped"]], on="id")
    names = list(runs)
    shared["shift"] = shared[names[-1]] - shared[names[0]]
    chosen = shared["id"] == (None if primary is None or primary >= len(first) else first["id"][primary])
    ordered = shared.assign(size=-shared["shift"].abs(), chosen=~chosen).sort_values(["chosen", "size"])
    return ordered[["id", "given", "flipped", *names, "shift"]].head(SHIFTS).reset_index(drop=True)


def costs(runs: Mapping[str, Run]) -> pd.DataFrame:
    """What the compression bought: a row a run with its size, its speed and what it kept of the teacher's accuracy."""
    lines = []
    for name, run in runs.items():
        facts, result, timings = run.provenance(), run.result() or {}, run.metrics()
        times = (run.read_notes("card") or {}).get("milliseconds", {})
        student, teacher = facts.get("student_parameters"), facts.get("teacher_parameters")
        lines.append(
            {
                "Run": name,
                "Parameters": student,
                "Teacher's": teacher,
                "Times smaller": teacher / student if teacher and student else None,
                "File, MB": run.student_path.stat().st_size / 1e6 if run.student_path.is_file() else None,
                "Accuracy": 100 * result.get("test_accuracy", np.nan),
                "Teacher's accuracy": 100 * (facts.get("teacher_test_accuracy") or np.nan),
                "Epoch, s": timings["seconds"].mean() if len(timings) else None,
                "On influence": 100 * timings["overhead"].mean() if len(timings) else None,
                "Image, ms": times.get("student"),
                "Times faster": times["teacher"] / times["student"] if times else None,
            }
        )
    return pd.DataFrame(lines)


def names_of(runs: Sequence[Run], labels: Sequence[str]) -> dict[str, Run]:
    """Short names that stay the same: method, seed and the end of the id."""
    return {f"{label}, seed {run.config().seed} · {run.id[-4:]}": run for run, label in zip(runs, labels, strict=True)}
