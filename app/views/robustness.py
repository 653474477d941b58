"""Robustness: how accuracy holds under wrong labels, how well they are found, and whether rankings can be trusted."""

from itertools import combinations

import numpy as np
import pandas as pd
import streamlit as st

from app.ui.controls import csv_button, linked_choice, run_choice, runs_with_epochs
from app.ui.figures import CONFIG
from app.ui.look import GLOSSARY, percent
from app.ui.opening import nothing_yet, opening
from app.ui.robustness_figures import DETECTORS, detection_figure, noise_figure, overlap_figure, stability_figure
from app.ui.sentences import robustness_sentence
from app.ui.store import agreement_of, detection_of, noise_table, runs_frame, shared_of
from kdaif.metrics.ranking import top_k_overlap
from kdaif.runs import Run, open_run
from kdaif.runs.tables import rows

MARKS = 60  # values of k at which the overlap is drawn
TOP = 100  # k of the figures


def download(table: pd.DataFrame, name: str, key: str) -> None:
    meaning = "The figures as csv, with run, epoch and seed beside each."
    csv_button("Download", lambda: table.to_csv(index=False), name, key, meaning)


def accuracy(table: pd.DataFrame, runs: pd.DataFrame) -> None:
    st.subheader(
        "Accuracy under wrong labels",
        anchor=False,
        help="Test accuracy after the last epoch: the mean of the seeds (diamond), each seed (dot), their range behind. "
        f"{GLOSSARY['Oracle']}",
    )
    said = "; ".join(f"{row.label} at {percent(row.noise)}: {percent(row.mean, 1)}" for row in rows(table))
    st.plotly_chart(
        noise_figure(table, runs), key="rates", config=CONFIG, alt=f"Test accuracy by share of wrong labels: {said}"
    )
    if table["noise"].min() == table["noise"].max():
        st.caption("One noise rate so far: `kdaif sweep` with `--noise 0,0.2,0.4` draws the curve.")


def detection(run: Run) -> None:
    st.subheader(
        "Wrong labels found",
        anchor=False,
        help=f"{GLOSSARY['Detection curve']} Measured in the run that is open, beside detectors that cost nothing more.",
    )
    found = detection_of(run)
    if found is None:
        st.caption("Which labels of this run are wrong is not known (or none is), so nothing can be counted.")
        return
    curves, auroc, flipped = found
    said = ", ".join(f"{title} {auroc[name]:.3f}" for name, (title, *_) in DETECTORS.items() if name in auroc)
    st.plotly_chart(
        detection_figure(curves, flipped),
        key="detection",
        config=CONFIG,
        alt=f"Share of the wrong labels found by share inspected; area under the ROC curve: {said}",
    )


def agreement(run: Run, others: pd.DataFrame) -> None:
    """The open run's ranking beside another run's."""
    titles = {row.run_id: f"{row.label}, seed {row.seed} · {row.setting} · {row.run_id}" for row in rows(others)}
    other = open_run(
        linked_choice(
            "Against",
            list(titles),
            next(iter(titles)),
            "against",
            titles,
            "Another run on the same data; only samples that both hold under the same given label are ranked.",
        )
    )
    scores = shared_of(run, other)
    if len(scores) < 2:
        st.caption("These two runs share no sample with the same given label.")
        return
    found = agreement_of(run, other, TOP)
    with st.container(horizontal=True, gap="small"):
        st.metric("RGR", f"{found['rgr']:.2f}", help=GLOSSARY["RGR"], border=True, height="stretch")
        st.metric("Spearman", f"{found['spearman']:.2f}", help=GLOSSARY["Spearman"], border=True, height="stretch")
        st.metric("Kendall tau", f"{found['kendall']:.2f}", help=GLOSSARY["Kendall tau"], border=True, height="stretch")
        st.metric(
            f"Top-{found['k']} overlap",
            percent(found["overlap"]),
            f"chance {percent(found['chance'])}",
            delta_color="off",
            delta_arrow="off",
            help=GLOSSARY["Top-k overlap"],
            border=True,
            height="stretch",
        )
    ks = np.unique(np.linspace(1, len(scores), MARKS).astype(int))
    overlaps = [top_k_overlap(scores["first"], scores["second"], int(k)) for k in ks]
    curve = pd.DataFrame(overlaps, columns=["overlap", "chance"]).assign(k=ks)
    st.plotly_chart(
        overlap_figure(curve),
        key="overlap",
        config=CONFIG,
        alt=f"Share of the k most harmful samples that both runs name, out of {found['shared']:,} shared samples",
    )
    st.caption(f"{found['shared']:,} samples stand in both runs with the same given label.")
    identity = {"run_id": run.id, "epoch": run.epochs()[-1], "seed": run.config().seed}
    beside = {"against": other.id, "against_epoch": other.epochs()[-1], "against_seed": other.config().seed}
    download(pd.DataFrame([{**identity, **beside, **found}]), f"{run.id}-agreement", "download_agreement")


