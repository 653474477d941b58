"""Samples: which training samples harm the student, which help it; look, select, export."""

import pandas as pd
import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from app.ui.controls import epoch_choice, keep_valid, remember, run_choice, runs_with_epochs, sample_choice
from app.ui.detail import detail
from app.ui.figures import CONFIG, histogram_figure
from app.ui.filters import filter_choice, order_choice, with_range, words_choice
from app.ui.gallery import gallery
from app.ui.opening import nothing_yet, opening
from app.ui.raters import raters
from app.ui.selection import Selection, brushed_range, gallery_groups, page_count
from app.ui.sentences import samples_sentence
from app.ui.sorting import ends, judged, order_of
from app.ui.store import samples_of
from app.ui.take import take
from kdaif.runs.tables import verdict_counts

PAINTED = "painted sentences"  # in the session: run, row -> spans of what was explained


def pick(row: int) -> None:
    st.session_state["sample"] = row


def brush() -> None:
    """A box drawn in the histogram becomes the numbers beside it, and so part of the URL."""
    ends = brushed_range(st.session_state["histogram"])
    if ends is not None:  # nothing drawn: the figure was redrawn, or a click beside the bars
        st.session_state["from"], st.session_state["to"] = ends


def spread(selection: Selection, table: pd.DataFrame) -> None:
    """The histogram whose brush selects."""
    counted = selection.kept(table)
    if not counted.any():
        st.caption("No sample passes the filters above.")
        return
    values, verdicts = table[selection.field].to_numpy()[counted], table["verdict"].to_numpy()[counted]
    st.plotly_chart(
        histogram_figure(values, verdicts, selection.field, selection.range),
        key="histogram",
        on_select=brush,
        selection_mode="box",
        config=CONFIG,
        alt=f"Histogram of the {selection.field} of {len(values):,} samples; draw a box to select, or give its ends above",
    )


def page_choice(place: DeltaGenerator, selected: int) -> int:
    pages = page_count(selected)
    keep_valid("page", range(1, pages + 1))
    page = place.pagination(pages, key="page", bind="query-params", max_visible_pages=3)
    remember("page", page if page > 1 else None)
    return page


if runs_with_epochs().empty:
    nothing_yet("No run has recorded an epoch yet, so there are no samples to judge.")
head = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    run = run_choice(255)
    epoch = epoch_choice(run)
    table = samples_of(run, epoch)
    narrowed = filter_choice(run, table)
    order = order_choice(table)
with head:
    opening(samples_sentence(verdict_counts(table), run.config().method))

left, right = st.columns([1.5, 1], gap="medium")
with left, st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    pages = st.container(width="content")
    sample = sample_choice(len(table))
    words = words_choice()
    tools = st.container(width="content")
with right:
    selection = with_range(narrowed, table, words)
    rows = selection.rows(table, order_of(run, table, order))
    spread(selection, table)
    panel = st.container()
inputs = run.inputs()
with tools:
    take(rows, table, run, epoch)
page = page_choice(pages, len(rows))
painted = st.session_state.get(PAINTED, (None, {}))
with left:
    if not len(rows):
        st.info("No sample is selected: widen the filters or clear the range.", icon=":material/filter_alt_off:")
    else:
        groups = gallery_groups(rows, page, *ends(order, table["influence"].to_numpy()[rows], judged(table)))
        shown = {title: table.iloc[of] for title, of in groups.items()}
        gallery(shown, inputs, sample, "gallery", pick, painted=painted[1] if painted[0] == run.id else None)
if sample is None and len(rows):
    sample = int(rows[0])
if sample is not None:
    with panel:
        spans = detail(run, table, sample, epoch, inputs, pick)
    if (fresh := (run.id, {sample: spans} if spans else {})) != painted:
        st.session_state[PAINTED] = fresh
        if spans or painted[1]:
            st.rerun()  # the list shows the words' colours too
raters(table)
