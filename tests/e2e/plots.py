"""The plots of docs/results.md, drawn from its own tables: ``python -m tests.e2e.plots [OUT_DIR]``.

The tables are the one place where a figure is written down, so a plot cannot say anything else.
"""

import re
import sys
from pathlib import Path
from typing import NamedTuple

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from app.ui.look import ACCENT, GOLD, NEUTRAL
from tests.e2e.server import ROOT, browser

RESULTS = ROOT / "docs" / "results.md"
SIZE = {"width": 900, "height": 380}
INK, GRID = "#1B2127", "#E3E6E9"
STYLES = {"vanilla KD": (NEUTRAL, "circle"), "KD-AIF": (ACCENT, "diamond"), "oracle": (GOLD, "square")}


class Figure(NamedTuple):
    """What a cell of a table says: a mean, and its standard deviation where there is one."""

    mean: float
    std: float


def tables(section: str, text: str | None = None) -> list[list[dict[str, str]]]:
    """The tables of a section of results.md (its title's beginning), each a list of rows by column name.

    Raises KeyError for a section that there is not.
    """
    parts = re.split(r"^## ", RESULTS.read_text() if text is None else text, flags=re.MULTILINE)
    found = [part for part in parts if part.startswith(section)]
    if not found:
        raise KeyError(section)
    blocks = re.findall(r"(?:^\|.*\|\n?)+", found[0], re.MULTILINE)
    return [_rows(block) for block in blocks]


def _rows(block: str) -> list[dict[str, str]]:
    lines = [[cell.strip().strip("*") for cell in line.strip("|").split("|")] for line in block.splitlines()]
    return [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]


def figure_of(cell: str) -> Figure | None:
    """Of "65.6 ± 0.4", "0.950 0.948 0.945" (several seeds) or "1.18"; None where nothing was measured."""
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", cell)]
    if not numbers:
        return None
    if "±" in cell:
        return Figure(numbers[0], numbers[1])
    mean = sum(numbers) / len(numbers)
    return Figure(mean, (sum((number - mean) ** 2 for number in numbers) / max(1, len(numbers) - 1)) ** 0.5)


def by_noise() -> dict[str, dict[str, dict[float, Figure]]]:
    """Data -> method -> noise rate in % -> test accuracy in %."""
    digits: dict[str, dict[float, Figure]] = {name: {} for name in STYLES}
    for row in tables("Digits: what acting")[0]:
        for name in STYLES:
            if found := figure_of(row[name]):
                digits[name][float(row["noise"].rstrip(" %"))] = found
    cifar: dict[str, dict[float, Figure]] = {name: {} for name in STYLES}
    rate = 0.0
    for row in tables("CIFAR-10, 20,000")[0]:
        name = row[""].replace("**", "")
        if told := re.match(r"(\d+) %, ", name):
            rate, name = float(told[1]), name[told.end() :]
        if name in STYLES and (found := figure_of(row["mean ± std"])):
            cifar[name][rate] = found
    return {"digits, 5 seeds": digits, "CIFAR-10, 20,000 images, 3 seeds": cifar}


def accuracy_plot() -> go.Figure:
    """Accuracy of the student against the share of wrong labels."""
    found = by_noise()
    figure = make_subplots(1, len(found), subplot_titles=list(found), horizontal_spacing=0.09)
    for place, methods in enumerate(found.values(), 1):
        for name, points in methods.items():
            color, symbol = STYLES[name]
            figure.add_scatter(
                x=list(points),
                y=[point.mean for point in points.values()],
                error_y={"array": [point.std for point in points.values()], "thickness": 1.2, "width": 4},
                mode="lines+markers",
                line={"color": color, "width": 2.5},
                marker={"size": 9, "symbol": symbol},
                name=name,
                showlegend=place == 1,
                row=1,
                col=place,
            )
    figure.update_xaxes(title="wrong labels, %", dtick=20)
    figure.update_yaxes(title="test accuracy, %", col=1)
    return figure


def detection_plot() -> go.Figure:
    """AUROC for flipped labels on CIFAR-10 at 40 % noise, of every detector."""
    rows = next(table for table in tables("CIFAR-10, 20,000") if "mean" in table[0])
    rows = sorted(rows, key=lambda row: float(row["mean"]))
    names = [row["detector of flipped labels"] for row in rows]
    seeds = [[float(row[seed]) for seed in ("seed 0", "1", "2")] for row in rows]
    figure = go.Figure()
    figure.add_scatter(
        x=[value for values in seeds for value in values],
        y=[name for name, values in zip(names, seeds, strict=True) for _ in values],
        orientation="h",
        mode="markers",
        marker={"size": 7, "color": "white", "line": {"color": INK, "width": 1}},
        name="a seed",
    )
    figure.add_scatter(
        x=[float(row["mean"]) for row in rows],
        y=names,
        orientation="h",
        mode="markers",
        marker={"size": 15, "symbol": "line-ns", "line": {"width": 4, "color": [_own_color(name) for name in names]}},
        name="mean",
    )
    for name, row, values in zip(names, rows, seeds, strict=True):
        figure.add_annotation(x=max(values), y=name, text=row["mean"], xanchor="left", xshift=10, showarrow=False)
    figure.update_xaxes(title="AUROC for flipped labels, CIFAR-10, 40 % noise", range=[0.8, 1.0])
    return figure


def _own_color(detector: str) -> str:
    return ACCENT if detector.startswith("influence") else NEUTRAL


def overhead_plot() -> go.Figure:
    """A training step with influence over one of vanilla KD."""
    rows = next(table for table in tables("How exact and how fast") if len(table[0]) > 3)
    pairs = [name for name in rows[0] if name not in ("figure", "aim")]
    shown = {
        "step, last layer": "last layer",
        "step, all layers, mean over epochs (scored every third epoch)": "all layers",
    }
    figure = go.Figure()
    for row, color in zip((row for row in rows if row["figure"] in shown), (ACCENT, GOLD), strict=True):
        values = [_percent_more(row[pair]) for pair in pairs]
        figure.add_bar(
            x=pairs,
            y=values,
            name=shown[row["figure"]],
            marker={"color": color},
            text=[f"+{value:.0f} %" for value in values],
            textposition="outside",
        )
        aim = _percent_more(row["aim"])
        line = {"color": color, "dash": "dot"}
        figure.add_hline(aim, line=line, annotation={"text": f"aim +{aim:.0f} %", "xanchor": "right", "x": 1.0})
    figure.update_yaxes(title="time of a step over vanilla KD's, %", range=[0, 32])
    return figure


def _percent_more(ratio: str) -> float:
    return 100 * (float(ratio) - 1)


PLOTS = {"results-accuracy": accuracy_plot, "results-detection": detection_plot, "results-overhead": overhead_plot}


def draw(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        page = chromium.new_page(viewport=SIZE, device_scale_factor=2)
        for name, make in PLOTS.items():
            figure = make()
            figure.update_layout(
                **SIZE,
                template="plotly_white",
                font={"family": "Source Sans Pro, DejaVu Sans, sans-serif", "size": 14, "color": INK},
                margin={"l": 60, "r": 20, "t": 70, "b": 55},
                legend={"orientation": "h", "y": 1.3, "x": 1, "xanchor": "right"},
            )
            figure.update_xaxes(automargin=True, gridcolor=GRID)
            figure.update_yaxes(automargin=True, gridcolor=GRID)
            page.set_content(figure.to_html(include_plotlyjs=True, config={"staticPlot": True}))
            page.wait_for_selector(".main-svg")
            page.wait_for_timeout(300)
            page.screenshot(path=out / f"{name}.png")


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images")
