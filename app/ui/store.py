"""What the pages read from runs, cached by the files' own time stamps, so that a live run is never shown stale."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from kdaif.metrics.detection import auroc, detection_curve
from kdaif.metrics.dynamics import Heat, Moments, heat, moments
from kdaif.report import agreement, detectors, shared_scores, summarise
from kdaif.runs import Run, list_runs, open_run
from kdaif.runs.slices import MARKED, read_slice
from kdaif.runs.tables import method_rank, named_samples, rows, run_table, sample_table

CROWD = 1000  # samples that stand for all of their class behind one sample's course


def runs_frame() -> pd.DataFrame:
    """All sound runs, newest first; read anew on every rerun, a tenth of a millisecond a run."""
    return run_table(list_runs())


def samples_of(run: Run, epoch: int) -> pd.DataFrame:
    """The sample table of an epoch; shared between sessions, so never change it."""
    stamp = (run.path / "epochs" / f"epoch={epoch:05d}.parquet").stat().st_mtime_ns
    return _samples(str(run.path), epoch, stamp)


@st.cache_resource(max_entries=24, show_spinner="Reading the run …")
def _samples(path: str, epoch: int, stamp: int) -> pd.DataFrame:
    run = open_run(path)
    return sample_table(run, epoch, _known(path, (run.path / "samples.parquet").stat().st_mtime_ns))


@st.cache_resource(max_entries=8, show_spinner=False)
def _known(path: str, stamp: int) -> pd.DataFrame:
    return named_samples(open_run(path))


def courses_of(run: Run, fields: Sequence[str], row: int) -> tuple[list[int], dict[str, np.ndarray]]:
    """Recorded epochs, and of each field that the run measured the sample's values and those of a random crowd of its
    class: (epochs, 1 + crowd)."""
    epochs = run.epochs()
    given = samples_of(run, epochs[-1])["label"].to_numpy()
    crowd = np.random.default_rng(0).permutation(np.flatnonzero(given == given[row]))[:CROWD]
    courses = {field: run.trajectories(field, np.append(row, crowd))[: len(epochs)] for field in fields}
    return epochs, {field: values for field, values in courses.items() if np.isfinite(values).any()}


def marks_of(run: Run) -> pd.DataFrame:
    """What people decided to do with samples: columns row, label ("": leave out)."""
    return read_slice(run, MARKED)


def values_of(run: Run, field: str, rows: np.ndarray | None = None) -> np.ndarray:
    """A field of some samples (None: of all) over all recorded epochs: float32 (epochs, rows).

    The field `confidence` is the probability of the given label, which is e^(-loss): the loss is its cross-entropy.
    """
    if field == "confidence":
        return np.exp(-run.trajectories("loss", rows))
    return run.trajectories(field, rows)


def course_of(run: Run, field: str) -> tuple[Moments, Heat]:
    """Mean and variability of every sample over the epochs, and the spread at each epoch; shared, never change it."""
    epochs = run.epochs()
    return _course(str(run.path), field, len(epochs), _stamp(run))


@st.cache_resource(max_entries=12, show_spinner="Reading all epochs …")
def _course(path: str, field: str, epochs: int, stamp: int) -> tuple[Moments, Heat]:
    values = values_of(open_run(path), field)
    return moments(values), heat(values)


def detection_of(run: Run) -> tuple[pd.DataFrame, dict[str, float], float] | None:
    """Detection curves (detector, inspected, found), AUROC by detector, and the share of wrong labels; None if unknown."""
    return _detection(str(run.path), len(run.epochs()), _stamp(run))


@st.cache_resource(max_entries=12, show_spinner="Counting the wrong labels found …")
def _detection(path: str, epochs: int, stamp: int) -> tuple[pd.DataFrame, dict[str, float], float] | None:
    run = open_run(path)
    flipped = _known(path, (run.path / "samples.parquet").stat().st_mtime_ns)["flipped"]
    if flipped.isna().any() or not flipped.any():
        return None
    known = flipped.to_numpy(bool)
    scores = detectors(run)
    curves = [pd.DataFrame(detection_curve(s, known)._asdict()).assign(detector=name) for name, s in scores.items()]
    areas = {name: auroc(score, known) for name, score in scores.items()}
    return pd.concat(curves, ignore_index=True), areas, float(known.mean())


def shared_of(first: Run, second: Run) -> pd.DataFrame:
    """`report.shared_scores` of two runs."""
    return _shared(str(first.path), str(second.path), _stamp(first), _stamp(second))


@st.cache_resource(max_entries=24, show_spinner="Comparing the rankings …")
def _shared(first: str, second: str, stamp: int, other_stamp: int) -> pd.DataFrame:
    return shared_scores(open_run(first), open_run(second))


def agreement_of(first: Run, second: Run, k: int) -> dict[str, Any]:
    """`report.agreement` of two runs."""
    return _agreement(str(first.path), str(second.path), k, _stamp(first), _stamp(second))


@st.cache_resource(max_entries=64, show_spinner="Comparing the rankings …")
def _agreement(first: str, second: str, k: int, stamp: int, other_stamp: int) -> dict[str, Any]:
    return agreement(_shared(first, second, stamp, other_stamp), k)


def noise_table(runs: pd.DataFrame) -> pd.DataFrame:
    """`report.summarise` of rows of `run_table`, with variants of KD-AIF apart: label, method, noise, runs, mean, ..."""
    columns = ["label", "method", "noise", "runs", "mean", "std", "oracle_gap_recovered"]
    if runs.empty:
        return pd.DataFrame(columns=columns)
    names = runs["method"].where(runs["method"] != "kd-aif", runs["label"])
    lines = pd.DataFrame(summarise([row._asdict() for row in rows(runs.assign(method=names))]))
    known = runs.assign(name=names).drop_duplicates("name").set_index("name")
    lines["label"] = lines["method"].map(known["label"])
    lines["method"] = lines["method"].map(known["method"])
    lines.loc[lines["method"].isin(["kd", "oracle"]), "oracle_gap_recovered"] = None
    order = lines["method"].map(method_rank)
    return lines.assign(order=order).sort_values(["noise", "order", "label"])[columns].reset_index(drop=True)


def _stamp(run: Run) -> int:
    """Changes when the newest epoch does."""
    epochs = run.epochs()
    return (run.path / "epochs" / f"epoch={epochs[-1]:05d}.parquet").stat().st_mtime_ns if epochs else 0


def curves_of(runs: pd.DataFrame) -> pd.DataFrame:
    """Metrics of all the runs, one row a run and epoch, with label, method and seed."""
    frames = [
        open_run(row.run_id).metrics().assign(run_id=row.run_id, label=row.label, method=row.method, seed=row.seed)
        for row in rows(runs)
    ]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["run_id", "label"])
