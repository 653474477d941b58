"""What the run folders say of samples: the most harmful, how well they are found, how runs differ. No torch."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from kdaif.config import UserError
from kdaif.metrics.detection import auroc, precision_at_k, recall_at_share
from kdaif.metrics.ranking import spearman, top_k_overlap
from kdaif.metrics.residuals import far
from kdaif.metrics.safe import rank_robustness, rga
from kdaif.runs import Run
from kdaif.runs.tables import gap_recovered

# of a sample's visits; runs of older versions have not all of them
MEASURED = ("influence_spread", "visits", "harmful_visits", "influence_label", "influence_teacher")
DISPUTE_CONFIDENCE = 0.5  # a teacher less sure than this suggests no other label


_WHERE_KNOWN = ("flipped", "corrupted", "text", "text_pair", "rating", "rating_spread")


def sample_table(run: Run, epoch: int | None = None) -> pd.DataFrame:
    """Samples and their values at an epoch, one row each, with `given_label` and `suggested_label` by name.

    The suggestion is the teacher's class where it disagrees and is sure enough (its number, where it is far from the given
    one), else the given label.
    Raises `UserError` for a run without influence (methods other than kd-aif) or without epochs.
    """
    frame = pd.concat([run.samples(), run.epoch(epoch)], axis=1)
    if frame["influence"].isna().all():
        raise UserError(
            f"run: {run.id} is of method {run.config().method}, which measures no influence; takes a kd-aif run."
        )
    if run.numbers:
        given, said = frame["value"].to_numpy(), frame["teacher_value"].to_numpy()
        suggested = np.where(far(said, given), said, given)
    else:
        given = frame["label"].to_numpy()
        sure = (frame["teacher_confidence"] >= DISPUTE_CONFIDENCE) & (frame["teacher_prediction"] >= 0)
        suggested = np.where(sure, frame["teacher_prediction"], given)
    return frame.assign(given_label=run.label_words(given), suggested_label=run.label_words(suggested))


def ranked(run: Run, epoch: int | None, count: int, helpful: bool) -> pd.DataFrame:
    """The `count` most harmful (or helpful) samples, first the worst (best), with what the run measured of each."""
    table = sample_table(run, epoch).dropna(subset=["influence"])
    order = table["influence"].sort_values(ascending=not helpful, kind="stable").index[:count]
    measured = [name for name in MEASURED if name in table and (table[name].notna() & (table[name] != -1)).any()]
    columns = ["id", "influence", "weight", *measured, "given_label", "suggested_label"]
    columns += [name for name in _WHERE_KNOWN if table[name].notna().any()]
    return table.loc[order, columns].reset_index(drop=True)


def detectors(run: Run) -> dict[str, np.ndarray]:
    """Scores of each detector, higher = more harmful: influence, and the honest baselines that cost nothing more."""
    last = run.epoch()
    scores = {
        "influence": -last["influence"].to_numpy(),
        "student_influence": -last["student_influence"].to_numpy(),
        "weight": -last["weight"].to_numpy(),
        "teacher_loss": last["teacher_loss"].to_numpy(),
        "loss": last["loss"].to_numpy(),
        "mean_loss": run.trajectories("loss").mean(0),
        "aum": -run.trajectories("margin").mean(0),
    }
    return {name: score for name, score in scores.items() if np.isfinite(score).any()}


def detection(run: Run, k: int = 100) -> dict[str, Any]:
    """How well every detector finds what is `sought`: flipped labels or, where there are none, corrupted inputs.

    AUROC, precision at k and recall at 10 % by detector, empty where neither is known (`sought` None). Beside them `raters`: the
    Spearman correlation of each detector that orders the samples at all with how far people disagree about a sample (standard
    deviation of their ratings); empty where nobody rated. `UserError` where nothing of this is known.
    """
    samples = run.samples()
    known_of = {name: samples[name] for name in ("flipped", "corrupted") if samples[name].notna().all()}
    sought = next((name for name, values in known_of.items() if values.any()), None)
    spread = samples["rating_spread"].to_numpy(float)
    if sought is None and samples["rating_spread"].nunique() < 2:
        raise UserError(
            f"detect: run {run.id} knows of no wrong label and of no raters, so nothing can be scored; takes a run with known "
            "noise or rated samples."
        )
    scores = detectors(run)
    known = known_of[sought].to_numpy(bool) if sought else None
    figures: dict[str, Callable[..., float]] = {
        "auroc": auroc,
        "precision_at_k": partial(precision_at_k, k=k),
        "recall_at_10_percent": recall_at_share,
    }
    found = {
        key: {} if known is None else {name: figure(score, known) for name, score in scores.items()}
        for key, figure in figures.items()
    }
    beside = {name: spearman(score, spread) for name, score in scores.items()}
    raters = {name: value for name, value in beside.items() if np.isfinite(value)}
    return {"run_id": run.id, "sought": sought, "k": k, **found, "raters": raters}


def comparison(runs: Sequence[Run]) -> dict[str, Any]:
    """Runs side by side; `rank_shift` and `robustness` of the samples that they share are against the first run."""
    results = []
    for run in runs:
        result = run.result()
        if result is None:
            raise UserError(f"compare: run {run.id} is {run.status().state}, takes runs that are done.")
        results.append(result)
    if len({run.classes() for run in runs}) > 1:
        raise UserError("compare: the runs have different classes, takes runs on the same data.")
    accuracy = [run.metrics()["class_accuracy"].iloc[-1] for run in runs]
    per_class = {name: [float(of_run[i]) for of_run in accuracy] for i, name in enumerate(runs[0].classes())}
    return {
        "runs": results,
        "per_class": per_class,
        "rank_shift": [_rank_shift(runs[0], run) for run in runs[1:]],
        "robustness": [robustness(runs[0], run) for run in runs[1:]],
    }


def robustness(reference: Run, other: Run, k: int = 100) -> dict[str, Any]:
    """How far the ranking of the reference survives in another run: at another noise rate, with another seed or settings.

    Of the samples that both hold under the same given label, as an influence is that of a sample as labelled. `differs`: the
    settings in which the runs differ, dotted. `rgr` of influence, `rgr_weight` of the weights (0..1, chance 0.5), and the keys of
    `agreement` (chance of `spearman` and `kendall` 0, of `overlap` in `chance`). Policy: a sample without a figure in either is
    left out; None where there is no order to agree with, as in a run without influence or with all weights equal.
    """
    first, second = (
        pd.json_normalize(run.config().model_dump(mode="json")).iloc[0].map(str) for run in (reference, other)
    )
    names = first.index.union(second.index)
    changed = names[(first.reindex(names) != second.reindex(names)).to_numpy()]
    weights = shared_scores(reference, other, "weight")
    found = agreement(shared_scores(reference, other), k) | {"rgr_weight": rga(weights["first"], weights["second"])}
    line = {"reference": reference.id, "run_id": other.id, "differs": [name for name in changed if name != "name"]}
    return line | {name: None if value != value else value for name, value in found.items()}


def _rank_shift(reference: Run, other: Run) -> dict[str, Any]:
    frames = [run.samples()[["id"]].assign(influence=run.epoch()["influence"]).dropna() for run in (reference, other)]
    shared = frames[0].merge(frames[1], on="id", suffixes=("_reference", "_other"))
    line: dict[str, Any] = {"reference": reference.id, "run_id": other.id, "shared": len(shared)}
    if len(shared) < 2:
        return line | {"spearman": None, "top_100_overlap": None, "chance": None, "largest": []}
    first, second = -shared["influence_reference"], -shared["influence_other"]
    overlap = top_k_overlap(first.to_numpy(), second.to_numpy(), min(100, len(shared)))
    shift = second.rank(ascending=False) - first.rank(ascending=False)
    largest = shared.assign(shift=shift).sort_values("shift", key=abs, ascending=False).head(10)
    return line | {
        "spearman": spearman(first.to_numpy(), second.to_numpy()),
        "top_100_overlap": overlap.share,
        "chance": overlap.chance,
        "largest": largest[["id", "shift"]].to_dict("records"),
    }


def summarise(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Mean and standard deviation of the last epoch's test accuracy, mean accuracy of the worst class, and the share of the
    oracle gap recovered (see `gap_recovered`): a line for each method and noise rate."""
    table = pd.DataFrame(rows, columns=["noise", "method", "seed", "test_accuracy", "worst_class_accuracy"])
    groups = (
        table.groupby(["noise", "method"], sort=False)
        .agg(
            mean=("test_accuracy", "mean"),
            std=("test_accuracy", "std"),
            count=("test_accuracy", "count"),
            worst_class=("worst_class_accuracy", "mean"),
        )
        .reset_index()
    )
    accuracy = {
        noise: cell.pivot_table(index="seed", columns="method", values="test_accuracy")
        for noise, cell in table.groupby("noise")
    }
    lines = []
    for line in groups.to_dict("records"):
        lines.append(
            {
                "method": line["method"],
                "noise": line["noise"],
                "runs": int(line["count"]),
                "mean": float(line["mean"]),
                "std": None if pd.isna(line["std"]) else float(line["std"]),
                "worst_class": None if pd.isna(line["worst_class"]) else float(line["worst_class"]),
                "oracle_gap_recovered": gap_recovered(accuracy[line["noise"]], line["method"], "kd", "oracle"),
            }
        )
    return lines