def stability(alike: pd.DataFrame) -> None:
    """Every pair of seeds of one method and setting."""
    pairs = pd.DataFrame(
        [
            {"first": one.seed, "second": other.seed, "run_id": one.run_id, "against": other.run_id}
            | {"epoch": one.epoch, "against_epoch": other.epoch}
            | agreement_of(open_run(one.run_id), open_run(other.run_id), TOP)
            for one, other in combinations(rows(alike.sort_values("seed")), 2)
        ]
    )
    st.markdown(
        f"Between seeds the ranks correlate at **{pairs['spearman'].mean():.2f}** (Spearman, mean of {len(pairs)} pairs; RGR "
        f"{pairs['rgr'].mean():.2f}, chance 0.5); "
        f"**{percent(pairs['overlap'].mean())}** of the {TOP} most harmful samples are shared, "
        f"{percent(pairs['chance'].mean())} by chance.",
        help="Seeds differ in the split, in which labels are wrong and in the networks' first weights; only samples with "
        "the same given label in both are compared.",
    )
    st.plotly_chart(
        stability_figure(pairs),
        key="stability",
        config=CONFIG,
        alt="Spearman correlation of the ranks for each pair of seeds",
    )
    download(pairs, "stability", "download_stability")


def figures(table: pd.DataFrame, runs: pd.DataFrame) -> None:
    shown = pd.DataFrame(
        {
            "Wrong labels": 100 * table["noise"],
            "Method": table["label"],
            "Runs": table["runs"],
            "Test accuracy": 100 * table["mean"],
            "Std, points": 100 * table["std"].astype(float),
            "Gap recovered": 100 * table["oracle_gap_recovered"].astype(float),
        }
    )
    config = {
        "Wrong labels": st.column_config.NumberColumn(format="%.0f %%"),
        "Test accuracy": st.column_config.NumberColumn(format="%.2f %%"),
        "Std, points": st.column_config.NumberColumn(format="%.2f", help="Standard deviation over the seeds."),
        "Gap recovered": st.column_config.NumberColumn(format="%.0f %%", help=GLOSSARY["Gap recovered"]),
    }
    st.dataframe(shown, hide_index=True, column_config=config, placeholder="–", alt="Accuracy by noise rate and method")
    listed = runs[["run_id", "epoch", "seed", "noise", "label", "test_accuracy", "flipped_auroc"]]
    download(listed, "robustness", "download_figures")


if runs_with_epochs().empty:
    nothing_yet("No run has recorded an epoch yet, so nothing can be said about robustness.")
head = st.container()
run = run_choice()
frame = runs_frame()
opened = frame[frame["run_id"] == run.id].iloc[0]
family = frame[frame["family"] == opened["family"]]
done = family[(family["state"] == "done") & family["test_accuracy"].notna()]
done = done.drop_duplicates(["label", "noise", "seed"])  # the newest run of a seed counts
table = noise_table(done)
with head:
    opening(robustness_sentence(done) if len(table) else "No run on these data and networks has finished yet.")
left, right = st.columns(2, gap="large")
with left:
    if len(table):
        accuracy(table, done)
with right:
    detection(run)
ranked_tab, seeds_tab, figures_tab = st.tabs(
    ["Ranks between two runs", "Stability over seeds", "Figures"], key="ranked", on_change="rerun", bind="query-params"
)
weighted = family[(family["method"] == "kd-aif") & (family["epoch"] > 0)]
others = weighted[weighted["run_id"] != run.id]
if ranked_tab.open:
    with ranked_tab:
        if opened["method"] != "kd-aif" or others.empty:
            st.caption("This needs two KD-AIF runs on the same data, and one of them open above.")
        else:
            agreement(run, others)
if seeds_tab.open:
    alike = weighted[(weighted["experiment"] == opened["experiment"]) & (weighted["label"] == opened["label"])]
    alike = alike[alike["state"] == "done"].drop_duplicates("seed").head(8)
    with seeds_tab:
        if len(alike) < 2:
            st.caption("This needs finished KD-AIF runs of the open run's setting with two seeds or more.")
        else:
            stability(alike)
if figures_tab.open:
    with figures_tab:
        if len(table):
            figures(table, done)
        else:
            st.caption("No run on these data and networks has finished yet.")
