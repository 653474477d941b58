"""Samples: which training samples harm the student, which help it; look, select, export."""

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.controls import class_choice, epoch_choice, run_choice, show_choice
from app.ui.detail import detail
from app.ui.figures import CONFIG, histogram_figure
from app.ui.gallery import gallery
from app.ui.opening import opening
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


def clear() -> None:
    st.session_state["from"] = st.session_state["to"] = None


def field_choice(table: pd.DataFrame) -> str:
    measured = [field for field in ("weight", "influence") if table[field].notna().any()]
    return st.segmented_control(
        "Histogram of",
        measured,
        default=measured[0],
        required=True,
        key="field",
        bind="query-params",
        format_func=str.capitalize,
        label_visibility="collapsed",
    )


def spread(table: pd.DataFrame, given: str, show: str) -> Selection:
    """The histogram whose brush selects; returns the selection."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
        field = field_choice(table)
        place = st.container(width=96), st.container(width=96)
        ends = [
            place[index].number_input(
                key,
                value=None,
                step=0.1,
                format="%.2f",
                key=key,
                bind="query-params",
                label_visibility="collapsed",
                placeholder=f"{key} …",
            )
            for index, key in enumerate(("from", "to"))
        ]
        selection = Selection(given, show, field, *ends)
        st.button("Clear", on_click=clear, type="tertiary", disabled=selection.range is None)
    counted = selection.filtered(table)
    if counted.empty:
        st.caption("No sample passes the filters above.")
        return selection
    figure = histogram_figure(counted[field].to_numpy(), counted["verdict"].to_numpy(), field, selection.range)
    st.plotly_chart(
        figure,
        key="histogram",
        on_select=brush,
        selection_mode="box",
        config=CONFIG,
        alt=f"Histogram of the {field} of {len(counted)} samples; draw a box to select",
    )
    return selection


def export(selected: pd.DataFrame, run: Run, epoch: int) -> None:
    st.download_button(
        f"Export {len(selected):,} samples",
        lambda: to_csv(selected, run.id, epoch, run.config().seed),
        f"{run.id}-epoch{epoch}-samples.csv",
        "text/csv",
        icon=":material/download:",
        on_click="ignore",
        disabled=selected.empty,
        help="The selection as csv, with run, epoch and seed beside every figure.",
    )


head = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    run = run_choice()
    epoch = epoch_choice(run)
    table = samples_of(run, epoch)
    given = class_choice(run.classes())
    show = show_choice(bool(table["flipped"].notna().any()))
with head:
    weighted = bool(np.nanstd(table["weight"]) > 0)
    opening(samples_sentence(verdict_counts(table), weighted))

left, right = st.columns([1.5, 1], gap="medium")
with right:
    selection = spread(table, given, show)
    selected = selection.apply(table)
    panel = st.container()
inputs = run.inputs()
sample = st.session_state.get("sample")
with left:
    if selected.empty:
        st.info("No sample is selected: widen the filters or clear the range.", icon=":material/filter_alt_off:")
    else:
        toolbar = st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute")
        with toolbar:
            pages = page_count(len(selected))
            keep = st.session_state.get("page", 1)
            if keep > pages:
                st.session_state["page"] = pages
            page = st.pagination(pages, key="page", max_visible_pages=5)
            sample = st.number_input(
                "Sample",
                0,
                len(table) - 1,
                None,
                1,
                key="sample",
                bind="query-params",
                placeholder="sample no.",
                label_visibility="collapsed",
                width=150,
            )
            export(selected, run, epoch)
        gallery(gallery_groups(selected, page), inputs, sample, "gallery", pick)
with panel:
    if sample is None and len(selected):
        sample = int(selected.index[0])
    if sample is not None:
        detail(run, table, sample, selection.field, epoch, inputs)
