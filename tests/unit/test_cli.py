import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.main import get_command

from kdaif import cli, terminal
from kdaif.callbacks import Callback
from kdaif.runs import new_run, open_run
from kdaif.train import train
from tests.factories import digits_run
from tests.small import as_options, small

ROOT = Path(__file__).parents[2]
COMMANDS = get_command(cli.app).commands


@pytest.fixture
def kdaif(capsys):
    """Runs a command: exit status, stdout and stderr."""

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main([str(argument) for argument in arguments])
        return (end.value.code, *capsys.readouterr())

    return run


@pytest.fixture
def said(kdaif):
    """The JSON object that a command ends stdout with; progress has gone elsewhere."""

    def run(*arguments: str) -> dict:
        status, out, _ = kdaif(*arguments, "--json")
        assert status == 0
        return json.loads(out.splitlines()[-1], parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    return run


# --- help ------------------------------------------------------------------------------------------------------------


def test_the_commands_of_the_contract_exist():
    assert {"demo", "train", "resume", "sweep", "samples", "detect", "compare", "runs"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_documents_every_option(name, kdaif):
    status, out, err = kdaif(name, "--help")
    assert (status, err) == (0, "")
    assert COMMANDS[name].help.split(".")[0].split(":")[0][:30] in out
    for parameter in COMMANDS[name].params:
        assert parameter.help, f"{name}: {parameter.name} has no help"
        assert " ".join(parameter.help.split())[:20] in " ".join(out.split())
        assert not parameter.opts[0].startswith("-") or parameter.opts[0] in out


@pytest.mark.parametrize("arguments", [[], ["--help"]])
def test_help_lists_every_command(arguments, kdaif):
    status, out, err = kdaif(*arguments)
    assert (status, err) == (0, "")
    assert all(f"\n  {name} " in out for name in COMMANDS)


def test_words_of_users_are_no_markup(capsys):
    terminal.say("a [/b] b :smile: [red]c")
    terminal.show(["[/x]"], [["closing [/url]"]])
    said = capsys.readouterr().out
    assert "a [/b] b :smile: [red]c" in said
    assert "[/x]" in said
    assert "closing [/url]" in said


# --- train and resume ------------------------------------------------------------------------------------------------

TRAIN_KEYS = {"run_id", "run_dir", "method", "test_accuracy", "validation_accuracy", "flipped_auroc", "seconds"}


def test_train_in_a_shell(tmp_path):
    command = [sys.executable, "-m", "kdaif", "train", *as_options("method=kd-aif"), "--json"]
    environment = {**os.environ, "KDAIF_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.splitlines()
    result = json.loads(last)
    assert result.keys() >= TRAIN_KEYS
    assert open_run(Path(result["run_dir"])).result() == result
    assert "test accuracy" in table[0]
    assert result["run_id"] in table[1]  # whole, to be copied
    assert "epoch 1" not in done.stdout  # progress goes to stderr
    progress = done.stderr.splitlines()
    assert progress[3].startswith("kd-aif, seed 0 · teacher: epoch 4 of 4")
    assert progress[-1].startswith("kd-aif, seed 0 · student: epoch 3 of 3  validation accuracy")
    assert len(progress) == 4 + 4 + 3  # the teacher twice, and no warning of anybody


def test_train_a_file_with_changes(said, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(small("method=ce").to_json())
    result = said("train", path, "--set", "seed=4", "--set", "student.optim.epochs=1")
    assert result["method"] == "ce"
    assert result["flipped_auroc"] is None
    config = open_run(result["run_id"]).config()
    assert (config.seed, config.student.optim.epochs, config.noise.rate) == (4, 1, 0.3)


def test_train_a_queued_run_folder(said):
    run = new_run(small("method=ce"))
    result = said("train", "--run-dir", run.path)
    assert result["run_id"] == run.id
    assert run.status().state == "done"


class Kill(Callback):
    def on_epoch_end(self, moment):
        if moment.stage == "student" and moment.epoch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("by_path", [True, False])
def test_resume(said, by_path):
    run = new_run(small("method=ce", "checkpoint_every=1"))
    with pytest.raises(KeyboardInterrupt):
        train(run, callbacks=[Kill()])
    result = said("resume", run.path if by_path else run.id)
    assert result.keys() >= TRAIN_KEYS
    assert run.epochs() == [1, 2, 3]
    assert run.status().state == "done"


def test_ctrl_c_is_exit_status_130_and_says_how_to_go_on(kdaif, monkeypatch):
    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdaif.train.train_new", interrupted)
    status, out, err = kdaif("train", "digits")
    assert (status, out) == (130, "")
    assert err == "kdaif: stopped; `resume RUN` goes on from the last checkpoint.\n"


# --- demo and sweep --------------------------------------------------------------------------------------------------


@pytest.fixture
def quick_demo(monkeypatch):
    """The demo, with the small config in the place of the digits preset."""
    load = cli.load_config
    epochs = ["teacher.optim.epochs=8", "student.optim.epochs=3"]
    monkeypatch.setattr(cli, "load_config", lambda name, sets: load(name, [*as_options(*epochs)[2::2], *sets]))


def test_demo(said, quick_demo):
    result = said("demo", "--no-app", "--seed", "1")
    assert result.keys() == {"runs", "oracle_gap_recovered", "flipped_auroc", "seconds"}
    configs = [open_run(run).config() for run in result["runs"]]
    assert [config.method for config in configs] == ["kd", "kd-aif", "oracle"]
    assert {(config.seed, config.noise.rate, config.noise.kind) for config in configs} == {(1, 0.4, "symmetric")}
    assert 0 <= result["flipped_auroc"] <= 1
    assert result["seconds"] > 0


def test_demo_shows_a_table_and_opens_the_dashboard(kdaif, quick_demo, monkeypatch):
    started = []
    monkeypatch.setattr(cli, "subprocess", SimpleNamespace(run=lambda command, **_: started.append(command)))
    status, out, _ = kdaif("demo")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()[:4]] == ["method", "kd", "kd-aif", "oracle"]
    assert "KD-AIF found the flipped labels with AUROC 0." in out
    assert started == [[sys.executable, "-m", "streamlit", "run", str(ROOT / "app" / "main.py")]]


def test_sweep(said):
    options = as_options("teacher.optim.epochs=1", "student.optim.epochs=1")
    result = said("sweep", *options, "--noise", "0,0.3", "--methods", "ce, kd", "--seeds", "0")
    assert result.keys() == {"rows", "summary"}
    assert [(row["noise"], row["method"]) for row in result["rows"]] == [(0, "ce"), (0, "kd"), (0.3, "ce"), (0.3, "kd")]
    for row in result["rows"]:
        assert row.keys() >= {"method", "noise", "seed", "test_accuracy", "flipped_auroc", "run_id"}
    for line in result["summary"]:
        assert line.keys() >= {"method", "noise", "mean", "std", "oracle_gap_recovered"}


# --- reading runs ----------------------------------------------------------------------------------------------------


@pytest.fixture
def run():
    return digits_run("kd-aif")


@pytest.mark.parametrize("which", ["harmful", "helpful"])
def test_samples(said, run, which):
    rows = said("samples", run.id, f"--{which}", 7)["samples"]
    assert len(rows) == 7
    for row in rows:
        assert row.keys() >= {"id", "influence", "weight", "given_label", "suggested_label"}
    influence = [row["influence"] for row in rows]
    assert influence == sorted(influence, reverse=which == "helpful")
    assert (influence[0] < 0) == (which == "harmful")


def test_samples_as_csv(said, kdaif, run, tmp_path):
    rows = said("samples", run.id, "--harmful", 5, "--csv", tmp_path / "worst.csv")["samples"]
    with open(tmp_path / "worst.csv", newline="") as file:
        written = list(csv.DictReader(file))
    assert [row["id"] for row in written] == [row["id"] for row in rows]
    assert float(written[0]["influence"]) == pytest.approx(rows[0]["influence"], abs=1e-5)
    before = (tmp_path / "worst.csv").read_bytes()
    assert kdaif("samples", run.id, "--harmful", 3, "--csv", tmp_path / "worst.csv")[0] == 2
    assert (tmp_path / "worst.csv").read_bytes() == before


def test_samples_of_an_epoch(said, run):
    first = said("samples", run.id, "--harmful", 1, "--epoch", 1)["samples"]
    assert first != said("samples", run.id, "--harmful", 1)["samples"]


def test_detect(said, run):
    result = said("detect", run.id, "--k", 50)
    assert result.keys() == {"run_id", "sought", "k", "auroc", "precision_at_k", "recall_at_10_percent", "raters"}
    assert result["raters"] == {}  # nobody rated
    assert result["k"] == 50
    assert result["auroc"]["influence"] > 0.9
    assert result["auroc"].keys() == result["precision_at_k"].keys() >= {"influence", "loss", "aum", "teacher_loss"}


def test_compare(said, run):
    other = digits_run("kd-aif", seed=1)
    for each in (run, other):
        each.write_result({**each.result(), "noise": 0.4, "seed": each.config().seed})
    result = said("compare", run.id, other.path)
    assert result.keys() == {"runs", "per_class", "rank_shift", "robustness"}
    assert [line["run_id"] for line in result["runs"]] == [run.id, other.id]
    assert all(len(values) == 2 for values in result["per_class"].values())
    assert result["rank_shift"][0]["reference"] == run.id


def test_runs(said, kdaif, run):
    waiting = new_run(small())
    (waiting.path.parent / "stray").mkdir()
    lines = {line["run_id"]: line for line in said("runs")["runs"]}
    assert lines.keys() == {run.id, waiting.id, "stray"}
    assert (lines[run.id]["state"], lines[run.id]["epoch"], lines[run.id]["error"]) == ("done", 10, None)
    assert lines[waiting.id]["state"] == "queued"
    assert "not a run of kdaif" in lines["stray"]["error"]
    status, out, _ = kdaif("runs")
    assert status == 0
    assert all(run_id in out for run_id in lines)


def test_no_runs_yet(said):
    assert said("runs") == {"runs": []}


def test_what_does_not_exist_is_null(said):
    """NaN is no JSON: other programs could not read it."""
    run = digits_run("kd-aif")
    result = {**run.result(), "noise": 0.4, "seed": 0}
    run.write_result(result)
    row = run.metrics().iloc[-1].drop(["seconds", "overhead"]).to_dict()
    run.append_metrics({**row, "epoch": 11, "class_accuracy": [float("nan")] * 10})
    assert set(map(tuple, said("compare", run.id, run.id)["per_class"].values())) == {(None, None)}
