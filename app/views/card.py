"""SAFE card: what there is to know of a run's student before it is used, on one page."""

from typing import Any

import streamlit as st

from app.ui.card import PARTS, WATTS, card_table, shown
from app.ui.controls import csv_button, run_choice, runs_with_epochs
from app.ui.opening import nothing_yet, opening
from app.ui.sentences import card_sentence
from app.ui.waiting import waiting_bar
from kdaif.runs import Run

LEADING = 2  # figures of a part that are shown large


def measured(run: Run) -> None:
    """A button where nothing was measured yet, and progress while it is."""
    if run.read_notes("card") is not None:
        return
    if run.status().state != "done":
        st.caption("Robustness, explainability and speed can be measured when the run is done.")
        return
    meaning = (
        "The student looks at 2,000 test samples, plain, damaged and without some of their parts; seconds to a minute."
    )
    if not st.button(
        "Measure the rest", type="primary", icon=":material/play_arrow:", key="measure_card", help=meaning
    ):
        st.caption("Robustness, explainability and speed have not been measured for this run yet.")
        return
    say, _ = waiting_bar("waking the student")
    from kdaif.card import measure_card  # brings in torch

    measure_card(run, say=say)
    st.rerun()


if runs_with_epochs().empty:
    nothing_yet("No run has recorded an epoch yet, so there is nothing to put on a card.")
head = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    run = run_choice()
    watts = st.number_input(
        "Watts",
        1,
        100_000,
        WATTS,
        key="watts",
        bind="query-params",
        width=120,
        help="What the machine is assumed to draw.",
    )
    tools = st.container(width="content")
table = card_table(run, watts)
with head:
    opening(card_sentence(table), f"{run.id} · epoch {run.epochs()[-1]} · seed {run.config().seed}")
identity: dict[str, Any] = {"run_id": run.id, "epoch": run.epochs()[-1], "seed": run.config().seed}
with tools:
    csv_button(
        "Download",
        lambda: table.assign(**identity).to_csv(index=False),
        f"{run.id}-safe-card",
        "download_card",
        "All figures with their meaning, run, epoch and seed, as csv.",
    )
with st.grid(5, min_column_width=190, gap="small", border=True, key="card"):
    for part in PARTS:
        with st.container(gap="xsmall"):
            st.subheader(part, anchor=False)
            of_part = table[table["part"] == part]
            if of_part.empty:
                st.caption("Not measured yet.")
            for place, line in enumerate(of_part.itertuples()):
                if place < LEADING:
                    st.metric(str(line.figure), shown(line.value, line.unit), help=str(line.meaning))  # type: ignore[arg-type]
                else:
                    st.markdown(f"{line.figure} **{shown(line.value, line.unit)}**", help=str(line.meaning))  # type: ignore[arg-type]
measured(run)
with st.expander("What each figure means", icon=":material/help:"):
    st.dataframe(
        table.assign(value=[shown(value, unit) for value, unit in zip(table["value"], table["unit"], strict=True)]),
        hide_index=True,
        alt="All figures with their meaning",
    )
