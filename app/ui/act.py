"""Acting on samples: what to do with the primary one, the marks so far, retraining with them, and what that has changed."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.look import GLOSSARY, STATE_WORDS, points
from app.ui.neighbours import measured, relations_of
from app.ui.store import marks_of
from app.ui.waiting import waiting_bar
from kdaif.config import UserError
from kdaif.foretell import foretell
from kdaif.retrain import check_edits, retrain, retrainings
from kdaif.runs import LIVE, Run
from kdaif.runs.slices import MARKED, write_slice

KEEP, LEAVE = "Keep as it is", "Leave it out"
FORETELLING = "Foretelling the change"
SECONDS = 2.0  # between two looks at runs under way


def act(run: Run, table: pd.DataFrame, row: int) -> None:
    """The decision about one sample, and below it what has been decided of all."""
    _decision(run, table, row)
    marks = marks_of(run)
    leave = int((marks["label"] == "").sum())
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        st.markdown(
            f"**{len(marks):,} marked**: {leave:,} to leave out, {len(marks) - leave:,} to relabel", width="content"
        )
        st.button(
            "Retrain",
            icon=":material/replay:",
            key="retrain",
            disabled=marks.empty,
            on_click=lambda: st.session_state.update(retraining=True),
            help="Queues a new run of this run's settings with the marks. Nothing is overwritten; the source stays as it is.",
        )
        with st.popover(
            "Clear", type="tertiary", disabled=marks.empty, help="Forget the marks, once you have said so."
        ):
            st.button(
                f"Forget {len(marks):,} marks for good",
                key="clear_marks",
                on_click=lambda: write_slice(run, MARKED, []),
            )
    if st.session_state.pop("retraining", False):
        _start(run, marks)
    lines = retrainings(run)
    live = any(line["state"] in LIVE for line in lines)
    st.fragment(_outcomes, run_every=SECONDS if live else None)(run)


def mark(run: Run, rows: Sequence[int] | np.ndarray, labels: Sequence[str]) -> int:
    """Add marks, in place of older ones on the same samples; returns how many of those said something else."""
    added, old = pd.DataFrame({"row": rows, "label": labels}), marks_of(run)
    kept = pd.concat([old, added]).drop_duplicates("row", keep="last").sort_values("row")
    write_slice(run, MARKED, kept["row"].to_numpy(), list(kept["label"]))
    both = old.merge(added, on="row")
    return int((both["label_x"] != both["label_y"]).sum())


def unmark(run: Run, rows: list[int]) -> None:
    """Take marks back."""
    marks = marks_of(run)
    kept = marks[~marks["row"].isin(rows)]
    write_slice(run, MARKED, kept["row"].to_numpy(), list(kept["label"]))


def _decision(run: Run, table: pd.DataFrame, row: int) -> None:
    """One select: keep, leave out, or a class by name, the teacher's first."""
    sample, marks = table.iloc[row], marks_of(run).set_index("row")["label"]
    suggested = sample["suggested"]
    known = () if run.numbers else run.classes()
    classes = [name for name in known if name not in (suggested, sample["given"])]
    options = [KEEP, LEAVE, *([suggested] if suggested else []), *classes]
    current = KEEP if row not in marks.index else marks[row] or LEAVE
    key = f"decision on {run.id} {row}"

    def decided() -> None:
        chosen = st.session_state[key]
        if chosen == KEEP:
            unmark(run, [row])
        else:
            mark(run, [row], ["" if chosen == LEAVE else chosen])

    st.selectbox(
        "What to do with this sample",
        options,
        index=options.index(current) if current in options else 0,
        format_func=lambda name: (
            name
            if name in (KEEP, LEAVE)
            else f"Relabel as {name}" + (", as the teacher says" if name == suggested else "")
        ),
        key=key,
        on_change=decided,
        label_visibility="collapsed",
    )


def _start(run: Run, marks: pd.DataFrame) -> None:
    """Foretell, and queue."""
    try:
        check_edits(run, marks)
    except UserError as error:
        st.error(str(error), icon=":material/error:")
        return
    predicted = None
    if not run.numbers:  # what is foretold is a share of classes
        relations = relations_of(run)
        relations = measured(run) if relations is None else relations
        say, end = waiting_bar(FORETELLING)
        predicted = foretell(run, relations, marks, lambda share: say(share, FORETELLING))
        end()
    started = retrain(run, marks, predicted)
    st.toast(f"Queued as {started.id}.", icon=":material/schedule:")


def _outcomes(run: Run) -> None:
    """Every retraining with its foretold and its verified change."""
    lines = retrainings(run)
    if not lines:
        st.caption(f"Foretold before, verified after: the change of test accuracy stands here. {GLOSSARY['Foretold']}")
        return
    shown = pd.DataFrame(
        {
            "State": [STATE_WORDS.get(line["state"], line["state"]) for line in lines],
            "Left out": [line["left_out"] for line in lines],
            "Relabelled": [line["relabelled"] for line in lines],
            "Foretold": [_change(line["predicted"]) for line in lines],
            "Verified": [_change(line["verified"]) for line in lines],
            "Run": [line["run_id"] for line in lines],
        }
    )
    if any(line["message"] for line in lines):
        shown["Why"] = [line["message"] for line in lines]
    help_ = {
        "Foretold": st.column_config.TextColumn(help=f"Points of accuracy. {GLOSSARY['Foretold']}"),
        "Verified": st.column_config.TextColumn(
            help="Points of test accuracy, new run less this one; one seed, so a point or less may be chance."
        ),
    }
    height = min(36 * len(shown) + 38, 150)
    st.dataframe(shown, hide_index=True, column_config=help_, height=height, alt="Retrainings, newest first")


def _change(share: float | None) -> str:
    return "–" if share is None else points(share)
