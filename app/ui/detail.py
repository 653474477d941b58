"""The primary sample: picture, what was given and what the networks say, and its course over the epochs."""

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.figures import CONFIG, trajectory_figure
from app.ui.gallery import png, raters_line, sentences_of
from app.ui.look import GLOSSARY, VERDICT_COLORS, VERDICT_SIGNS, ink, percent
from app.ui.store import trajectory_of
from kdaif.runs import Run


def detail(run: Run, table: pd.DataFrame, row: int, field: str, epoch: int, inputs: np.ndarray | None) -> None:
    """The panel of one sample; `row` is its index in training order."""
    sample = table.iloc[row]
    panel = st.container(horizontal=True, gap="small")
    with panel:
        if inputs is None:
            sentence_panel(sample)
        else:
            st.image(png(inputs[row], 160), width=128, alt=f"Sample {row}, given label {sample['given']}")
    with panel.container(gap="xsmall"):
        verdict = ink(f"{VERDICT_SIGNS[sample['verdict']]} {sample['verdict']}", VERDICT_COLORS[sample["verdict"]])
        st.markdown(f"**Sample {row}** · {verdict}", help=sample["id"])
        st.markdown("  \n".join(opinions(sample)))
    influence = "–" if np.isnan(sample["influence"]) else f"{sample['influence']:+.1f}".replace("-", "−")
    with st.container(horizontal=True, gap="medium"):
        st.markdown(f"Influence **{influence}**", help=GLOSSARY["Influence"], width="content")
        st.markdown(f"Weight **{sample['weight']:.2f}**", help=GLOSSARY["Weight"], width="content")
        st.markdown(f"Loss **{sample['loss']:.2f}**", help=GLOSSARY["Loss"], width="content")
    epochs, values, crowd = trajectory_of(run, field, row)
    if np.isnan(values).all():
        st.caption(f"This run measured no {field}.")
        return
    st.plotly_chart(
        trajectory_figure(epochs, values, crowd, field, epoch),
        key="trajectory",
        config=CONFIG,
        alt=f"The {field} of sample {row} over {len(epochs)} epochs, last {values[-1]:.2f}",
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
            lines.append(
                f"{network.capitalize()} says **{sample[network]}** ({percent(sample[f'{network}_confidence'])})"
            )
    return lines
