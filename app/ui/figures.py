"""Figures as pure functions: frame in, Plotly figure out. Colours are readable on the light and the dark theme alike."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.ui.look import ACCENT, METHOD_COLORS, NEUTRAL, VERDICT_COLORS, VERDICT_SIGNS, percent, points
from kdaif.runs.tables import method_rank, rows

GRID = "rgba(128, 134, 140, 0.22)"
TEXT = "#000037"  # a placeholder: Streamlit's chart theme puts the page's text colour in its place
FADED = 0.22  # opacity of what is not selected: grey, never gone
FIELD_TITLES = {"weight": "weight (1 = neutral)", "influence": "influence (standard errors, + helps)"}
NEUTRAL_AT = {"weight": 1.0, "influence": 0.0}
CONFIG = {"displayModeBar": False, "scrollZoom": False}
NARROW = 22  # letters of a method's name on one line
FEW_EPOCHS = 12  # up to which each has its tick
DASHES = ("solid", "dash", "dashdot", "longdash")  # of variants of one method, which share its colour


def gain_figure(methods: pd.DataFrame) -> go.Figure:
    """Points of test accuracy over vanilla KD: one bar a method (mean), one dot a seed; `methods` from `method_table`."""
    methods = methods[methods["gain"].notna()].iloc[::-1]
    methods = methods.assign(label=methods["label"].map(wrapped))
    figure = go.Figure()
    figure.add_bar(
        x=100 * methods["gain"],
        y=methods["label"],
        orientation="h",
        marker={"color": _method_colors(methods), "opacity": 0.85},
        width=0.55,
        hoverinfo="skip",
        name="mean",
    )
    seeds = [(row.label, seed, 100 * gain) for row in rows(methods) for seed, gain in row.gains.items()]
    figure.add_scatter(
        x=[gain for _, _, gain in seeds],
        y=[label for label, _, _ in seeds],
        customdata=[seed for _, seed, _ in seeds],
        mode="markers",
        marker={"size": 8, "color": "rgba(255,255,255,0.9)", "line": {"color": "#1B2127", "width": 1.2}},
        hovertemplate="%{y}, seed %{customdata}: %{x:+.1f} points<extra></extra>",
        name="seeds",
    )
    widest = max([abs(gain) for _, _, gain in seeds] + [1.0])
    ends = [max(0.0, 100 * row.gain, *(100 * gain for gain in row.gains.values())) for row in rows(methods)]
    figure.add_scatter(
        x=[end + 0.035 * widest for end in ends],
        y=methods["label"],
        text=[_gain_text(row) for row in rows(methods)],
        mode="text",
        textposition="middle right",
        textfont={"size": 14, "color": TEXT},
        cliponaxis=False,
        hoverinfo="skip",
        name="figures",
    )
    low = min([gain for _, _, gain in seeds] + [0.0])
    figure.update_xaxes(
        title="points of test accuracy over vanilla KD", range=[low - 0.04 * widest, 1.05 * widest], zeroline=True
    )
    return styled(figure, height=78 + 50 * len(methods)).update_layout(margin_r=64)


def _gain_text(row: Any) -> str:
    accuracy = percent(row.mean, 1)
    return accuracy if row.method == "kd" else f"<b>{points(row.gain)}</b><br>{accuracy}"


def accuracy_figure(methods: pd.DataFrame, runs: pd.DataFrame) -> go.Figure:
    """Test accuracy in per cent: mean and standard deviation a method, one dot a seed; `runs` from `run_table`."""
    methods = methods.iloc[::-1]
    done = runs[(runs["state"] == "done") & runs["label"].isin(methods["label"])]
    methods, done = (table.assign(label=table["label"].map(wrapped)) for table in (methods, done))
    figure = go.Figure()
    figure.add_scatter(
        x=100 * done["test_accuracy"],
        y=done["label"],
        customdata=done["seed"],
        mode="markers",
        marker={"size": 9, "color": NEUTRAL, "opacity": 0.55},
        hovertemplate="%{y}, seed %{customdata}: %{x:.1f} %<extra></extra>",
        name="seeds",
    )
    figure.add_scatter(
        x=100 * methods["mean"],
        y=methods["label"],
        mode="markers",
        error_x={"array": 100 * methods["std"].fillna(0), "color": NEUTRAL, "thickness": 2, "width": 6},
        marker={"size": 15, "color": _method_colors(methods), "symbol": "diamond"},
        hovertemplate="%{y}: mean %{x:.1f} %<extra></extra>",
        name="mean",
    )
    figure.add_scatter(
        x=100 * methods["mean"],
        y=methods["label"],
        text=[
            f"<b>{100 * row.mean:.1f}</b>" + (f" ± {100 * row.std:.1f}" if row.runs > 1 else "") + "<br> "
            for row in rows(methods)
        ],
        mode="text",
        textposition="top center",
        cliponaxis=False,
        textfont={"size": 14, "color": TEXT},
        hoverinfo="skip",
        name="figures",
    )
    figure.update_xaxes(title="test accuracy, %")
    order = {"categoryorder": "array", "categoryarray": list(methods["label"])}
    figure.update_yaxes(range=[-0.6, len(methods) - 0.25], **order)
    return styled(figure, height=max(225, 70 + 52 * len(methods)))


def curves_figure(curves: pd.DataFrame) -> go.Figure:
    """Test accuracy over epochs: mean line and range over seeds; columns label, method, seed, epoch, test_accuracy."""
    figure = go.Figure()
    methods = dict(zip(curves["label"], curves["method"], strict=True))
    ordered = sorted(methods, key=lambda label: (method_rank(methods[label]), label))
    dash = dashes(ordered, methods)
    for label in ordered:
        method = methods[label]
        by_epoch = 100 * curves[curves["label"] == label].groupby("epoch")["test_accuracy"].agg(["mean", "min", "max"])
        color = METHOD_COLORS.get(method, NEUTRAL)
        add_band(figure, by_epoch.index, by_epoch["min"], by_epoch["max"], color, showlegend=False)
        figure.add_scatter(
            x=by_epoch.index,
            y=by_epoch["mean"],
            mode="lines",
            line={"color": color, "width": 2.5, "dash": dash[label]},
            name=wrapped(label),
            hovertemplate="%{y:.1f} %",
        )
    figure.update_layout(hovermode="x unified")
    epoch_axis(figure, sorted(curves["epoch"].unique()))
    figure.update_yaxes(title="test accuracy, %")
    return styled(figure, height=max(225, 70 + 52 * len(ordered)), legend=True)


def histogram_figure(
    values: np.ndarray, verdicts: np.ndarray, field: str, chosen: tuple[float, float] | None, bins: int = 48
) -> go.Figure:
    """How the samples' weight or influence is spread, stacked by verdict; outside `chosen` the bars are faded."""
    finite = np.isfinite(values)
    edges = np.histogram_bin_edges(values[finite], bins)
    centres = (edges[:-1] + edges[1:]) / 2
    inside = np.ones(len(centres), bool) if chosen is None else (edges[1:] > chosen[0]) & (edges[:-1] < chosen[1])
    figure = go.Figure()
    for verdict, color in VERDICT_COLORS.items():
        counts, _ = np.histogram(values[finite & (verdicts == verdict)], edges)
        figure.add_bar(
            x=centres,
            y=counts,
            width=np.diff(edges),
            name=f"{VERDICT_SIGNS[verdict]} {verdict}",
            marker={"color": color, "opacity": np.where(inside, 0.95, FADED), "line": {"width": 0}},
            hovertemplate=f"%{{y:,}} {verdict} at %{{x:.2f}}<extra></extra>",
            # what is selected is drawn by `inside`, from the URL; the browser's own dimming would only blink
            selected={"marker": {"opacity": 0.95}},
            unselected={"marker": {"opacity": FADED}},
        )
    figure.update_layout(barmode="stack", bargap=0, dragmode="select", selectdirection="h")
    figure.update_layout(newselection={"line": {"color": ACCENT, "width": 1.5, "dash": "solid"}})
    figure.update_xaxes(title=FIELD_TITLES[field], fixedrange=True)
    figure.update_yaxes(title="samples", fixedrange=True)
    return styled(figure, height=130, legend=True)


