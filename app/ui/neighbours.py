"""The primary sample among others: validation samples it harms or helps, training samples most like it."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.gallery import data_url, sentences_of, thumbnails
from app.ui.look import GLOSSARY, HARMFUL, HELPFUL, NEUTRAL, percent
from app.ui.waiting import waiting_bar
from kdaif.relations import Relations, read_relations, strongest
from kdaif.runs import Run, cache_root, open_run
from kdaif.runs.arrays import open_inputs

SHOWN = 6  # samples a row


def neighbours(
    run: Run, table: pd.DataFrame, row: int, inputs: np.ndarray | None, on_pick: Callable[[int], None]
) -> None:
    """Three rows of small tiles; before the first time a button, since the student must look at all samples once."""
    found = relations_of(run)
    if found is None:
        st.caption("Which validation samples this one harms or helps, and which training samples are most like it.")
        if not st.button(
            "Find them", type="primary", key="find_neighbours", help="The student looks at all samples once."
        ):
            return
        measured(run)
        st.rerun()
    on_validation = found.on_validation(row)
    names, like = run.label_words(found.held_labels), found.likeness(row)
    held = None if not found.held_inputs else open_inputs(cache_root() / found.held_inputs)
    harmed = int((on_validation < 0).sum())
    groups = {
        f"Harms most, of {len(on_validation):,} validation samples ({percent(harmed / len(on_validation))} harmed)": [
            _held(found, held, names, place, f"{on_validation[place]:+.2g}", HARMFUL)
            for place in strongest(on_validation, SHOWN, lowest=True)
        ],
        "Helps most": [
            _held(found, held, names, place, f"{on_validation[place]:+.2g}", HELPFUL)
            for place in strongest(on_validation, SHOWN, lowest=False)
        ],
        "Most like it in training": [
            _similar(table, inputs, place, f"{like[place]:.2f}") for place in strongest(like, SHOWN, lowest=False)
        ],
    }
    thumbnails(groups, "neighbours", on_pick)
    st.caption(
        f"Influence in nats per unit step, likeness as cosine, both in the student's last layer. {GLOSSARY['Like']}"
    )


def relations_of(run: Run) -> Relations | None:
    """What was measured of the run's samples; shared between sessions, never change it."""
    stamp = (run.path / "status.json").stat().st_mtime_ns
    found = _relations(str(run.path), stamp)
    if found is None:
        _relations.clear(str(run.path), stamp)
    return found


@st.cache_resource(max_entries=4, show_spinner="Reading the neighbours …")
def _relations(path: str, stamp: int) -> Relations | None:
    return read_relations(open_run(path))


def measured(run: Run) -> Relations:
    say, end = waiting_bar("waking the student")
    from kdaif.neighbours import measure  # brings in torch

    found = measure(run, say=say)
    end()
    return found


def _held(
    found: Relations, inputs: np.ndarray | None, names: np.ndarray, place: int, figure: str, color: str
) -> dict[str, object]:
    label = str(names[place])
    return {
        "row": None,
        "image": None if inputs is None else data_url(inputs[place]),
        "words": str(found.held_words[place]),
        "label": label,
        "figure": figure.replace("-", "−"),
        "color": color,
        "description": f"Validation sample {found.held_ids[place]}, {label}: influence {figure}",
    }


def _similar(table: pd.DataFrame, inputs: np.ndarray | None, place: int, figure: str) -> dict[str, object]:
    sample = table.iloc[place]
    return {
        "row": int(place),
        "image": None if inputs is None else data_url(inputs[place]),
        "words": " / ".join(sentences_of(sample)) or sample["ref"],
        "label": sample["given"],
        "figure": figure,
        "color": NEUTRAL,
        "description": f"Training sample {place}, given {sample['given']}: likeness {figure}",
    }
