import itertools
import math

import pytest

from kdaif import sweep as module
from kdaif.config import UserError
from kdaif.jobs.grid import cells
from kdaif.methods import METHODS as ALL
from kdaif.runs import Taken, list_runs, new_run, open_run
from kdaif.sweep import summarise, sweep
from tests.small import small


def row(method: str, noise: float, accuracy: float, seed: int = 0) -> dict:
    return {"method": method, "noise": noise, "seed": seed, "test_accuracy": accuracy}


def line(rows: list[dict], method: str, noise: float) -> dict:
    (found,) = [line for line in summarise(rows) if (line["method"], line["noise"]) == (method, noise)]
    return found


GRID = [
    row("kd", 0.4, 0.70), row("kd", 0.4, 0.74, 1), row("oracle", 0.4, 0.80), row("oracle", 0.4, 0.84, 1),
    row("kd-aif", 0.4, 0.78), row("kd-aif", 0.4, 0.80, 1), row("ce", 0.4, 0.67),
    row("kd", 0.0, 0.90), row("kd-aif", 0.0, 0.91), row("oracle", 0.0, 0.90),
]  # fmt: skip


def test_the_worst_class_where_the_runs_know_it():
    known = [{**row, "worst_class_accuracy": row["test_accuracy"] - 0.1} for row in GRID]
    assert line(known, "kd-aif", 0.4)["worst_class"] == pytest.approx(line(GRID, "kd-aif", 0.4)["mean"] - 0.1)
    assert line(GRID, "kd-aif", 0.4)["worst_class"] is None


def test_mean_deviation_and_share_of_the_oracle_gap():
    aif = line(GRID, "kd-aif", 0.4)
    assert (aif["runs"], aif["mean"]) == (2, pytest.approx(0.79))
    assert aif["std"] == pytest.approx(math.sqrt(0.0002))  # of a sample: over n - 1
    assert aif["oracle_gap_recovered"] == pytest.approx((0.79 - 0.72) / (0.82 - 0.72))
    assert line(GRID, "kd", 0.4)["oracle_gap_recovered"] == 0
    assert line(GRID, "oracle", 0.4)["oracle_gap_recovered"] == 1
    assert line(GRID, "ce", 0.4)["oracle_gap_recovered"] == pytest.approx((0.67 - 0.70) / (0.80 - 0.70))  # of seed 0


def test_no_gap_where_the_oracle_gains_nothing_or_is_missing():
    assert line(GRID, "kd-aif", 0.0)["oracle_gap_recovered"] is None
    without = [line for line in GRID if line["method"] != "oracle"]
    assert line(without, "kd-aif", 0.4)["oracle_gap_recovered"] is None
    elsewhere = [*without, row("oracle", 0.4, 0.85, 7)]  # a seed that nobody else has
    assert line(elsewhere, "kd-aif", 0.4)["oracle_gap_recovered"] is None


def test_one_run_has_no_deviation():
    assert line(GRID, "ce", 0.4)["std"] is None


def test_the_summary_has_a_line_for_each_method_and_rate():
    assert [(line["noise"], line["method"]) for line in summarise(GRID)] == [
        *itertools.product([0.4], ["kd", "oracle", "kd-aif", "ce"]),
        *itertools.product([0.0], ["kd", "kd-aif", "oracle"]),
    ]


# --- the grid --------------------------------------------------------------------------------------------------------

METHODS, NOISE, SEEDS = ["kd", "oracle"], [0.0, 0.3], [0, 1]


@pytest.fixture
def config():
    return small("teacher.optim.epochs=1", "student.optim.epochs=1")


def test_the_grid_is_complete_and_done_runs_are_reused(config, monkeypatch):
    first = sweep(config, methods=METHODS, noise=NOISE, seeds=SEEDS)
    cells = [(row["noise"], row["seed"], row["method"]) for row in first.rows]
    assert cells == list(itertools.product(NOISE, SEEDS, METHODS))
    assert {summary.id for summary in list_runs()} == {row["run_id"] for row in first.rows}
    assert all({"test_accuracy", "flipped_auroc", "run_id", "seconds"} <= row.keys() for row in first.rows)
    assert [line["runs"] for line in first.summary] == [2, 2, 2, 2]

    trained = []
    monkeypatch.setattr(module, "train_new", lambda cell, *_, **__: trained.append(cell) or dict(first.rows[0]))
    again = sweep(config, methods=METHODS, noise=NOISE, seeds=SEEDS)
    assert trained == []
    assert again.rows == first.rows
    sweep(config, methods=["kd", "ce"], noise=NOISE, seeds=[1, 2])
    wanted = list(itertools.product(NOISE, [1, 2], ["kd", "ce"]))
    missing = [cell for cell in wanted if cell not in cells]
    assert [(cell.noise.rate, cell.seed, cell.method) for cell in trained] == missing


