"""The primary sample: what was given, what the networks say, and the rooms that open behind it."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.act import act
from app.ui.controls import keep_valid
from app.ui.explanation import explanation
from app.ui.figures import CONFIG, course_figure
from app.ui.gallery import png, raters_line, sentences_of
from app.ui.look import GLOSSARY, VERDICT_COLORS, VERDICT_SIGNS, ink, percent
from app.ui.neighbours import neighbours
from app.ui.painting import Span
from app.ui.store import courses_of
from kdaif.runs import Run

ROOMS: Mapping[str, str] = {"course": "Course", "why": "Heat map", "near": "Neighbours", "act": "Act"}
OF_SENTENCES: Mapping[str, str] = {**ROOMS, "why": "Words"}


def detail(
    run: Run, table: pd.DataFrame, row: int, epoch: int, inputs: np.ndarray | None, on_pick: Callable[[int], None]
) -> list[list[Span]] | None:
    """The panel of one sample; `row` is its index in training order. Its sentences as the student sees them, once explained."""
    sample = table.iloc[row]
    _facts(sample, row, inputs)
    explained = not run.numbers and (inputs is not None or bool(sentences_of(sample)))
    room = _room_choice(OF_SENTENCES if sentences_of(sample) else ROOMS, explained)
    if room == "course":
        _course(run, row, epoch, sample["given"])
    elif room == "act":
        act(run, table, row)
    elif room == "near":
        neighbours(run, table, row, inputs, on_pick)
    else:
        return explanation(run, sample, row, inputs)
    return None


def _facts(sample: pd.Series, row: int, inputs: np.ndarray | None) -> None:
    panel = st.container(horizontal=True, gap="small")
    with panel:
        if inputs is None:
            sentence_panel(sample)
        else:
            st.image(png(inputs[row], 128), width=112, alt=f"Sample {row}, given label {sample['given']}")
    with panel.container(gap="xsmall"):
        verdict = ink(f"{VERDICT_SIGNS[sample['verdict']]} {sample['verdict']}", VERDICT_COLORS[sample["verdict"]])
        st.markdown(f"**Sample {row}** · {verdict}", help=sample["id"])
        st.markdown("  \n".join(opinions(sample)))
        influence = "–" if np.isnan(sample["influence"]) else f"{sample['influence']:+.1f}".replace("-", "−")
        weight = "–" if np.isnan(sample["weight"]) else f"{sample['weight']:.2f}"
        st.markdown(
            f"Influence **{influence}** · weight **{weight}** · loss **{sample['loss']:.2f}**",
            help=" ".join(f"**{term}.** {GLOSSARY[term]}" for term in ("Influence", "Weight", "Loss")),
        )


def _room_choice(names: Mapping[str, str], explicable: bool) -> str:
    options = [room for room in names if explicable or room != "why"]
    keep_valid("room", options)
    return st.segmented_control(
        "What to see of the sample",
        options,
        default=options[0],
        required=True,
        key="room",
        bind="query-params",
        format_func=names.__getitem__,
        label_visibility="collapsed",
    )


def _course(run: Run, row: int, epoch: int, given: str) -> None:
    epochs, courses = courses_of(run, ("weight", "influence", "loss"), row)
    last = ", ".join(f"{field} {values[-1, 0]:.2f}" for field, values in courses.items())
    st.plotly_chart(
        course_figure(epochs, courses, epoch, "all samples" if run.numbers else f"all given {given}"),
        key="course",
        config=CONFIG,
        alt=f"The course of sample {row} over {len(epochs)} epochs; at the end {last}",
    )


def sentence_panel(sample: pd.Series) -> None:
    """The sentences of a sample and what people said of them, else the place where the source holds it."""
    sentences = sentences_of(sample)
    if not sentences:
        st.code(sample["ref"], wrap_lines=True)
        return
    with st.container(gap="xsmall", width=220):
        for number, text in enumerate(sentences):
            st.text(text if len(sentences) == 1 else f"{'AB'[number]}: {text}")
        if raters := raters_line(sample["rating"], sample["rating_spread"]):
            st.caption(
                raters, help="Mean of several people's ratings, and their standard deviation: how far they disagree."
            )


def opinions(sample: pd.Series) -> list[str]:
    """What the sample is given as, truly is (where known) and is taken for by teacher and student, in Markdown."""
    lines = [f"Given **{sample['given']}**"]
    if sample["true"]:
        lines[0] += f" · truly **{sample['true']}**" if sample["flipped"] else " · rightly"
    for network in ("teacher", "student"):
        if sample[network]:
            sure = sample[f"{network}_confidence"]
            how = "" if np.isnan(sure) else f" ({percent(sure)})"
            lines.append(f"{network.capitalize()} says **{sample[network]}**{how}")
    return lines
