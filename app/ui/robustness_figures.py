"""Figures of the robustness page, as pure functions: accuracy under noise, detection, agreement of rankings."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from app.ui.figures import TEXT, add_band, dashes, styled, transparent, wrapped
from app.ui.look import ACCENT, GOLD, METHOD_COLORS, NEUTRAL, VIOLET
from kdaif.runs.tables import rows

DETECTORS: Mapping[str, tuple[str, str, str]] = {  # name in `report.detectors` -> title, colour, dash
    "influence": ("Influence", ACCENT, "solid"),
    "weight": ("Weight", ACCENT, "dot"),
    "teacher_loss": ("Teacher's loss", GOLD, "solid"),
    "loss": ("Student's loss", VIOLET, "solid"),
    "mean_loss": ("Mean loss", VIOLET, "dot"),
    "aum": ("AUM", NEUTRAL, "solid"),
}


def noise_figure(table: pd.DataFrame, runs: pd.DataFrame) -> go.Figure:
    """Test accuracy in per cent against the share of wrong labels: mean, range and every seed of each method.

    `table`: label, method, noise, mean; `runs`: label, method, noise, seed, test_accuracy (shares).
    """
    figure = go.Figure()
    methods = dict(zip(table["label"], table["method"], strict=True))
    dash = dashes(sorted(methods, key=len), methods)
    for label, of_method in table.groupby("label", sort=False):
        method = of_method["method"].iloc[0]
        color = METHOD_COLORS.get(method, NEUTRAL)
        means = of_method.sort_values("noise")
        seeds = runs[runs["label"] == label]
        ends = 100 * seeds.groupby("noise")["test_accuracy"].agg(["min", "max"])
        add_band(figure, 100 * ends.index, ends["min"], ends["max"], color, showlegend=False, name=f"{label}, range")
        figure.add_scatter(
            x=100 * seeds["noise"],
            y=100 * seeds["test_accuracy"],
            customdata=seeds["seed"],
            mode="markers",
            marker={"size": 6, "color": color, "opacity": 0.6},
            showlegend=False,
            name=f"{label}, seeds",
            hovertemplate=f"{label}, seed %{{customdata}}: %{{y:.1f}} %<extra></extra>",
        )
        figure.add_scatter(
            x=100 * means["noise"],
            y=100 * means["mean"],
            mode="lines+markers",
            line={"color": color, "width": 2.5, "dash": dash[str(label)]},
            marker={"size": 9, "color": color, "symbol": "diamond"},
            name=wrapped(str(label)),
            hovertemplate=f"{label}, %{{x:.0f}} % wrong labels: mean %{{y:.1f}} %<extra></extra>",
        )
    figure.update_xaxes(title="wrong labels, % of the training samples")
    figure.update_yaxes(title="test accuracy, %")
    return styled(figure, height=270, legend=True)


def detection_figure(curves: pd.DataFrame, flipped: float) -> go.Figure:
    """Share of the wrong labels found against the share inspected, worst first; chance and a perfect order are marked.

    `curves`: detector, inspected, found (shares); `flipped`: share of the labels that are wrong.
    """
    figure = go.Figure()
    for name, (title, color, dash) in DETECTORS.items():
        of_detector = curves[curves["detector"] == name]
        if len(of_detector):
            figure.add_scatter(
                x=100 * of_detector["inspected"],
                y=100 * of_detector["found"],
                mode="lines",
                line={"color": color, "width": 3 if name == "influence" else 1.6, "dash": dash},
                name=title,
                hovertemplate=f"{title}: %{{y:.0f}} % found<extra></extra>",
            )
    reference = {"mode": "lines", "hoverinfo": "skip"}
    figure.add_scatter(
        x=[0, 100], y=[0, 100], name="chance", line={"color": NEUTRAL, "width": 1, "dash": "dash"}, **reference
    )
    figure.add_scatter(
        x=[0, 100 * flipped, 100],
        y=[0, 100, 100],
        name="perfect",
        line={"color": TEXT, "width": 1, "dash": "dot"},
        **reference,
    )
    figure.update_xaxes(title="inspected, % of the samples, most harmful first", range=[0, 100])
    figure.update_yaxes(title="wrong labels found, %", range=[0, 103])
    return styled(figure, height=270, legend=True)


def overlap_figure(curve: pd.DataFrame) -> go.Figure:
    """How much of the k most harmful samples both runs share, over k; `curve`: k, overlap, chance (shares)."""
    figure = go.Figure()
    figure.add_scatter(
        x=curve["k"],
        y=100 * curve["overlap"],
        mode="lines",
        line={"color": ACCENT, "width": 2.5},
        name="shared",
        hovertemplate="of the %{x:,} most harmful: %{y:.0f} % shared<extra></extra>",
    )
    figure.add_scatter(
        x=curve["k"],
        y=100 * curve["chance"],
        mode="lines",
        line={"color": NEUTRAL, "width": 1.2, "dash": "dash"},
        name="chance, k / n",
        hovertemplate="chance %{y:.0f} %<extra></extra>",
    )
    figure.update_xaxes(title="k most harmful samples of each run", rangemode="tozero")
    figure.update_yaxes(title="shared, %", range=[0, 103])
    return styled(figure, height=230, legend=True)


def stability_figure(pairs: pd.DataFrame) -> go.Figure:
    """Rank correlation of each pair of seeds, as a square; `pairs`: first, second (seeds), spearman (-1..1)."""
    seeds = sorted({*pairs["first"], *pairs["second"]})
    square = np.eye(len(seeds))
    for pair in rows(pairs):
        one, other = seeds.index(pair.first), seeds.index(pair.second)
        square[one, other] = square[other, one] = pair.spearman
    names = [f"seed {seed}" for seed in seeds]
    figure = go.Figure()
    figure.add_heatmap(
        x=names,
        y=names[::-1],
        z=square[::-1],
        text=np.vectorize("{:.2f}".format)(square[::-1]),
        texttemplate="%{text}" if len(seeds) <= 12 else None,
        colorscale=[[0, transparent(ACCENT, 0.05)], [1, transparent(ACCENT, 0.75)]],
        zmin=0,
        zmax=1,
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="%{x} and %{y}: %{z:.3f}<extra></extra>",
        name="Spearman",
    )
    figure.update_xaxes(showgrid=False)
    figure.update_yaxes(showgrid=False)
    return styled(figure, height=max(150, min(80 + 40 * len(seeds), 300)))
