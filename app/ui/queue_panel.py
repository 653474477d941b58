"""The queue: what runs, how long it still takes, what can be done with each run; renewed every second while something lives."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from app.ui.launcher import fill
from app.ui.look import METHOD_COLORS, NEUTRAL, STATE_WORDS, duration, ink, percent
from app.ui.plan import form_values
from app.ui.store import runs_frame
from kdaif import jobs
from kdaif.config import UserError
from kdaif.jobs import tickets, worker
from kdaif.runs import LIVE, Run, open_run
from kdaif.runs.tables import rows

SECONDS = 1.0  # between two looks
ROWS = 40  # runs on show
SILENT = 15.0  # seconds without a sign of life before the page says so
ORDER = ("running", "queued", "interrupted", "failed", "cancelled", "done")


def queue_panel(ids: list[str] | None) -> None:
    """The runs of these ids (None: all), those that live first."""
    # without it the hidden words of the rows' icons stand outside the scrolled box and lengthen the page
    st.html("<style>.st-key-queue_rows { position: relative; }</style>")
    st.session_state["queue ids"] = ids
    st.session_state["queue seen"] = _standing(_chosen(runs_frame()))
    alive = bool(_chosen(runs_frame())["state"].isin(LIVE).any()) or bool(tickets.tickets())
    st.fragment(_panel, run_every=SECONDS if alive else None)()


def _panel() -> None:
    _care()
    frame = _chosen(runs_frame())
    if _standing(frame) != st.session_state["queue seen"] or st.session_state.pop("redraw", False):
        st.rerun()
    waiting = frame["state"] == "queued"
    in_turn = pd.concat([frame[waiting].iloc[::-1], frame[~waiting]])  # what waits: the next one first
    ordered = in_turn.assign(order=in_turn["state"].map(ORDER.index)).sort_values("order", kind="stable")
    with st.container(
        height=min(53 * len(ordered) + 20, 330) if len(ordered) else "content", border=True, key="queue_rows"
    ):
        if ordered.empty:
            st.caption("No run yet.")
        for run in rows(ordered.head(ROWS)):
            _row(run)
    if log := st.session_state.get("log of"):
        _log(log)


def _care() -> None:
    """Start a worker where runs wait for one, and see cancelled runs to their end."""
    if tickets.tickets():
        worker.ensure_worker()
    for line in rows(runs_frame().query("state == 'running'")):
        run = open_run(line.run_id)
        if run.cancel_asked:
            _say_why_not(jobs.cancel, run)


def _row(line: Any) -> None:
    run_id = line.run_id
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small", key=f"row-{run_id}"):
        share = min(line.epoch / line.epochs, 1.0) if line.epochs else 0.0
        st.progress(share, text=_words(line), width="stretch")
        if line.state in LIVE:
            _button(
                "Cancel", ":material/stop:", f"cancel-{run_id}", _cancel, run_id, "Stops it; what it recorded stays."
            )
        elif line.state != "done":
            meaning = "Queues it: it goes on from its last checkpoint."
            _button("Resume", ":material/resume:", f"resume-{run_id}", _resume, run_id, meaning)
        with st.popover("", icon=":material/more_horiz:", type="tertiary", key=f"more-{run_id}"):
            st.caption(f"{run_id} · {line.setting}")
            _button(
                "Show log", ":material/article:", f"log-{run_id}", _show_log, run_id, "Its last lines, as they come."
            )
            meaning = "Fills the form with this run's settings."
            if _button("Clone and edit", ":material/content_copy:", f"clone-{run_id}", _clone, run_id, meaning):
                st.rerun()
            st.caption("Delete: the run moves to the folder `trash` beside the runs, from where it can be moved back.")
            meaning = (
                "A run that is in training must be cancelled first."
                if line.state == "running"
                else "Nothing is erased."
            )
            _button(
                "Move to trash",
                ":material/delete:",
                f"trash-{run_id}",
                _trash,
                run_id,
                meaning,
                line.state == "running",
            )


def _words(line: Any) -> str:
    name = (
        f"{ink(f'**{line.label}**', METHOD_COLORS.get(line.method, NEUTRAL))}, {percent(line.noise)}, seed {line.seed}"
    )
    if line.state == "done":
        return f"{name} · {STATE_WORDS['done']} · {percent(line.test_accuracy, 1)}"
    if line.state != "running":
        return f"{name} · {STATE_WORDS[line.state]}" + (f" · {line.message}" if line.state == "failed" else "")
    silent = open_run(line.run_id).status().silent_seconds
    if silent > SILENT:
        return f"{name} · no sign of life for {duration(silent)}"
    left = f" · about {duration(line.eta_seconds)} left" if pd.notna(line.eta_seconds) else ""
    return f"{name} · {line.stage or 'starting'} · epoch {line.epoch} of {line.epochs}{left}"


def _button(
    label: str, icon: str, key: str, act: Callable[[str], None], run_id: str, meaning: str, disabled: bool = False
) -> bool:
    return st.button(
        label, icon=icon, key=key, on_click=act, args=(run_id,), help=meaning, type="tertiary", disabled=disabled
    )


def _cancel(run_id: str) -> None:
    _say_why_not(jobs.cancel, open_run(run_id))


def _resume(run_id: str) -> None:
    _say_why_not(jobs.resume, open_run(run_id))


def _trash(run_id: str) -> None:
    _say_why_not(jobs.move_to_trash, open_run(run_id))


def _show_log(run_id: str) -> None:
    st.session_state["log of"] = run_id


def _clone(run_id: str) -> None:
    run = open_run(run_id)
    fill(form_values(run.config(), run.provenance().get("data_root")))
    st.session_state["redraw"] = True


def _say_why_not(act: Callable[[Run], None], run: Run) -> None:
    try:
        act(run)
    except UserError as error:
        st.toast(str(error), icon=":material/error:")


def _log(run_id: str) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"Log of {run_id}")
        st.button("Close", key="close_log", type="tertiary", on_click=lambda: st.session_state.pop("log of", None))
    try:
        path = open_run(run_id).log_path
        lines = path.read_text(errors="replace").splitlines()[-30:] if path.exists() else []
    except UserError as error:
        lines = [str(error)]
    st.code("\n".join(lines) or "(it has printed nothing yet)", language=None, wrap_lines=True)


def _chosen(frame: pd.DataFrame) -> pd.DataFrame:
    ids = st.session_state["queue ids"]
    return frame if ids is None else frame[frame["run_id"].isin(ids)]


def _standing(frame: pd.DataFrame) -> list[tuple[str, str]]:
    """What must not change without the page being drawn anew."""
    return list(zip(frame["run_id"], frame["state"], strict=True))
