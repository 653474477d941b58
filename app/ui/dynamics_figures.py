"""Figures of the dynamics page, as pure functions: what the values of all samples, or of some, do over the epochs."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.ui.figures import FADED, GRID, NEUTRAL_AT, TEXT, add_band, epoch_axis, styled, transparent
from app.ui.look import ACCENT, GOLD, NEUTRAL, VERDICT_COLORS, VERDICT_SIGNS
from kdaif.metrics.dynamics import Heat

TITLES: Mapping[str, str] = {
    "weight": "weight (1 = neutral)",
    "influence": "influence (std. errors)",
    "confidence": "confidence",
}


def heat_figure(epochs: Sequence[int], spread: Heat, field: str, current: int) -> go.Figure:
    """Epoch by value, the darker the more samples: `spread` from `metrics.dynamics.heat`; `current` epoch is marked.

    The colour goes with the root of the share, so that thin streams of samples are seen beside the crowd.
    """
    figure = go.Figure()
    top = float(spread.share.max(initial=0.0)) or 1.0
    ticks = [tick for tick in (0.0, 0.01, 0.05, 0.2, 0.5, 1.0) if tick <= top]
    figure.add_heatmap(
        x=np.asarray(epochs),
        y=(spread.edges[:-1] + spread.edges[1:]) / 2,
        z=np.sqrt(spread.share).T.astype(np.float32),
        customdata=(100 * spread.share).T.astype(np.float32),
        colorscale=[[0, transparent(ACCENT, 0.0)], [0.25, transparent(ACCENT, 0.4)], [1, ACCENT]],
        zmin=0,
        zmax=top**0.5,
        colorbar={
            "thickness": 8,
            "tickvals": [tick**0.5 for tick in ticks],
            "ticktext": [f"{100 * tick:.0f} %" for tick in ticks],
            "tickfont": {"color": TEXT, "size": 11},
            "outlinewidth": 0,
        },
        hovertemplate=f"epoch %{{x}}, {field} about %{{y:.2f}}: %{{customdata:.1f}} % of the samples<extra></extra>",
        name="share",
    )
    figure.add_vline(x=current, line={"color": NEUTRAL, "width": 1})
    if field in NEUTRAL_AT:
        figure.add_hline(y=NEUTRAL_AT[field], line={"color": NEUTRAL, "width": 1, "dash": "dot"})
    epoch_axis(figure, epochs)
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(title=TITLES[field], showgrid=False, zeroline=False)
    return styled(figure, height=190)


def bands_figure(
    epochs: Sequence[int], groups: pd.DataFrame, colors: Mapping[str, str], own: np.ndarray | None, field: str, now: int
) -> go.Figure:
    """Median and 10-90 % band of each group over the epochs, and the primary sample's `own` course.

    `groups`: columns group, epoch, low, middle, high; `colors`: group -> colour, in the order of drawing.
    """
    figure = go.Figure()
    x = np.asarray(epochs)
    for name, color in colors.items():
        of_group = groups[groups["group"] == name]
        add_band(
            figure,
            of_group["epoch"],
            of_group["low"],
            of_group["high"],
            color,
            showlegend=False,
            name=f"{name}, 10–90 %",
        )
        figure.add_scatter(
            x=of_group["epoch"],
            y=of_group["middle"],
            mode="lines+markers" if len(x) == 1 else "lines",
            line={"color": color, "width": 2.5},
            name=name,
            hovertemplate="median %{y:.2f}",
        )
    if own is not None:
        figure.add_scatter(
            x=x,
            y=own,
            mode="lines+markers" if len(x) <= 40 else "lines",
            line={"color": TEXT, "width": 1.5, "dash": "dot"},
            marker={"size": 5, "color": TEXT},
            name="this sample",
            hovertemplate="%{y:.2f}",
        )
    figure.add_vline(x=now, line={"color": NEUTRAL, "width": 1})
    if field in NEUTRAL_AT:
        figure.add_hline(y=NEUTRAL_AT[field], line={"color": GRID, "width": 1.5})
    figure.update_layout(hovermode="x unified")
    epoch_axis(figure, epochs)
    figure.update_yaxes(title=TITLES[field])
    return styled(figure, height=190, legend=True)


def map_figure(points: pd.DataFrame, field: str, primary: int | None) -> go.Figure:
    """The data map: variability across, mean upwards. What is not selected is grey, the primary sample ringed.

    `points`: index = row of the sample table; columns verdict, selected (bool), and `<field>_mean`, `<field>_std`.
    """
    figure = go.Figure()
    across, up = points[f"{field}_std"], points[f"{field}_mean"]
    parts = {
        f"{VERDICT_SIGNS[verdict]} {verdict}": (color, points["selected"] & (points["verdict"] == verdict))
        for verdict, color in VERDICT_COLORS.items()
    }
    for name, (color, mask) in {"not selected": (NEUTRAL, ~points["selected"]), **parts}.items():
        if not mask.any():
            continue
        opacity = FADED if name == "not selected" else 0.7
        figure.add_scattergl(
            x=across[mask].to_numpy(np.float32),
            y=up[mask].to_numpy(np.float32),
            customdata=points.index[mask].to_numpy(np.int32),
            mode="markers",
            marker={"size": 5, "color": color, "opacity": opacity},
            # a click picks the primary sample; the browser's own dimming would only blink
            selected={"marker": {"opacity": opacity}},
            unselected={"marker": {"opacity": opacity}},
            name=name,
            hovertemplate="sample %{customdata}: mean %{y:.2f}, variability %{x:.2f}<extra></extra>",
        )
    if primary is not None and primary in points.index:
        figure.add_scattergl(
            x=[float(across[primary])],
            y=[float(up[primary])],
            mode="markers",
            marker={"size": 15, "symbol": "circle-open", "color": GOLD, "line": {"width": 3}},
            name="this sample",
            hoverinfo="skip",
        )
    figure.update_layout(hovermode="closest", clickmode="event+select")
    figure.update_xaxes(title=f"variability of the {field}", rangemode="tozero")
    figure.update_yaxes(title=f"mean {field}", zeroline=field == "influence")
    if field == "confidence":
        _regions(figure)
    return styled(figure, height=218, legend=True)


def _regions(figure: go.Figure) -> None:
    """The names that the classic map gives to its corners."""
    for words, x, y, anchor in (
        ("easy to learn", 0.3, 0.98, "left"),
        ("ambiguous", 0.99, 0.5, "right"),
        ("hard to learn", 0.3, 0.04, "left"),
    ):
        figure.add_annotation(
            text=f"<b>{words}</b>",
            xref="paper",
            yref="paper",
            x=x,
            y=y,
            xanchor=anchor,
            showarrow=False,
            font={"size": 12, "color": TEXT},
        )
    figure.update_xaxes(range=[-0.01, 0.52])  # a share varies by no more than 0.5
    figure.update_yaxes(range=[-0.03, 1.05])
