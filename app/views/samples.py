"""Samples: which training samples harm the student, which help it; look, select, export."""

import pandas as pd
import streamlit as st

from app.ui.controls import (
    class_choice,
    csv_button,
    epoch_choice,
    keep_valid,
    range_choice,
    run_choice,
    runs_with_epochs,
    sample_choice,
    show_choice,
)
from app.ui.detail import detail
from app.ui.figures import CONFIG, histogram_figure
from app.ui.gallery import gallery
from app.ui.opening import nothing_yet, opening
from app.ui.raters import raters
from app.ui.selection import Selection, brushed_range, gallery_groups, page_count, to_csv
from app.ui.sentences import samples_sentence
from app.ui.store import samples_of
from kdaif.runs import Run
from kdaif.runs.tables import verdict_counts


def pick(row: int) -> None:
    st.session_state["sample"] = row


def brush() -> None:
    """A box drawn in the histogram becomes the numbers beside it, and so part of the URL."""
    ends = brushed_range(st.session_state["histogram"])
    if ends is not None:  # nothing drawn: the figure was redrawn, or a click beside the bars
        st.session_state["from"], st.session_state["to"] = ends


def spread(table: pd.DataFrame, given: str, show: str) -> Selection:
    """The histogram whose brush selects; returns the selection."""
    selection = range_choice(table, given, show)
    counted = selection.filtered(table)
    if counted.empty:
        st.caption("No sample passes the filters above.")
        return selection
    values, verdicts = counted[selection.field].to_numpy(), counted["verdict"].to_numpy()
    st.plotly_chart(
        histogram_figure(values, verdicts, selection.field, selection.range),
        key="histogram",
        on_select=brush,
        selection_mode="box",
        config=CONFIG,
        alt=f"Histogram of the {selection.field} of {len(counted):,} samples; draw a box to select, or give its ends above",
    )
    return selection


def page_choice(selected: pd.DataFrame) -> int:
    pages = page_count(len(selected))
    keep_valid("page", range(1, pages + 1))
    return st.pagination(pages, key="page", max_visible_pages=5)


def export(selected: pd.DataFrame, run: Run, epoch: int) -> None:
    csv_button(
        f"Export {len(selected):,} samples",
        lambda: to_csv(selected, run.id, epoch, run.config().seed),
        f"{run.id}-epoch{epoch}-samples",
        "export",
        "The selection as csv, with run, epoch and seed beside every figure.",
        selected.empty,
    )


if runs_with_epochs().empty:
    nothing_yet("No run has recorded an epoch yet, so there are no samples to judge.")
head = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    run = run_choice()
    epoch = epoch_choice(run)
    table = samples_of(run, epoch)
    given = class_choice(run.classes())
    show = show_choice(bool(table["flipped"].notna().any()))
with head:
    opening(samples_sentence(verdict_counts(table), run.config().method))

left, right = st.columns([1.5, 1], gap="medium")
with right:
    selection = spread(table, given, show)
    selected = selection.apply(table)
    panel = st.container()
inputs = run.inputs()
with left:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        page = page_choice(selected)
        sample = sample_choice(len(table))
        export(selected, run, epoch)
    if selected.empty:
        st.info("No sample is selected: widen the filters or clear the range.", icon=":material/filter_alt_off:")
    else:
        gallery(gallery_groups(selected, page), inputs, sample, "gallery", pick)
if sample is None and len(selected):
    sample = int(selected.index[0])
if sample is not None:
    with panel:
        detail(run, table, sample, selection.field, epoch, inputs)
raters(table)