def course_figure(epochs: Sequence[int], courses: Mapping[str, np.ndarray], current: int, crowd: str) -> go.Figure:
    """One sample's fields over the epochs, one below the other, each before the middle 80 % of its crowd.

    `courses`: field -> (epochs, 1 + crowd), the sample in column 0; `crowd` says who they are.
    """
    figure = make_subplots(len(courses), 1, shared_xaxes=True, vertical_spacing=0.07)
    for place, (field, values) in enumerate(courses.items(), 1):
        low, middle, high = np.nanpercentile(values, [10, 50, 90], axis=1)
        first, at = place == 1, {"row": place, "col": 1}
        add_band(figure, epochs, low, high, NEUTRAL, 0.2, name=f"80 % of {crowd}", showlegend=first, **at)
        line = {"color": NEUTRAL, "width": 1, "dash": "dot"}
        figure.add_scatter(
            x=epochs, y=middle, mode="lines", line=line, name="median", hoverinfo="skip", showlegend=False, **at
        )
        figure.add_scatter(
            x=epochs,
            y=values[:, 0],
            mode="lines+markers" if len(epochs) <= 40 else "lines",
            line={"color": ACCENT, "width": 2.5},
            marker={"size": 4},
            name="this sample",
            showlegend=first,
            hovertemplate=f"epoch %{{x}}: {field} %{{y:.2f}}<extra></extra>",
            **at,
        )
        figure.update_yaxes(nticks=3, **at)
        beside = {"xref": "x domain", "yref": "y domain", "x": 1.01, "y": 0.5, "xanchor": "left", "showarrow": False}
        figure.add_annotation(text=field, font={"size": 12, "color": TEXT}, **beside, **at)
        if field in NEUTRAL_AT:
            figure.add_hline(y=NEUTRAL_AT[field], line={"color": GRID, "width": 1.5}, **at)
    figure.add_vline(x=current, line={"color": NEUTRAL, "width": 1})
    bottom = {"row": len(courses), "col": 1}
    epoch_axis(figure, epochs, **bottom)
    figure.update_xaxes(title_standoff=0, **bottom)
    return styled(figure, height=52 + 49 * len(courses), legend=True).update_layout(margin_r=68)


