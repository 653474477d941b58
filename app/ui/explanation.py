"""The heat maps of the primary sample, student beside teacher, made when they are asked for."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.heatmap import METHODS, UNSIGNED, heat, said
from app.ui.look import percent
from kdaif.runs import Run, open_run

SIDE = 112  # pixels of a heat map


def explanation(run: Run, sample: pd.Series, row: int, inputs: np.ndarray) -> None:
    """Which class, which method, a button, and then a heat map of each network."""
    names = [sample[opinion] for opinion in ("given", "student", "teacher")]
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        target = st.selectbox(
            "Class", dict.fromkeys(filter(None, names)), key="why", width=130, label_visibility="collapsed"
        )
        method = st.selectbox(
            "Method",
            list(METHODS),
            format_func=lambda name: METHODS[name][0],
            key="explain_by",
            width=190,
            label_visibility="collapsed",
        )
        place = str(run.path), row, method, run.classes().index(target)
        shown = st.session_state.get("explained") == place
        st.button(
            "Explain",
            type="primary",
            key="explain",
            disabled=shown,
            on_click=lambda: st.session_state.update(explained=place),
            help=METHODS[method][1],
        )
    if not shown:
        st.caption("What in the picture speaks for the class, in the eyes of the student and of the teacher.")
        return
    maps = _explanations(run, *place)
    signed = method not in UNSIGNED
    with st.container(horizontal=True, gap="medium"):
        for name, found in maps.items():
            st.image(
                heat(inputs[row], found.values, signed, SIDE),
                caption=f"{name.capitalize()}: {target} {percent(found.probability)}",
                width=SIDE,
                alt=said(name, found.values, signed),
            )
        st.caption(
            f"{':green[Green] speaks for' if signed else 'The bluer, the more it matters for'} **{target}**"
            + (", :red[vermilion] against it." if signed else ".")
        )


def _explanations(run: Run, path: str, row: int, method: str, target: int) -> Mapping[str, Any]:
    """By network; the bar says what is being done, for the first time takes seconds."""
    names = ["student", *(["teacher"] if "teacher" in run.provenance() else [])]
    bar = st.progress(0.0, "waking the networks …")
    found = {}
    for done, name in enumerate(names):
        bar.progress(done / len(names), f"asking the {name} …")
        found[name] = _explained(path, row, name, method, target)
    bar.empty()
    return found


@st.cache_resource(max_entries=128, show_spinner=False)
def _explained(path: str, row: int, network: str, method: str, target: int) -> Any:
    from kdaif.explain import explain  # brings in torch, which the pages do without until now

    return explain(open_run(path), row, network, method, target)