def paired(rows: Sequence[Mapping[str, Any]], reference: str = "kd") -> list[dict[str, Any]]:
    """Test accuracy of each method minus the reference's at the same noise rate and seed: a line for each method and rate.

    `pairs` of seeds; `difference`, their mean (shares); `low` and `high`, its 95 % percentile bootstrap interval (scipy, 9,999
    resamples of the pairs, seeded), None for fewer than three pairs, where resampling says nothing.
    """
    accuracy = {(row["noise"], row["method"], row["seed"]): row["test_accuracy"] for row in rows}
    found: dict[tuple[str, float], list[float]] = {}
    for (noise, method, seed), value in accuracy.items():
        if method != reference and (noise, reference, seed) in accuracy:
            found.setdefault((method, noise), []).append(value - accuracy[noise, reference, seed])
    return [
        {
            "method": method,
            "noise": noise,
            "pairs": len(values),
            "difference": float(np.mean(values)),
            **_interval(values),
        }
        for (method, noise), values in found.items()
    ]


def _interval(values: Sequence[float]) -> dict[str, float | None]:
    if len(values) < 3:
        return {"low": None, "high": None}
    rng = np.random.default_rng(0)
    found = stats.bootstrap((values,), np.mean, method="percentile", rng=rng).confidence_interval
    return {"low": float(found.low), "high": float(found.high)}


def shared_scores(first: Run, second: Run, field: str = "influence") -> pd.DataFrame:
    """Harmfulness (influence or another field, its sign turned) of the samples that both runs hold under the same given label.

    Columns id, first, second. Influence is that of a sample as labelled: one whose label differs is another sample.
    """
    sides = [
        run.samples()[["id", "label", "value"]].assign(score=-run.epoch(None, [field])[field]).dropna(subset=["score"])
        for run in (first, second)
    ]
    shared = sides[0].merge(sides[1], on=["id", "label", "value"], suffixes=("_first", "_second"))
    return shared[["id", "score_first", "score_second"]].set_axis(["id", "first", "second"], axis=1)


def agreement(scores: pd.DataFrame, k: int = 100) -> dict[str, Any]:
    """How far two rankings agree; `scores` from `shared_scores`. Keys shared, rgr, spearman, kendall, k, overlap, chance."""
    k = min(k, len(scores))
    found = rank_robustness(scores["first"].to_numpy(), scores["second"].to_numpy(), k)
    return {
        "shared": len(scores),
        "rgr": found.rgr,
        "spearman": found.spearman,
        "kendall": found.kendall,
        "k": k,
        "overlap": found.top_k_overlap,
        "chance": found.chance,
    }
