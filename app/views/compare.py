"""Compare: runs beside a reference: KD-AIF beside vanilla KD and the oracle, or whatever is chosen."""

import pandas as pd
import streamlit as st

from app.ui.controls import KEPT, csv_button, experiment_choice
from app.ui.figures import CONFIG, accuracy_figure, curves_figure
from app.ui.look import GLOSSARY, percent, points
from app.ui.opening import nothing_yet, opening
from app.ui.sentences import compare_sentence
from app.ui.side_by_side import (
    FEW_CLASSES,
    class_accuracies,
    classes_figure,
    confusion,
    confusion_figure,
    confusion_pairs,
    costs,
    names_of,
    ranks,
)
from app.ui.store import curves_of, runs_frame
from kdaif.runs import Run, open_run
from kdaif.runs.tables import config_difference, method_table, rows


def curves(finished: pd.DataFrame) -> None:
    st.subheader(
        "While training", help="Test accuracy after each epoch: the mean of the seeds, and their range behind it."
    )
    frame = curves_of(finished)
    st.plotly_chart(
        curves_figure(frame), key="curves", config=CONFIG, alt="Test accuracy over the epochs, one line a method"
    )


def accuracies(methods: pd.DataFrame, runs: pd.DataFrame) -> None:
    st.subheader(
        "At the end",
        help="Test accuracy after the last epoch: a dot is a seed, the diamond their mean ± standard deviation.",
    )
    said = "; ".join(f"{row.label} {percent(row.mean, 1)}" for row in rows(methods))
    st.plotly_chart(accuracy_figure(methods, runs), key="accuracies", config=CONFIG, alt=f"Test accuracy: {said}")


def chosen_runs(finished: pd.DataFrame) -> dict[str, Run]:
    """Two runs or more by name, the first of them the reference: at first a seed of vanilla KD, KD-AIF and the oracle each."""
    names = names_of([open_run(run_id) for run_id in finished["run_id"]], list(finished["label"]))
    table = finished.reset_index(drop=True)
    ours = table.loc[table["method"] == "kd-aif", "seed"]
    table["other seed"] = table["seed"] != (ours if len(ours) else table["seed"]).iloc[0]
    table["place"] = table["method"].map({"kd": 0, "kd-aif": 1, "oracle": 2}).fillna(3)
    front = table.sort_values(["place", "other seed"], kind="stable").drop_duplicates("method")
    default = [list(names)[place] for place in front.index[:3]]
    if any(name not in names for name in st.session_state.get("runs") or []):
        del st.session_state["runs"]
    picked = st.multiselect(
        "Runs, the reference first",
        list(names),
        default,
        key="runs",
        bind="query-params",
        max_selections=4,
        help="Everything below is told as a difference to the first run.",
    )
    return {name: names[name] for name in picked}


def by_class(runs: dict[str, Run]) -> None:
    accuracies = class_accuracies(runs)
    reference, other = accuracies.columns[:2]
    difference = (accuracies[other] - accuracies[reference]).sort_values()
    alt = (
        f"{other} against {reference} by class: from {points(difference.iloc[0])} points ({difference.index[0]}) "
        f"to {points(difference.iloc[-1])} ({difference.index[-1]})"
    )
    st.plotly_chart(classes_figure(accuracies), key="classes", config=CONFIG, alt=alt)


def confusions(runs: dict[str, Run]) -> None:
    reference, *others = runs
    other = st.selectbox("Against the reference", others, key="confused", width=330) if len(others) > 1 else others[0]
    difference = confusion(runs[other]) - confusion(runs[reference])
    st.caption(
        f"{other} less {reference}, in points of each class's training samples after the last epoch; true labels where they are "
        "known. Green is better: more on the diagonal, less beside it."
    )
    if len(difference) <= FEW_CLASSES:
        alt = f"How much more often {other} takes a class for another than {reference}"
        st.plotly_chart(confusion_figure(difference), key="confusion", config=CONFIG, alt=alt)
    else:
        st.dataframe(confusion_pairs(difference), hide_index=True, alt="Pairs of classes that changed most")


