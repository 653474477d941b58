"""What can be done with all selected samples at once: download, mark, save under a name."""

from functools import partial

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.act import mark
from app.ui.filters import slice_names
from app.ui.selection import exported, to_bytes
from app.ui.sorting import judged
from app.ui.store import marks_of
from kdaif.runs import Run
from kdaif.runs.slices import MARKED, delete_slice, write_slice

FEW = 100  # of the most harmful, the list most often asked for
MIME = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}


def take(rows: np.ndarray, table: pd.DataFrame, run: Run, epoch: int) -> None:
    """A popover on the selected rows."""
    with st.popover(f"Export {len(rows):,}", icon=":material/download:", help="Download, mark or save the selection."):
        _download(rows, table, run, epoch)
        st.divider()
        _mark(rows, table, run)
        st.divider()
        _save(rows, run)


def _download(rows: np.ndarray, table: pd.DataFrame, run: Run, epoch: int) -> None:
    marks = marks_of(run)
    ranks = table["rank"].to_numpy()[rows]
    parts = {f"All {len(rows):,} selected": rows}
    if len(rows) > FEW:
        by_influence = "most harmful" if judged(table) else "of lowest influence"
        what = by_influence if table["influence"].notna().any() else "of highest loss"  # what the rank is made from
        parts = {f"{FEW} {what}": rows[np.argsort(ranks)[:FEW]], **parts}
    if len(marks):
        parts[f"{len(marks):,} marked"] = marks["row"].to_numpy()
    kind = st.segmented_control("File", list(MIME), default="csv", required=True, key="file_kind", width="content")

    def content(part: np.ndarray) -> bytes:
        return to_bytes(exported(table.iloc[part], marks, run.id, epoch, run.config().seed), kind)

    for place, (name, part) in enumerate(parts.items()):
        st.download_button(
            name,
            partial(content, part),
            f"{run.id}-epoch{epoch}-{name.split()[-1]}.{kind}",
            MIME[kind],
            key=f"export {place}",
            icon=":material/download:",
            on_click="ignore",
            disabled=not len(part),
            type="primary" if place == 0 else "secondary",
            help="Columns as cleanlab names them, with run, epoch and seed in every row.",
        )


def _mark(rows: np.ndarray, table: pd.DataFrame, run: Run) -> None:
    said = table["suggested"].to_numpy()[rows]
    disputed = np.asarray(said != "", bool)
    with st.container(horizontal=True, gap="small"):
        st.button(
            f"Mark {len(rows):,} to leave out",
            key="mark_all",
            disabled=not len(rows),
            on_click=lambda: _marked(run, rows, [""] * len(rows)),
            help="The mark set is kept with the run; the sample's room Act retrains with it.",
        )
        st.button(
            f"Relabel {disputed.sum():,} as the teacher says",
            key="relabel_all",
            disabled=not disputed.any(),
            on_click=lambda: _marked(run, rows[disputed], list(said[disputed])),
            help="Marks those selected samples that the teacher takes for another class.",
        )


def _marked(run: Run, rows: np.ndarray, labels: list[str]) -> None:
    replaced = mark(run, rows, labels)
    st.toast(
        f"{len(rows):,} marked{f', {replaced:,} other marks replaced' if replaced else ''}.", icon=":material/bookmark:"
    )


def _save(rows: np.ndarray, run: Run) -> None:
    def save() -> None:
        name = st.session_state["slice_name"].strip()
        if name and name != MARKED:
            write_slice(run, name, np.sort(rows))
            st.toast(f"{len(rows):,} saved as {name}.", icon=":material/bookmark:")
            st.session_state["slice_name"] = ""

    with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
        st.text_input(
            "Save as slice",
            key="slice_name",
            max_chars=60,
            placeholder="a name",
            width=170,
            help="A slice is a set of samples kept with the run; it stands under Show, on every page.",
        )
        st.button(f"Save {len(rows):,}", key="save_slice", on_click=save, disabled=not len(rows))
    if names := slice_names(run):
        with st.container(horizontal=True, gap="small", vertical_alignment="bottom"):
            doomed = st.selectbox("Saved slices", names, key="saved_slices", width=170)
            st.button("Delete", key="delete_slice", type="tertiary", on_click=lambda: delete_slice(run, doomed))
