"""Compare: KD-AIF beside vanilla KD and the oracle."""

import pandas as pd
import streamlit as st

from app.ui.controls import experiment_choice
from app.ui.figures import CONFIG, accuracy_figure, class_figure, curves_figure
from app.ui.look import GLOSSARY, percent, points
from app.ui.opening import nothing_yet, opening
from app.ui.sentences import compare_sentence
from app.ui.store import class_differences, curves_of, runs_frame
from kdaif.runs import open_run
from kdaif.runs.tables import METHODS, config_difference, method_table, rows


def curves(finished: pd.DataFrame) -> pd.DataFrame:
    st.subheader(
        "While training", help="Test accuracy after each epoch: the mean of the seeds, and their range behind it."
    )
    frame = curves_of(finished)
    st.plotly_chart(
        curves_figure(frame), key="curves", config=CONFIG, alt="Test accuracy over the epochs, one line a method"
    )
    return frame


def accuracies(methods: pd.DataFrame, runs: pd.DataFrame) -> None:
    st.subheader(
        "At the end",
        help="Test accuracy after the last epoch: a dot is a seed, the diamond their mean ± standard deviation.",
    )
    said = "; ".join(f"{row.label} {percent(row.mean, 1)}" for row in rows(methods))
    st.plotly_chart(accuracy_figure(methods, runs), key="accuracies", config=CONFIG, alt=f"Test accuracy: {said}")


def by_class(frame: pd.DataFrame, methods: pd.DataFrame, run_id: str) -> None:
    ours = methods[methods["method"] == "kd-aif"]["label"]
    if ours.empty or METHODS["kd"] not in set(methods["label"]):
        st.caption("This needs a finished run of KD-AIF and one of vanilla KD.")
        return
    differences = class_differences(frame, ours.iloc[0], METHODS["kd"], open_run(run_id).classes())
    ordered = differences.sort_values("difference")
    worst, best = ordered.iloc[0], ordered.iloc[-1]
    alt = (
        f"{ours.iloc[0]} against vanilla KD by class: from {points(worst['difference'])} points ({worst['class']}) "
        f"to {points(best['difference'])} ({best['class']})"
    )
    st.plotly_chart(class_figure(differences), key="classes", config=CONFIG, alt=alt)


def settings(finished: pd.DataFrame) -> None:
    newest = finished.drop_duplicates("label")
    table = config_difference([open_run(run_id).config() for run_id in newest["run_id"]])
    table.columns = [f"{row.label}, seed {row.seed}" for row in rows(newest)]
    st.dataframe(table, alt="Settings in which the newest run of each method differs")


def table_of(methods: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "Method": methods["label"],
            "Runs": methods["runs"],
            "Test accuracy": 100 * methods["mean"],
            "Std": 100 * methods["std"],
            "Gain": 100 * methods["gain"].astype(float),
            "Gap recovered": 100 * methods["oracle_gap_recovered"].astype(float),
        }
    )
    config = {
        "Test accuracy": st.column_config.NumberColumn(format="%.2f %%"),
        "Std": st.column_config.NumberColumn(format="%.2f", help="Standard deviation over the seeds, in points."),
        "Gain": st.column_config.NumberColumn(format="%+.2f", help="Points over vanilla KD, by seed, then averaged."),
        "Gap recovered": st.column_config.NumberColumn(format="%.0f %%", help=GLOSSARY["Gap recovered"]),
    }
    st.dataframe(shown, hide_index=True, column_config=config, alt="Accuracy of each method")


frame = runs_frame()
runs = frame[frame["state"] == "done"]
if runs.empty:
    nothing_yet("No run has finished yet, so there is nothing to compare.")
head = st.container()
experiment = experiment_choice()
runs = runs[runs["experiment"] == experiment]
if runs.empty:
    nothing_yet("No run of this experiment has finished yet.")
methods = method_table(runs)
with head:
    opening(compare_sentence(methods), runs["setting"].iloc[0])
left, right = st.columns(2, gap="large")
with left:
    accuracies(methods, runs)
with right:
    history = curves(runs)
classes_tab, figures_tab, settings_tab = st.tabs(["By class", "Figures", "Settings that differ"])
with classes_tab:
    by_class(history, methods, runs["run_id"].iloc[0])
with figures_tab:
    table_of(methods)
with settings_tab:
    settings(runs)
