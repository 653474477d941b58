"""The bar at the top of a page: run, epoch, class. Every value lives in the URL, so a page can be sent as a link."""

import streamlit as st

from app.ui.look import STATE_WORDS
from app.ui.selection import ALL_CLASSES, SHOWS
from app.ui.store import runs_frame
from kdaif.config import UserError
from kdaif.runs import Run, open_run

LATEST = 0  # stands for the newest epoch, so that a live run's page follows it


def keep_valid(key: str, options: list) -> None:
    """Drop a remembered choice that is not among the options any more (another run, a deleted one)."""
    if key in st.session_state and st.session_state[key] not in options:
        del st.session_state[key]


def run_choice() -> Run:
    """The run to look at; the newest KD-AIF run unless the URL or the user says otherwise."""
    frame = runs_frame()
    frame = frame[(frame["epoch"] > 0)].set_index("run_id")
    if frame.empty:
        raise UserError("No run has recorded an epoch yet: run the demo on the overview page, or train one.")
    options = list(frame.index)
    wanted = st.query_params.get("run")
    if wanted is not None and wanted not in options:
        st.warning(f"The link names the run {wanted!r}, which is not here (any more); another one is shown.")
    weighted = frame.index[frame["method"] == "kd-aif"]
    keep_valid("run", options)

    def title(run_id: str) -> str:
        row = frame.loc[run_id]
        state = "" if row["state"] == "done" else f" · {STATE_WORDS[str(row['state'])]}"
        return f"{row['label']}, seed {row['seed']}{state} · {row['setting']} · {run_id}"

    chosen = st.selectbox(
        "Run",
        options,
        index=options.index(weighted[0]) if len(weighted) else 0,
        format_func=title,
        key="run",
        bind="query-params",
        width=430,
        help="One training run: a method, a seed, a setting.",
    )
    return open_run(chosen)


def epoch_choice(run: Run) -> int:
    """The epoch whose values are shown; the newest unless chosen."""
    epochs = run.epochs()
    options = [*epochs[:-1], LATEST]
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
        width=230,
        help="All values on this page are those measured in this epoch of the student's training.",
    )
    return chosen or epochs[-1]


def class_choice(classes: tuple[str, ...]) -> str:
    options = [ALL_CLASSES, *classes]
    keep_valid("class", options)
    return st.selectbox(
        "Given label", options, key="class", bind="query-params", width=150, help="Only samples with this given label."
    )


def show_choice(flips_known: bool) -> str:
    options = list(SHOWS) if flips_known else list(SHOWS)[:3]
    keep_valid("show", options)
    return st.selectbox(
        "Show",
        options,
        key="show",
        bind="query-params",
        width=170,
        help="Where the wrong labels are known, also what KD-AIF missed and where it was wrong.",
    )


def experiment_choice() -> str | None:
    """The experiment (runs that differ in method and seed only); None where there is no run at all."""
    frame = runs_frame()
    if frame.empty:
        return None
    titles = frame.drop_duplicates("experiment").set_index("experiment")["setting"]
    options = list(titles.index)
    keep_valid("experiment", options)
    if len(options) == 1:
        return options[0]
    return st.selectbox(
        "Experiment",
        options,
        format_func=lambda name: f"{titles[name]} · {name}",
        key="experiment",
        bind="query-params",
        width=430,
        help="Runs on the same data with the same noise and networks, which differ in method and seed only.",
    )