def same_samples(runs: dict[str, Run]) -> None:
    table = ranks(runs, st.session_state.get(KEPT, {}).get("sample", (None,))[0])
    if table.empty:
        st.caption("These runs share no sample with the same given label.")
        return
    st.caption(
        "The rank that each run gives to the same sample under the same label, 1 = most harmful (by the loss where a run "
        "measures no influence); what shifted most between the first and the last run comes first, after the open sample."
    )
    st.dataframe(table, hide_index=True, height=240, alt="Ranks of the same samples in each run")
    csv_button("Download", lambda: table.to_csv(index=False), "ranks", "download_ranks", "The table as csv.")


def sizes(runs: dict[str, Run]) -> None:
    table = costs(runs)
    number = st.column_config.NumberColumn
    config = {
        "Parameters": number(format="localized", help="Numbers that the student learns."),
        "Teacher's": number(format="localized"),
        "Times smaller": number(format="%.1f ×", help="The teacher's parameters over the student's."),
        "File, MB": number(format="%.2f"),
        "Accuracy": number(format="%.1f %%", help="Test accuracy after the last epoch."),
        "Teacher's accuracy": number(format="%.1f %%"),
        "Epoch, s": number(format="%.1f", help="Mean wall-clock time of an epoch of the student."),
        "On influence": number(format="%.0f %%", help="Share of an epoch's time spent on influence."),
        "Image, ms": number(format="%.3f", help="In batches of 100; measured on the SAFE card."),
        "Times faster": number(format="%.1f ×", help="The teacher's time an image over the student's."),
    }
    st.dataframe(table, hide_index=True, column_config=config, placeholder="–", alt="Size and speed of each run")
    if table["Image, ms"].isna().any():
        st.caption("Speed is measured on the SAFE card of a run.")


def settings(runs: dict[str, Run]) -> None:
    table = config_difference([run.config() for run in runs.values()])
    table.columns = list(runs)
    st.dataframe(table, alt="Settings in which the chosen runs differ")


def table_of(methods: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "Method": methods["label"],
            "Runs": methods["runs"],
            "Test accuracy": 100 * methods["mean"],
            "Std, points": 100 * methods["std"],
            "Gain, points": 100 * methods["gain"].astype(float),
            "Gap recovered": 100 * methods["oracle_gap_recovered"].astype(float),
        }
    )
    config = {
        "Test accuracy": st.column_config.NumberColumn(format="%.2f %%"),
        "Std, points": st.column_config.NumberColumn(format="%.2f", help="Standard deviation over the seeds."),
        "Gain, points": st.column_config.NumberColumn(format="%+.2f", help="Over vanilla KD, by seed, then averaged."),
        "Gap recovered": st.column_config.NumberColumn(format="%.0f %%", help=GLOSSARY["Gap recovered"]),
    }
    st.dataframe(shown, hide_index=True, column_config=config, placeholder="–", alt="Accuracy of each method")


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
    curves(runs)
chosen = chosen_runs(runs)
PARTS = {"By class": by_class, "Confusions": confusions, "Ranks": same_samples, "Size and speed": sizes}
*tabs, settings_tab, figures_tab = st.tabs(
    [*PARTS, "Settings that differ", "Figures"], key="compared", on_change="rerun", bind="query-params"
)
for tab, (title, part) in zip(tabs, PARTS.items(), strict=True):
    if tab.open:
        with tab:
            if title == "Confusions" and any(run.numbers for run in chosen.values()):
                st.caption("The labels of these runs are numbers, which are not confused as classes are.")
            elif len(chosen) < 2 and title != "Size and speed":
                st.caption("This needs a finished run beside the reference.")
            elif chosen:
                part(chosen)
if settings_tab.open and chosen:
    with settings_tab:
        settings(chosen)
if figures_tab.open:
    with figures_tab:
        table_of(methods)