def add_band(figure: go.Figure, x: Any, low: Any, high: Any, color: str, alpha: float = 0.18, **trace: Any) -> None:
    """A filled band between two courses over `x`, behind what is drawn after it."""
    figure.add_scatter(
        x=np.concatenate([x, x[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        mode="lines",
        line={"width": 0},
        fillcolor=transparent(color, alpha),
        hoverinfo="skip",
        **trace,
    )


def epoch_axis(figure: go.Figure, epochs: Sequence[int], **at: int) -> None:
    """Epochs across; a few of them have a tick each, for there is no half epoch. `at`: row and column of a subplot."""
    ticks = {"dtick": 1, "tick0": epochs[0]} if 0 < len(epochs) <= FEW_EPOCHS else {}
    figure.update_xaxes(title="epoch", **ticks, **at)


def wrapped(label: str) -> str:
    """A method's name, on several lines where its settings make it long."""
    return "<br>".join(textwrap.wrap(label, NARROW)) if len(label) > NARROW else label


def dashes(labels: Sequence[str], methods: Mapping[str, str]) -> dict[str, str]:
    """How each label's line is drawn: the oracle dotted, further variants of one method dashed; `methods`: label -> method."""
    drawn: dict[str, str] = {}
    for label in labels:
        before = sum(methods[other] == methods[label] for other in drawn)
        drawn[label] = "dot" if methods[label] == "oracle" else DASHES[before % len(DASHES)]
    return drawn


def styled(figure: go.Figure, height: int, legend: bool = False) -> go.Figure:
    """The house style of every figure: margins, legend above, grid and text that both themes can read."""
    figure.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 26 if legend else 8, "b": 8},
        showlegend=legend,
        legend={
            "orientation": "h",
            "x": 0,
            "y": 1.02,
            "xanchor": "left",
            "yanchor": "bottom",
            "traceorder": "normal",
        },
        font={"size": 13, "color": TEXT},
    )
    axis = {"automargin": True, "gridcolor": GRID, "zerolinecolor": NEUTRAL, "tickfont_color": TEXT}
    figure.update_xaxes(title_font={"size": 12, "color": TEXT}, **axis)
    figure.update_yaxes(title_font={"size": 12, "color": TEXT}, **axis)
    return figure


def _method_colors(methods: pd.DataFrame) -> list[str]:
    return [METHOD_COLORS.get(method, NEUTRAL) for method in methods["method"]]


def transparent(color: str, alpha: float) -> str:
    """'#D55E00' with this opacity, as css."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"
