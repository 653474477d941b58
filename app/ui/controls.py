"""The bar at the top of a page: run, epoch, class. Every value lives in the URL, so a page can be sent as a link."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.errors import StreamlitAPIException

from app.ui.look import STATE_WORDS
from app.ui.store import runs_frame
from kdaif.runs import LIVE, Run, open_run
from kdaif.runs.tables import rows

PAGE, KEPT = "page shown", "values kept"  # in the session: path of the page; key -> (value, its text in the URL)
LATEST = 0  # stands for the newest epoch, so that a live run's page follows it


def keep_valid(key: str, options: Sequence[Any]) -> None:
    """Drop a remembered choice that is not among the options any more (another run, a deleted one)."""
    if st.session_state.get(key) is not None and st.session_state[key] not in options:
        del st.session_state[key]


def warn_of_link(label: str, key: str, known: Callable[[str], bool], instead: str) -> None:
    """A sentence where the URL asks for a value that there is not: who follows a link must not take the rest for it."""
    wanted = st.query_params.get(key)
    if wanted is not None and not known(wanted):
        st.warning(f"{label}: the link says {wanted!r}, which is not here (any more); {instead}.")


def carry_selection(page: str) -> None:
    """Bring the bound values along to a new page, before it runs: Streamlit drops them, and their place in the URL.

    What a link says itself goes first.
    """
    last = st.session_state.get(PAGE)
    st.session_state[PAGE] = page
    if last in (None, page):
        return
    kept = {key: both for key, both in st.session_state.get(KEPT, {}).items() if key not in st.query_params}
    for key, (value, _) in kept.items():
        st.session_state[key] = value
    with suppress(StreamlitAPIException):  # still bound to the page before: then the widgets write the URL themselves
        st.query_params.update({key: text for key, (_, text) in kept.items() if text is not None})


def remember(key: str, value: Any) -> None:
    """Keep a bound widget's value, and how the URL spells it, for `carry_selection`; None is its default."""
    kept = st.session_state.setdefault(KEPT, {})
    if value is None:
        kept.pop(key, None)
    else:
        kept[key] = value, str(value) if isinstance(value, int | float) else st.query_params.get(key)


def linked_choice(
    label: str, options: list[str], default: str, key: str, titles: Mapping[str, str], meaning: str, width: int = 430
) -> str:
    """A choice among ids that are shown by their titles; the id stands in the URL.

    Streamlit's own binding would put the title there, which changes with the run's state.
    """
    written = f"{key} in the URL"
    warn_of_link(label, key, options.__contains__, "another one is shown")
    wanted = st.query_params.get(key)
    if wanted in options and wanted != st.session_state.get(written):  # a link, or the browser's back button
        st.session_state[key] = wanted
    keep_valid(key, options)
    chosen = st.selectbox(
        label,
        options,
        index=options.index(default),
        format_func=titles.__getitem__,
        key=key,
        persist_state="session",
        width=width,
        help=meaning,
    )
    if wanted != chosen:
        st.query_params[key] = chosen
    st.session_state[written] = chosen
    return chosen


def runs_with_epochs() -> pd.DataFrame:
    frame = runs_frame()
    return frame[frame["epoch"] > 0]


def run_choice(width: int = 430) -> Run:
    """The run to look at; unless the URL or the user says otherwise the newest KD-AIF run that has not stopped half-way."""
    frame = runs_with_epochs()
    options = list(frame["run_id"])
    stopped = ~frame["state"].isin(("done", *LIVE))
    default = frame.assign(other=frame["method"] != "kd-aif", stopped=stopped).sort_values(
        ["other", "stopped"], kind="stable"
    )
    titles = {row.run_id: _run_title(row) for row in rows(frame)}
    return open_run(
        linked_choice(
            "Run",
            options,
            default["run_id"].iloc[0],
            "run",
            titles,
            "One training run: a method, a seed, a setting.",
            width,
        )
    )


def _run_title(row: Any) -> str:
    state = "" if row.state == "done" else f" · {STATE_WORDS[row.state]}"
    return f"{row.label}, seed {row.seed}{state} · {row.setting} · {row.run_id}"


def epoch_choice(run: Run) -> int:
    """The epoch whose values are shown; the newest unless chosen."""
    epochs = run.epochs()
    options = [*epochs[:-1], LATEST]
    warn_of_link("Epoch", "epoch", lambda said: said.split()[0] in map(str, epochs), "the latest is shown")
    keep_valid("epoch", options)
    if len(options) == 1:
        st.selectbox("Epoch", [epochs[-1]], disabled=True, width=180, help="The only epoch recorded so far.")
        return epochs[-1]
    chosen = st.select_slider(
        "Epoch",
        options,
        value=LATEST,
        format_func=lambda number: str(number or f"{epochs[-1]} (latest)"),
        key="epoch",
        bind="query-params",
        width=190,
        help="All values on this page are those measured in this epoch of the student's training.",
    )
    remember("epoch", chosen or None)
    return chosen or epochs[-1]


def sample_choice(samples: int) -> int | None:
    """The primary sample by its number: what a click on a tile or point sets, and the URL carries."""
    inside = lambda said: said.isdecimal() and int(said) < samples  # noqa: E731
    warn_of_link("Sample", "sample", inside, "none is chosen")
    keep_valid("sample", range(samples))
    chosen = st.number_input(
        "Sample",
        0,
        samples - 1,
        None,
        1,
        key="sample",
        bind="query-params",
        placeholder="no.",
        label_visibility="collapsed",
        width=150,
    )
    remember("sample", chosen)
    return chosen


def open_range() -> None:
    """Open both ends of the range: it belongs to one field."""
    st.session_state["from"] = st.session_state["to"] = None


def field_choice(table: pd.DataFrame) -> str:
    """The field whose range selects."""
    measured = [field for field in ("weight", "influence") if table[field].notna().any()]
    keep_valid("field", measured)
    chosen = st.segmented_control(
        "Field",
        measured,
        default=measured[0],
        required=True,
        key="field",
        on_change=open_range,
        bind="query-params",
        format_func=str.capitalize,
        label_visibility="collapsed",
    )
    remember("field", chosen)
    return chosen


def end_choice(name: str) -> float | None:
    """One end of the selected range; None leaves it open."""
    chosen = st.number_input(
        name,
        value=None,
        step=0.1,
        format="%.2f",
        key=name,
        bind="query-params",
        label_visibility="collapsed",
        placeholder=f"{name} …",
        width=96,
    )
    remember(name, chosen)
    return chosen


def csv_button(label: str, make: Callable[[], str], name: str, key: str, meaning: str, disabled: bool = False) -> None:
    """Downloads what `make` writes, when it is asked for, as NAME.csv."""
    st.download_button(
        label,
        make,
        f"{name}.csv",
        "text/csv",
        key=key,
        icon=":material/download:",
        on_click="ignore",
        disabled=disabled,
        help=meaning,
    )


def experiment_choice() -> str | None:
    """The experiment (runs that differ in method and seed only), at first the newest with a done run; None without runs."""
    frame = runs_frame()
    if frame.empty:
        return None
    newest = frame.drop_duplicates("experiment")
    done = list(frame.loc[frame["state"] == "done", "experiment"])
    titles = {row.experiment: f"{row.setting} · {row.experiment}" for row in rows(newest)}
    options = list(titles)
    if len(options) == 1:
        return options[0]
    meaning = "Runs on the same data with the same noise and networks, which differ in method and seed only."
    return linked_choice("Experiment", options, (done or options)[0], "experiment", titles, meaning)
