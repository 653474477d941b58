import itertools

import pytest

from kdaif import jobs
from kdaif.config import UserError
from kdaif.jobs.grid import cells, numbers
from kdaif.jobs.tickets import tickets
from kdaif.methods import METHODS
from kdaif.runs import cache_root, list_runs, open_run, tables
from tests.small import small

GRID = {"methods": ["kd", "oracle"], "noise": [0.0, 0.3], "seeds": [0, 1]}


def test_the_cells_of_one_teacher_stand_together_and_each_once():
    found = [(cell.noise.rate, cell.seed, cell.method) for cell in cells(small(), **GRID)]
    assert found == list(itertools.product(GRID["noise"], GRID["seeds"], GRID["methods"]))
    assert len(cells(small(), methods=["kd", "kd"], noise=[0.1, 0.1], seeds=[0])) == 1


def test_the_methods_known_without_torch_are_those_there_are():
    assert tables.METHODS.keys() == METHODS.keys()


def test_a_queued_sweep_is_recorded_and_queued_again_without_a_double():
    record = jobs.submit_sweep(small(), **GRID)
    assert [open_run(run).config() for run in record.runs] == cells(small(), **GRID)
    assert list(tickets()) == record.runs
    again = jobs.submit_sweep(small(), **GRID)
    assert again.runs == record.runs
    assert len(list_runs()) == 8
    assert [sweep.id for sweep in jobs.list_sweeps()] == sorted([record.id, again.id], reverse=True)
    assert (record.config["data"]["train_size"], record.methods, record.noise) == (250, ["kd", "oracle"], [0.0, 0.3])


def test_a_damaged_record_is_left_out():
    record = jobs.submit_sweep(small(), **GRID)
    (cache_root() / "sweeps" / "zzz.json").write_text("{}")
    assert [sweep.id for sweep in jobs.list_sweeps()] == [record.id]


def test_labels_that_are_given_noisy_are_swept_without_other_noise():
    config = small("data.columns.label=label", "data.columns.given=noisy", "noise={}")
    (cell,) = cells(config, methods=["kd"], noise=[0.0], seeds=[0])
    assert (cell.noise.kind, cell.data.columns.given) == ("none", "noisy")


def test_rates_are_shares_or_percent_and_seeds_whole_numbers():
    assert numbers("Rates", "0, 0.1,40%, 12.5 % ", float) == [0.0, 0.1, 0.4, 0.125]
    assert numbers("Seeds", "0, 12", int) == [0, 12]


@pytest.mark.parametrize("text", ["abc", "", "0.1,", "%", "40 % %", "4 0"])
def test_what_is_no_rate_is_told_with_rates_that_are_taken(text):
    with pytest.raises(UserError) as error:
        numbers("Rates", text, float)
    said, _, example = str(error.value).rstrip(".").partition(", for example ")
    assert said == f"Rates: got {text!r}, takes numbers with commas between"
    grid = cells(small(), methods=["kd"], noise=numbers("Rates", example, float), seeds=[0])
    assert [cell.noise.rate for cell in grid] == [0, 0.2, 0.4]


@pytest.mark.parametrize("text", ["a", "0.5", "40%"])
def test_what_is_no_seed_is_told_with_seeds_that_are_taken(text):
    with pytest.raises(UserError, match=r"^Seeds: got .*, takes numbers with commas between, for example 0,1,2\.$"):
        numbers("Seeds", text, int)


def test_nothing_is_queued_where_something_is_wrong():
    with pytest.raises(UserError, match="--methods: got 'foo'"):
        jobs.submit_sweep(small(), methods=["kd", "foo"], noise=[0.0], seeds=[0])
    assert (list_runs(), jobs.list_sweeps()) == ([], [])
