"""Why the networks say what they say of the primary sample, student beside teacher, made when it is asked for: heat maps of an
image, coloured words of a sentence."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.gallery import sentences_of
from app.ui.heatmap import METHODS, UNSIGNED, heat, said
from app.ui.look import percent
from app.ui.painting import Span, painted, signed, strongest_words, to_html
from app.ui.waiting import waiting_bar
from kdaif.runs import Run, open_run

SIDE = 112  # pixels of a heat map
OF_WORDS = "integrated-gradients"  # the method for sentences
WORDS_HELP = (
    "Integrated gradients on the token embeddings, from a sentence in which every word is padding; a word's value is the sum of "
    "its pieces'. They add up to the change of the class's logit."
)


def explanation(run: Run, sample: pd.Series, row: int, inputs: np.ndarray | None) -> list[list[Span]] | None:
    """Which class, which method, a button, and then what each network looks at; the student's coloured sentences, if any."""
    names = [sample[opinion] for opinion in ("given", "student", "teacher")]
    with st.container(horizontal=True, gap="small", vertical_alignment="center"):
        target = st.selectbox(
            "Class", dict.fromkeys(filter(None, names)), key="why", width=130, label_visibility="collapsed"
        )
        method = OF_WORDS if inputs is None else _method_choice()
        place = str(run.path), row, method, run.classes().index(target)
        shown = st.session_state.get("explained") == place
        st.button(
            "Explain",
            type="primary",
            key="explain",
            disabled=shown,
            on_click=lambda: st.session_state.update(explained=place),
            help=WORDS_HELP if inputs is None else METHODS[method][1],
        )
    if not shown:
        thing = "sentence" if inputs is None else "picture"
        st.caption(f"What in the {thing} speaks for the class, in the eyes of the student and of the teacher.")
        return None
    found = _explanations(run, *place)
    if inputs is None:
        return _sentences(found, sentences_of(sample), target)
    _pictures(found, inputs[row], method, target)
    return None


def _method_choice() -> str:
    chosen: str = st.selectbox(
        "Method",
        list(METHODS),
        format_func=lambda name: METHODS[name][0],
        key="explain_by",
        width=190,
        label_visibility="collapsed",
    )
    return chosen


def _pictures(maps: Mapping[str, Any], pixels: np.ndarray, method: str, target: str) -> None:
    signed_ = method not in UNSIGNED
    with st.container(horizontal=True, gap="medium"):
        for name, found in maps.items():
            st.image(
                heat(pixels, found.values, signed_, SIDE),
                caption=f"{name.capitalize()}: {target} {percent(found.probability)}",
                width=SIDE,
                alt=said(name, found.values, signed_),
            )
        st.caption(
            f"{':green[Green] speaks for' if signed_ else 'The bluer, the more it matters for'} **{target}**"
            + (", :red[vermilion] against it." if signed_ else ".")
        )


def _sentences(opinions: Mapping[str, Any], texts: Sequence[str], target: str) -> list[list[Span]]:
    of_network = {}
    for name, found in opinions.items():
        values = found.of_words()
        of_network[name] = painted(texts, found.words, values)
        st.markdown(f"**{name.capitalize()}: {target} {percent(found.probability)}**")
        st.html(to_html(of_network[name], f"What speaks for {target} in the eyes of the {name}"))
        total = found.total()
        st.caption(
            f"{strongest_words(texts, found.words, values)}  \nAll words together {signed(sum(values))}, special tokens "
            f"{signed(total - sum(values))}; the logit is {signed(total + found.residual)} above that of the empty sentence."
        )
    st.caption(
        f":green[Green], underlined, speaks for **{target}**; :red[vermilion], dotted, against it. Grey was cut off. The list "
        "shows the student's."
    )
    return of_network["student"]


def _explanations(run: Run, path: str, row: int, method: str, target: int) -> Mapping[str, Any]:
    """By network; the bar says what is being done, for the first time takes seconds."""
    names = ["student", *(["teacher"] if "teacher" in run.provenance() else [])]
    say, end = waiting_bar("waking the networks")
    found = {}
    for done, name in enumerate(names):
        say(done / len(names), f"asking the {name}")
        found[name] = _explained(path, row, name, method, target)
    end()
    return found


@st.cache_resource(max_entries=128, show_spinner=False)
def _explained(path: str, row: int, network: str, method: str, target: int) -> Any:
    from kdaif.explain import explain  # brings in torch, which the pages do without until now

    return explain(open_run(path), row, network, method, target)
