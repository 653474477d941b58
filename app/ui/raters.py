"""What several people said of a sample beside its influence: do the samples that people argue about harm?"""

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from app.ui.figures import CONFIG, styled
from app.ui.look import VERDICT_COLORS
from kdaif.metrics.ranking import spearman


def raters(table: pd.DataFrame) -> None:
    """The section at the end of the samples page; nothing where nobody rated or no influence was measured."""
    if said := agreement_words(table):
        st.subheader("People and influence")
        st.caption(said)
        st.plotly_chart(raters_figure(table), key="raters", config=CONFIG, alt=said)


def agreement_words(table: pd.DataFrame) -> str:
    """How the people's disagreement goes with influence, in a sentence or two."""
    both = table[["rating_spread", "influence"]].dropna()
    if both.empty:
        return ""
    found = spearman(both["rating_spread"], both["influence"])
    if found != found:
        return ""
    share = "lower" if found < 0 else "higher"
    strength = "hardly" if abs(found) < 0.1 else "somewhat" if abs(found) < 0.3 else "clearly"
    return (
        f"{len(both):,} samples were rated by several people. Where they disagree more, influence is {strength} {share} "
        f"(Spearman {found:+.2f}).".replace("-", "−")
    )


def raters_figure(table: pd.DataFrame) -> go.Figure:
    """Every rated sample: standard deviation of its ratings (x) and influence (y), by verdict."""
    figure = go.Figure()
    for verdict, colour in VERDICT_COLORS.items():
        part = table[(table["verdict"] == verdict) & table["rating_spread"].notna()]
        figure.add_scattergl(
            x=part["rating_spread"],
            y=part["influence"],
            mode="markers",
            name=verdict,
            marker={"color": colour, "size": 6, "opacity": 0.6},
            text=part["text"],
            hovertemplate="%{text}<br>disagreement %{x:.2f}, influence %{y:.1f}<extra></extra>",
        )
    figure.update_xaxes(title="disagreement of the raters (standard deviation)")
    figure.update_yaxes(title="influence (standard errors)")
    return styled(figure, height=260)
