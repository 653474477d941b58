"""Experiments: plan a sweep, queue it, walk away; it runs to its end whatever happens to this page."""

from typing import Any

import pandas as pd
import streamlit as st

from app.ui.controls import csv_button, linked_choice
from app.ui.launcher import fill, launcher
from app.ui.look import GLOSSARY, percent, points
from app.ui.opening import opening
from app.ui.plan import sweep_values
from app.ui.queue_panel import queue_panel
from app.ui.sentences import experiments_sentence
from app.ui.store import runs_frame
from kdaif import jobs
from kdaif.estimate import estimate
from kdaif.jobs import SweepRecord
from kdaif.report import paired, summarise
from kdaif.runs import list_runs, open_run
from kdaif.runs.tables import METHODS, method_rank, rows

ALL = "all"


def sweep_choice() -> SweepRecord | None:
    """The sweep to look at; None: all runs."""
    sweeps = {sweep.id: sweep for sweep in jobs.list_sweeps()}
    if not sweeps:
        return None
    titles = {sweep.id: _title(sweep) for sweep in sweeps.values()} | {ALL: "All runs"}
    chosen = linked_choice(
        "Sweep", list(titles), next(iter(titles)), "sweep", titles, "Runs that were queued together."
    )
    return sweeps.get(chosen)


def _title(sweep: SweepRecord) -> str:
    names = ", ".join(METHODS.get(method, method) for method in sweep.methods)
    rates = ", ".join(percent(rate) for rate in sweep.noise)
    return f"{sweep.config['data']['source']} · {names} · {rates} · {len(sweep.runs)} runs · {sweep.id}"


def clone(sweep: SweepRecord) -> None:
    fill(sweep_values(sweep))


def seconds_left(frame: pd.DataFrame) -> float | None:
    """Of all runs that live, on one device; None where that is not known."""
    live = frame[frame["state"].isin(("queued", "running"))]
    waiting = [open_run(run_id).config() for run_id in live.loc[live["state"] == "queued", "run_id"]]
    found = estimate(waiting, list_runs())
    running = live.loc[live["state"] == "running", "eta_seconds"]
    return None if found.unknown or running.isna().any() else found.seconds + float(running.sum())


def summary(frame: pd.DataFrame) -> None:
    """Mean, spread and paired gain of what is done so far."""
    done = frame[(frame["state"] == "done") & frame["test_accuracy"].notna()]
    done = done.drop_duplicates(["label", "noise", "seed"])
    if done.empty:
        st.caption("It shows as soon as the first run is done.")
        return
    results: list[dict[str, Any]] = [row._asdict() for row in rows(done)]
    gains = {(line["method"], line["noise"]): line for line in paired(results)}
    planned = frame.groupby(["method", "noise"]).size()
    lines = []
    for line in sorted(summarise(results), key=lambda line: (line["noise"], method_rank(line["method"]))):
        gain = gains.get((line["method"], line["noise"]))
        gap = line["oracle_gap_recovered"] if line["method"] not in ("kd", "oracle") else None
        lines.append(
            {
                "Noise": percent(line["noise"]),
                "Method": METHODS.get(line["method"], line["method"]),
                "Done": f"{line['runs']} of {planned[line['method'], line['noise']]}",
                "Accuracy": _spread(line),
                "Over vanilla KD": _gain(gain),
                "Gap recovered": percent(gap),
            }
        )
    config = {
        "Accuracy": st.column_config.TextColumn(help="Test accuracy after the last epoch: mean ± standard deviation."),
        "Over vanilla KD": st.column_config.TextColumn(
            help="Points, paired by seed: the mean, and its 95 % bootstrap interval from three seeds on."
        ),
        "Gap recovered": st.column_config.TextColumn(help=GLOSSARY["Gap recovered"]),
    }
    st.dataframe(pd.DataFrame(lines), hide_index=True, column_config=config, key="summary", alt="The sweep so far")
    listed = done[["run_id", "epoch", "seed", "noise", "method", "test_accuracy", "flipped_auroc"]]
    meaning = "Every done run with its epoch and seed."
    csv_button("Download", lambda: listed.to_csv(index=False), "sweep", "download_sweep", meaning)


def _spread(line: dict[str, Any]) -> str:
    spread = "" if line["std"] is None else f" ± {100 * line['std']:.1f}"
    return f"{percent(line['mean'], 1)}{spread}"


def _gain(gain: dict[str, Any] | None) -> str:
    if gain is None:
        return "–"
    interval = "" if gain["low"] is None else f" [{points(gain['low'])}, {points(gain['high'])}]"
    return f"{points(gain['difference'])}{interval}"


frame = runs_frame()
head = st.container()
left, right = st.columns([9, 11], gap="medium")
with left:
    launcher()
with right:
    sweep = sweep_choice()
    chosen = frame if sweep is None else frame[frame["run_id"].isin(sweep.runs)]
    queue_panel(None if sweep is None else list(sweep.runs))
    if sweep is not None:
        st.button(
            "Clone and edit the sweep",
            key="clone_sweep",
            icon=":material/content_copy:",
            type="tertiary",
            on_click=clone,
            args=(sweep,),
            help="Fills the form with this sweep's settings.",
        )
        st.subheader("So far" if chosen["state"].isin(("queued", "running")).any() else "Summary", anchor=False)
        summary(chosen)
with head:
    opening(experiments_sentence(chosen, seconds_left(chosen)))
