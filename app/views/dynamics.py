"""Dynamics: how the weights move while the student learns, and which samples are easy, ambiguous or hard."""

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.controls import csv_button, epoch_choice, run_choice, runs_with_epochs, sample_choice
from app.ui.dynamics_figures import bands_figure, heat_figure, map_figure
from app.ui.figures import CONFIG
from app.ui.filters import filter_choice, with_range, words_choice
from app.ui.look import ACCENT, GLOSSARY, NEUTRAL, VERDICT_COLORS
from app.ui.opening import nothing_yet, opening
from app.ui.sentences import dynamics_sentence, steady_sentence
from app.ui.store import course_of, samples_of, values_of
from kdaif.metrics.dynamics import bands, stratified
from kdaif.runs import Run
from kdaif.runs.tables import HARMFUL_WEIGHT

POINTS = 5000  # samples drawn in a map
BAND = 2000  # samples that stand for a group in its median and band
LISTED = 1000  # rows of the table on the page; the download has all
MOVES = 1e-3  # a field moves if any sample's standard deviation over the epochs is above this


def pick(key: str) -> None:
    """A click on a point makes it the primary sample."""
    points = st.session_state[key]["selection"]["points"]
    if points and "customdata" in points[0]:
        row = points[0]["customdata"]
        st.session_state["sample"] = int(row[0] if isinstance(row, list | tuple) else row)


