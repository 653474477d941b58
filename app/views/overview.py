"""Overview: what acting on influence gained, the worst samples at a glance, and where every run stands."""

from typing import Any

import pandas as pd
import streamlit as st

from app.ui.controls import experiment_choice
from app.ui.figures import CONFIG, gain_figure
from app.ui.gallery import gallery
from app.ui.look import GLOSSARY, STATE_WORDS, percent, points
from app.ui.opening import opening
from app.ui.progress import demo_button, live_progress, something_lives
from app.ui.sentences import overview_sentence
from app.ui.sorting import judged
from app.ui.store import runs_frame, samples_of
from kdaif.config import UserError
from kdaif.runs import Run, list_runs, open_run
from kdaif.runs.tables import best_variant, method_table, rows, verdict_counts

WORST = 8  # samples on show


STEPS = {
    ":material/school: Distil": "A small student network learns from a big teacher and from labels that nobody has "
    "fully checked.",
    ":material/balance: Weigh": "While it learns, every training sample's influence on the validation loss is measured. "
    "Samples that harm count less.",
    ":material/search: See": "You look at the samples that harm, wrong labels first, and at what leaving them out has gained.",
}


def welcome() -> None:
    """The first thing anybody sees: what this is for, and one button."""
    opening("Which training samples help your student network, and which harm it?")
    with st.grid(3, gap="small", border=True):
        for title, text in STEPS.items():
            st.markdown(f"#### {title}\n{text}")
    live_progress()
    if not something_lives():
        demo_button("Run the demo")
    st.caption(
        "The demo puts wrong labels on 40 % of scikit-learn's handwritten digits, then trains vanilla KD, KD-AIF and an "
        "oracle that knows which labels are wrong. It needs no network and takes less than two minutes."
    )


def report(frame: pd.DataFrame) -> None:
    """The newest experiment (or the chosen one) in a sentence, a figure and its worst samples; then all runs."""
    head = st.container()
    experiment = experiment_choice()
    runs = frame[frame["experiment"] == experiment]
    methods = method_table(runs)
    best = best_variant(methods)
    done = runs[runs["state"] == "done"]
    weighted = done.iloc[:0] if best is None else done[done["label"] == best["label"]]
    run = open_run(weighted["run_id"].iloc[0]) if len(weighted) else None
    table = sound_samples(run) if run else None
    counts = verdict_counts(table) if table is not None else None
    with head:
        sentence = overview_sentence(methods, counts) if len(methods) else "No run of this experiment has finished yet."
        opening(sentence, runs["setting"].iloc[0])
        live_progress()
    left, right = st.columns(2, gap="large")
    with left:
        gains(methods)
    with right:
        figures(methods, counts, weighted)
        runs_list(frame)
    if run and table is not None:
        worst(run, table)


def sound_samples(run: Run) -> pd.DataFrame | None:
    """The samples after the last epoch; a sentence in their place where a file is damaged."""
    try:
        return samples_of(run, run.epochs()[-1])
    except UserError as error:
        st.error(str(error), icon=":material/error:")
        return None


def gains(methods: pd.DataFrame) -> None:
    """The gain over vanilla KD, by method."""
    st.subheader(
        "Gain over vanilla KD",
        anchor=False,
        help=f"{GLOSSARY['Vanilla KD']} A white dot is one seed, a bar their mean.",
    )
    if (methods["gain"].notna() & (methods["method"] != "kd")).any():
        said = "; ".join(f"{row.label} {points(row.gain)} points" for row in rows(methods) if pd.notna(row.gain))
        st.plotly_chart(gain_figure(methods), key="gains", config=CONFIG, alt=f"Gain over vanilla KD: {said}")
    else:
        st.caption(
            "It shows as soon as a run with `method: kd` and one with `method: kd-aif` have finished on this setting."
        )


def figures(methods: pd.DataFrame, counts: dict[str, Any] | None, weighted: pd.DataFrame) -> None:
    """What can be said in one figure each, with its help; `weighted`: the done runs of the best KD-AIF."""
    shown = {}
    ours = methods[methods["label"].isin(weighted["label"])]
    if len(ours):
        shown["Test accuracy"] = percent(ours["mean"].iloc[0], 1), GLOSSARY["KD-AIF"]
    if counts and counts["recall"] is not None:
        shown["Flips found"] = percent(counts["recall"]), "Share of the flipped labels that look harmful."
    if weighted["flipped_auroc"].notna().any():
        shown["AUROC"] = f"{weighted['flipped_auroc'].mean():.3f}", GLOSSARY["AUROC"]
    with st.container(horizontal=True, gap="small"):
        for name, (value, meaning) in shown.items():
            st.metric(name, value, help=meaning, border=True, height="stretch")


def runs_list(frame: pd.DataFrame) -> None:
    """All runs with state and result; a row opens in Samples."""

    def opened() -> None:
        run_id = frame["run_id"].iloc[st.session_state["open_run"]["row"]]
        st.switch_page("views/samples.py", query_params={"run": run_id})

    shown = pd.DataFrame(
        {
            "Method": frame["label"],
            "Seed": frame["seed"],
            "State": frame["state"].map(STATE_WORDS),
            "Epochs": frame["epoch"] / frame["epochs"].clip(lower=1),
            "Accuracy": 100 * frame["test_accuracy"].astype(float),
            "Open": "Open",
            "Setting": frame["setting"],
            "AUROC": frame["flipped_auroc"].astype(float),
            "Run": frame["run_id"],
            "Note": frame["message"],
        }
    )
    config: dict[str, Any] = {
        "Seed": st.column_config.NumberColumn(width=50),
        "Epochs": st.column_config.ProgressColumn(format="percent", min_value=0, max_value=1, width=90),
        "Accuracy": st.column_config.NumberColumn(format="%.1f %%", help="Test accuracy after the last epoch."),
        "AUROC": st.column_config.NumberColumn(format="%.3f", help=GLOSSARY["AUROC"]),
        "Open": st.column_config.ButtonColumn("", on_click=opened, key="open_run", type="tertiary"),
    }
    st.dataframe(
        shown,
        hide_index=True,
        column_config=config,
        height=min(35 * len(shown) + 38, 180),
        placeholder="–",
        alt="All runs, newest first",
    )


def worst(run: Run, table: pd.DataFrame) -> None:
    """The most harmful samples; a click opens one."""

    def pick(row: int) -> None:
        st.switch_page("views/samples.py", query_params={"run": run.id, "sample": str(row)})

    most = table[table["rank"] < WORST].sort_values("rank")  # to sort the whole of a million takes a second
    title = "Most harmful samples" if judged(table) else "Samples of lowest influence"
    gallery({title: most}, run.inputs(), None, "worst", pick, WORST)


def broken_folders() -> None:
    errors = [summary.error for summary in list_runs() if summary.error]
    if errors:
        folders = "1 folder" if len(errors) == 1 else f"{len(errors)} folders"
        with st.expander(f"{folders} among the runs could not be read", icon=":material/warning:"):
            for error in errors:
                st.text(error)


frame = runs_frame()
if frame.empty:
    welcome()
else:
    report(frame)
    if not something_lives():
        demo_button("Run the demo again", primary=False)
broken_folders()
