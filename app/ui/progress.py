"""The demo's button and the live progress of runs, read from their status files."""

import sys
import time

import pandas as pd
import streamlit as st

from app.ui.look import METHOD_COLORS, NEUTRAL, duration, ink
from app.ui.store import runs_frame
from kdaif.jobs import Job, find_job, launch
from kdaif.runs import LIVE
from kdaif.runs.tables import rows

DEMO = "demo"
DEMO_COMMAND = [sys.executable, "-m", "kdaif", "demo", "--no-app"]
SECONDS = 1.0  # between two looks at the status files


def start_demo() -> None:
    launch(DEMO, DEMO_COMMAND)


def demo_button(label: str, primary: bool = True) -> None:
    st.button(
        label,
        icon=":material/play_arrow:",
        type="primary" if primary else "tertiary",
        on_click=start_demo,
        key="run_demo",
        help="Trains vanilla KD, KD-AIF and the oracle on scikit-learn's handwritten digits with 40 % wrong labels.",
    )


def something_lives() -> bool:
    """Whether a run or the demo is under way."""
    job = find_job(DEMO)
    return bool(runs_frame()["state"].isin(LIVE).any()) or (job is not None and job.alive())


def live_progress() -> None:
    """Bars of all live runs, renewed every second; the whole page is drawn again when a run starts or ends."""
    if something_lives():
        st.session_state["seen"] = _standing()
        st.fragment(_progress, run_every=SECONDS)()
    else:
        _demo_failure()


def _progress() -> None:
    if st.session_state["seen"] != _standing():
        st.rerun()
    runs = runs_frame()
    live = runs[runs["state"].isin(LIVE)]
    with st.container(border=True, key="live"):
        if live.empty:
            st.progress(0.0, text=f":shimmer[The demo is under way] · {_waited()}")
        for run in rows(live):
            share = min(run.epoch / run.epochs, 1.0) if run.epochs else 0.0
            left = f" · about {duration(run.eta_seconds)} left" if pd.notna(run.eta_seconds) else ""
            name = ink(f"**{run.label}**", METHOD_COLORS.get(run.method, NEUTRAL))
            stage = run.stage or run.state
            st.progress(share, text=f"{name}, seed {run.seed} · {stage} · epoch {run.epoch} of {run.epochs}{left}")


def _standing() -> tuple[bool, list[tuple[str, str]]]:
    """What must not change without the page being drawn anew: that something lives, and every run's state."""
    runs = runs_frame()
    return something_lives(), list(zip(runs["run_id"], runs["state"], strict=True))


def _waited() -> str:
    job = find_job(DEMO)
    return f"{duration(time.time() - job.started)} so far" if job else ""


def _demo_failure() -> None:
    """Say so where the demo ended and left no finished run."""
    job = find_job(DEMO)
    if job is None or _finished_since(job):
        return
    st.error("The demo ended without a result. Its last lines:", icon=":material/error:")
    st.code(job.log_tail() or "(it printed nothing)", language=None, wrap_lines=True)


def _finished_since(job: Job) -> bool:
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(job.started - 1))
    runs = runs_frame()
    return bool(((runs["run_id"] > stamp) & (runs["state"] == "done")).any())
