"""What narrows the samples, on every page that shows them: a class, a confusion pair, a verdict or a saved slice, words."""

from dataclasses import replace

import pandas as pd
import streamlit as st

from app.ui.controls import end_choice, field_choice, keep_valid, open_range, remember, warn_of_link
from app.ui.selection import ALL_CLASSES, SLICE, Selection, shows
from app.ui.sorting import ORDERS, offered
from kdaif.runs import Run
from kdaif.runs.slices import MARKED, list_slices, read_slice


def filter_choice(run: Run, table: pd.DataFrame) -> Selection:
    """The filters in a row; the range comes with `with_range`."""
    classes = [ALL_CLASSES, *(() if run.numbers else run.classes())]
    given = _choice("Given label", classes, "class", 128, "Only samples with this given label.")
    rather = _choice(
        "Teacher says", classes, "rather", 128, "Only samples that the teacher takes for this class: a confusion pair."
    )
    show = _choice(
        "Show",
        shows(table, list_slices(run)),
        "show",
        165,
        "Where the wrong labels are known, also what KD-AIF missed and where it was wrong; marked samples and saved slices.",
    )
    members = read_slice(run, show.removeprefix(SLICE))["row"].to_numpy() if show.startswith(SLICE) else None
    return Selection(given, show, rather=rather, members=members)


def words_choice() -> str:
    """Words to be found in a sample's id or reference."""
    words = st.text_input(
        "Search",
        key="words",
        bind="query-params",
        placeholder="search …",
        label_visibility="collapsed",
        width=110,
        icon=":material/search:",
    )
    remember("words", words or None)
    return words or ""


def with_range(selection: Selection, table: pd.DataFrame, words: str = "") -> Selection:
    """The field and the ends of its range, in a row, and with them the whole selection."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", width="content"):
        field = field_choice(table)
        low, high = end_choice("from"), end_choice("to")
        found = replace(selection, field=field, low=low, high=high, words=words)
        st.button("Clear", on_click=open_range, type="tertiary", key="clear", disabled=found.range is None)
    return found


def order_choice(table: pd.DataFrame) -> str:
    """In which order the samples stand."""
    meaning = "; ".join(f"{name}: {ORDERS[name].meaning}" for name in offered(table))
    return _choice("Sort by", offered(table), "sort", 150, f"{meaning}.")


def slice_names(run: Run) -> list[str]:
    """The saved slices, without the marks."""
    return [name for name in list_slices(run) if name != MARKED]


def _choice(label: str, options: list[str], key: str, width: int, meaning: str) -> str:
    warn_of_link(label, key, options.__contains__, f"{options[0]!r} is shown")
    keep_valid(key, options)
    chosen = st.selectbox(label, options, key=key, bind="query-params", width=width, help=meaning)
    remember(key, None if chosen == options[0] else chosen)
    return chosen