def test_at_rate_zero_the_clean_labels_are_known(config):
    result = sweep(small("noise.kind=none", "noise.rate=0"), methods=["oracle"], noise=[0.0], seeds=[0])
    run = open_run(result.rows[0]["run_id"])
    assert run.config().noise.kind == "symmetric"
    assert not run.samples()["flipped"].any()


def test_the_kind_of_noise_is_the_configs(config):
    result = sweep(small("noise.kind=pair"), methods=["ce"], noise=[0.5], seeds=[0])
    samples = open_run(result.rows[0]["run_id"]).samples()
    assert (samples["label"] == (samples["clean"] + samples["flipped"].astype(int)) % 10).all()


@pytest.mark.parametrize("kind", ["instance", "input"])
def test_rate_zero_of_other_kinds_is_clean_data(kind):
    result = sweep(small(f"noise.kind={kind}"), methods=["ce"], noise=[0.0, 0.3], seeds=[0])
    clean, noisy = (open_run(row["run_id"]).samples() for row in result.rows)
    assert not clean["flipped"].any()
    assert not clean["corrupted"].any()
    assert noisy["flipped" if kind == "instance" else "corrupted"].any()
    assert [row["noise"] for row in result.rows] == [0.0, 0.3]


def test_a_cell_named_twice_is_one_run(config):
    result = sweep(config, methods=["ce", "ce"], noise=[0.3, 0.3], seeds=[0, 0])
    assert len(result.rows) == len(list_runs()) == 1


def test_unfinished_runs_are_not_reused(config):
    (row,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    (open_run(row["run_id"]).path / "result.json").unlink()
    (again,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    assert again["run_id"] != row["run_id"]


def test_runs_of_another_version_are_not_reused(config):
    (row,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    open_run(row["run_id"]).add_provenance(git_revision="0" * 40)
    (again,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    assert again["run_id"] != row["run_id"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": ["kd", "foo"]}, f"--methods: got 'foo', takes one of {', '.join(sorted(ALL))}."),
        ({"noise": [0.2, 1.2]}, "noise.rate: got 1.2, should be less than 1."),
        ({"noise": [float("nan")]}, "noise.rate: got nan, should be a finite number."),
        ({"seeds": [0, -1]}, "seed: got -1, should be greater than or equal to 0."),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_trained(config, change, said):
    with pytest.raises(UserError) as error:
        sweep(config, **{"methods": ["kd"], "noise": [0.0], "seeds": [0], **change})
    assert str(error.value) == said
    assert list_runs() == []


def test_noise_that_brings_its_own_rate_cannot_be_swept():
    config = small("noise={kind: column, column: noisy}")
    with pytest.raises(UserError, match=r"noise\.rate has no meaning for noise\.kind 'column'"):
        sweep(config, methods=["kd"], noise=[0.2], seeds=[0])


def test_a_run_that_was_stopped_goes_on(config):
    stopped = new_run(sweep_cell(config))
    stopped.write_status(state="interrupted")
    (row,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    assert row["run_id"] == stopped.id


def test_a_run_that_another_process_trains_is_waited_for(config, monkeypatch):
    other = new_run(sweep_cell(config))
    other.write_status(state="running")

    def finish(seconds):
        other.write_result({**row("ce", 0.3, 0.5), "run_id": other.id, "seed": 0})
        other.write_status(state="done")

    monkeypatch.setattr(module.time, "sleep", finish)
    assert [line["run_id"] for line in sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows] == [other.id]


def test_who_is_second_to_make_a_run_takes_the_first_ones(config, monkeypatch):
    monkeypatch.setattr(module, "claim", lambda cell, data_root: new_run(cell).write_status(state="interrupted"))
    (line,) = sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows
    assert [summary.id for summary in list_runs()] == [line["run_id"]]


def test_who_is_second_to_train_a_run_waits_for_its_result(config, monkeypatch):
    stopped = new_run(sweep_cell(config))
    stopped.write_status(state="interrupted")

    def finished_by_another(run, *_):
        run.write_result({**row("ce", 0.3, 0.5), "run_id": run.id, "seed": 0})
        run.write_status(state="done")
        raise Taken("run: it is done.")

    monkeypatch.setattr(module, "train", finished_by_another)
    assert [line["run_id"] for line in sweep(config, methods=["ce"], noise=[0.3], seeds=[0]).rows] == [stopped.id]


def sweep_cell(config):
    (cell,) = cells(config, methods=["ce"], noise=[0.3], seeds=[0])
    return cell