def said(run: Run, epoch: int, moving: bool) -> str:
    """The page's sentence."""
    epochs = [number for number in run.epochs() if number <= epoch]
    if moving:
        middle = epochs[(len(epochs) - 1) // 2]
        now, half = (run.epoch(n, ["weight"])["weight"].to_numpy() < HARMFUL_WEIGHT for n in (epoch, middle))
        return dynamics_sentence(now, half, (epoch, middle))
    first, last = (np.exp(-run.epoch(n, ["loss"])["loss"].to_numpy()) for n in (epochs[0], epoch))
    return steady_sentence(
        run.config().method, len(last), float(np.nanmean(first)), float(np.nanmean(last)), len(epochs)
    )


def mapped(table: pd.DataFrame, chosen: np.ndarray, fields: list[str], run: Run) -> pd.DataFrame:
    """Every sample with mean and variability of the fields; index = row."""
    points = table[["id", "given", "flipped", "verdict"]].assign(selected=np.isin(np.arange(len(table)), chosen))
    for field in fields:
        of_field, _ = course_of(run, field)
        points[f"{field}_mean"], points[f"{field}_std"] = of_field
    return points


def spread(run: Run, field: str, epoch: int) -> None:
    st.subheader(
        f"{field.capitalize()} over the epochs",
        anchor=False,
        help=f"Each column is an epoch; the darker, the more samples have that {field}. {GLOSSARY[field.capitalize()]}",
    )
    st.plotly_chart(
        heat_figure(run.epochs(), course_of(run, field)[1], field, epoch),
        key="heat",
        config=CONFIG,
        alt=f"Heat map: share of the samples by {field} at each of {len(run.epochs())} epochs",
    )


def courses(run: Run, points: pd.DataFrame, field: str, epoch: int, sample: int | None) -> None:
    """The selection against the rest; where all samples are selected, the verdicts against each other."""
    if points["selected"].all() or not points["selected"].any():
        colors = {verdict: color for verdict, color in VERDICT_COLORS.items() if (points["verdict"] == verdict).any()}
        member = points["verdict"].to_numpy()
        title, against = "By verdict", "Select samples above to see them against the rest."
    else:
        colors = {"rest": NEUTRAL, "selection": ACCENT}
        member = np.where(points["selected"], "selection", "rest")
        title, against = "Selection against the rest", f"{points['selected'].sum():,} samples are selected."
    st.subheader(title, anchor=False, help=f"Median of each group; behind it the middle 80 % of its samples. {against}")
    rng, epochs, frames = np.random.default_rng(0), run.epochs(), []
    for name in colors:
        rows = rng.permutation(np.flatnonzero(member == name))[:BAND]
        low, middle, high = bands(values_of(run, field, np.sort(rows))).T[:, : len(epochs)]
        frames.append(pd.DataFrame({"group": name, "epoch": epochs, "low": low, "middle": middle, "high": high}))
    own = None if sample is None else values_of(run, field, np.array([sample]))[: len(epochs), 0]
    st.plotly_chart(
        bands_figure(epochs, pd.concat(frames), colors, own, field, epoch),
        key="courses",
        config=CONFIG,
        alt=f"Median {field} over the epochs of " + " and ".join(colors),
    )


def data_map(points: pd.DataFrame, field: str, title: str, meaning: str, sample: int | None) -> None:
    st.subheader(title, anchor=False, help=meaning)
    key = f"map of {field}"
    st.plotly_chart(
        map_figure(points, field, sample),
        key=key,
        on_select=lambda: pick(key),
        selection_mode="points",
        config=CONFIG,
        alt=f"{title}: mean and variability over the epochs of the {field} of {len(points):,} samples",
    )


def export(selected: pd.DataFrame, run: Run, epoch: int) -> None:
    csv_button(
        f"Export {len(selected):,} samples",
        lambda: selected.assign(run_id=run.id, epoch=epoch, seed=run.config().seed).to_csv(index_label="row"),
        f"{run.id}-epoch{epoch}-dynamics",
        "export",
        "Mean and variability of the selected samples as csv, with run, epoch and seed beside every figure.",
        selected.empty,
    )


def listed(selected: pd.DataFrame, fields: list[str]) -> None:
    """The selected samples, what moved most first."""
    shown = selected.drop(columns="selected").sort_values(f"{fields[0]}_std", ascending=False).head(LISTED)
    if len(selected) > LISTED:
        st.caption(f"The {LISTED:,} that moved most of {len(selected):,} selected samples; the export has all.")
    number = st.column_config.NumberColumn(format="%.3f")
    names = {f"{field}_{part}": number for field in fields for part in ("mean", "std")}
    st.dataframe(shown, column_config=names, height=260, alt="Selected samples, what moved most first")


if runs_with_epochs().empty:
    nothing_yet("No run has recorded an epoch yet, so nothing has moved.")
head = st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    run = run_choice(400)
    epoch = epoch_choice(run)
    table = samples_of(run, epoch)
    narrowed = filter_choice(run, table)
with st.container(horizontal=True, vertical_alignment="bottom", gap="small"):
    words = words_choice()
    selection = with_range(narrowed, table, words)
    sample = sample_choice(len(table))
    tools = st.container(width="content")
moving = float(np.nanmax(course_of(run, selection.field)[0].std, initial=0)) > MOVES
field = selection.field if moving else "confidence"
fields = [selection.field, "confidence"] if moving else ["confidence"]
points = mapped(table, selection.rows(table), fields, run)
strata = points.groupby(["verdict", "selected"]).ngroup().to_numpy()
drawn = stratified(strata, POINTS)
if sample is not None:
    drawn = np.union1d(drawn, [sample])
with head:
    opening(said(run, epoch, moving))
with tools:
    export(points[points["selected"]], run, epoch)
if not points["selected"].any():
    st.info("No sample is selected: widen the filters or clear the range.", icon=":material/filter_alt_off:")
left, right = st.columns(2, gap="large")
with left:
    spread(run, field, epoch)
    if moving:
        data_map(
            points.iloc[drawn],
            field,
            f"Data map of the {field}",
            f"{GLOSSARY['Data map']} A click picks a sample.",
            sample,
        )
with right:
    courses(run, points, field, epoch, sample)
with right if moving else left:
    classic = (
        "Mean and standard deviation over the epochs of the probability of the given label (Swayamdipta et al., 2020)."
    )
    data_map(points.iloc[drawn], "confidence", "Classic data map", f"{classic} {GLOSSARY['Confidence']}", sample)
if len(drawn) < len(points):
    st.caption(f"The maps draw {len(drawn):,} of {len(points):,} samples, an equal share of every verdict.")
listed(points[points["selected"]], fields)
