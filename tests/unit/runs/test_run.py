import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from kdaif.config import RunConfig, UserError, load_config
from kdaif.runs import list_runs, new_run, open_run, runs_root
from tests.factories import epoch_values, sample_frame


def test_what_is_written_is_read(run):
    run.write_epoch(1, epoch_values(1))
    run.write_epoch(12, epoch_values(12))
    again = open_run(run.id)
    assert again == run
    assert again.classes() == ("cat", "dog", "eel")
    pd.testing.assert_frame_equal(again.samples(), sample_frame(), check_dtype=False)
    assert again.samples()[["flipped", "corrupted"]].dtypes.tolist() == ["boolean", "boolean"]
    assert again.epochs() == [1, 12]
    assert_array_equal(again.epoch()["influence"], epoch_values(12)["influence"])
    assert_array_equal(again.epoch(1, ["weight"])["weight"], np.ones(20))
    assert again.epoch(1)["influence"].dtype == np.float32
    assert again.epoch(1)["student_prediction"].dtype == np.int16


def test_visits_of_the_most_epochs_are_counted_and_older_runs_read(run):
    run.write_epoch(1, epoch_values(1) | {"visits": np.full(20, 3), "harmful_visits": np.full(20, 2)})
    path = run.path / "epochs" / "epoch=00001.parquet"
    table = pq.read_table(path)
    for name in ("visits", "harmful_visits"):
        at = table.schema.get_field_index(name)
        table = table.set_column(at, pa.field(name, pa.int16()), table[name].cast(pa.int16()))
    pq.write_table(table, path)
    run.write_epoch(99_999, epoch_values(2) | {"visits": np.full(20, 99_999), "harmful_visits": np.full(20, 99_998)})
    assert run.trajectories("visits", [0, 7]).tolist() == [[3, 3], [99_999, 99_999]]
    assert run.epoch(99_999)["harmful_visits"].tolist() == [99_998] * 20
    assert run.epoch(1)["visits"].tolist() == [3] * 20


def test_unknown_clean_labels_read_as_unknown():
    run = new_run(RunConfig())
    run.write_samples(sample_frame().drop(columns=["clean", "flipped", "corrupted"]), ["a", "b", "c"])
    assert (run.samples()["clean"] == -1).all()
    assert run.samples()[["flipped", "corrupted"]].isna().all(axis=None)


def test_runs_of_older_versions_do_not_know_what_was_corrupted(run):
    path = run.path / "samples.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["corrupted"]), path)
    assert run.samples()["corrupted"].isna().all()
    assert run.samples()["corrupted"].dtype == "boolean"


def test_config_and_provenance_are_kept_whole(run):
    config = RunConfig(method="oracle", seed=3)
    run = new_run(config)
    run.add_provenance(inputs="inputs/ab/inputs.npy")
    assert run.config() == config
    assert run.provenance()["inputs"] == "inputs/ab/inputs.npy"
    assert run.provenance()["versions"]["numpy"] == np.__version__
    assert load_config(run.path / "config.json") == config  # a run's own config starts the same run again


def test_run_ids_are_unique_and_never_paths():
    config = RunConfig.model_validate({"data": {"source": "/data/../My photos.csv"}})
    runs = [new_run(config) for _ in range(5)]
    assert len({run.id for run in runs}) == 5
    assert all("-kd-aif-my-photos-csv-s0-" in run.id for run in runs)
    assert {path.name for path in runs_root().iterdir()} == {run.id for run in runs}


def test_a_run_never_replaces_another(monkeypatch, run):
    monkeypatch.setattr("kdaif.runs.run.uuid4", lambda: type("Same", (), {"hex": run.id[-4:]}))
    monkeypatch.setattr("kdaif.runs.run.time.strftime", lambda _: run.id[:15])
    with pytest.raises(OSError):  # noqa: PT011 - its text is the system's
        new_run(run.config())
    assert len(list_runs()) == 1
    assert len(run.samples()) == 20


def test_metrics_replace_later_epochs_and_keep_times_apart(run):
    assert run.metrics().empty
    for epoch in (1, 2, 3):
        run.append_metrics({"epoch": epoch, "test_accuracy": epoch / 10, "seconds": 1.5, "class_accuracy": [0.5, 1.0]})
    run.append_metrics({"epoch": 2, "test_accuracy": 0.9, "validation_loss": 0.3})
    metrics = run.metrics()
    assert metrics["epoch"].to_list() == [1, 2]
    assert metrics["test_accuracy"].to_list() == [0.1, 0.9]
    assert metrics["class_accuracy"][0].tolist() == [0.5, 1.0]
    assert metrics["validation_loss"].isna().to_list() == [True, False]
    assert metrics["seconds"][0] == 1.5
    assert "seconds" not in pd.read_parquet(run.path / "metrics.parquet").columns


def test_same_figures_make_the_same_metrics_file(run):
    other = new_run(RunConfig())
    for target, seconds in ((run, 1.0), (other, 2.0)):
        target.append_metrics({"epoch": 1, "test_accuracy": 0.5, "seconds": seconds})
    assert (run.path / "metrics.parquet").read_bytes() == (other.path / "metrics.parquet").read_bytes()


def test_result(run):
    assert run.result() is None
    run.write_result({"run_id": run.id, "test_accuracy": 0.9})
    assert run.result() == {"run_id": run.id, "test_accuracy": 0.9}


def test_an_epoch_must_have_a_row_for_each_sample(run):
    with pytest.raises(ValueError, match="epoch 1 has 19 rows, the run has 20 training samples"):
        run.write_epoch(1, epoch_values(1, 19))
    assert run.epochs() == []


@pytest.mark.parametrize(
    ("ask", "sentence"),
    [
        (lambda run: run.epoch(), "has recorded no epoch yet"),
        (lambda run: run.write_epoch(1, epoch_values(1)) or run.epoch(9), "epoch: got 9, run .* has recorded 1 to 1"),
        (lambda run: new_run(RunConfig()).samples(), "samples are not recorded yet"),
        (lambda run: open_run("nothing"), "run: got 'nothing', takes the id of a run in .*; the newest there are 2"),
        (lambda run: open_run("nothing", run.path / "epochs"), "there are none yet"),
        (lambda run: open_run(run.path / "epochs"), r"holds no config\.json, so it is not a run of kdaif"),
    ],
)
def test_what_is_not_there_is_one_sentence(run, ask, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        ask(run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("config.json", "", "cannot be read"),
        ("config.json", "{}", "was not written by kdaif"),
        ("config.json", '{"schema": 99, "config": {}, "provenance": {}}', "has schema 99, this kdaif reads 1"),
        (
            "config.json",
            '{"schema": 1, "config": {"seed": "x"}, "provenance": {}}',
            "not a valid config: seed: got 'x'",
        ),
        ("status.json", '{"state": "walking"}', "has a wrong state: got 'walking'"),
        ("status.json", None, "holds no status.json"),
        ("result.json", "[]", "holds a list, not a mapping"),
    ],
)
def test_a_bad_folder_is_one_sentence_in_the_list_and_spares_the_others(run, file, content, sentence):
    bad = new_run(RunConfig())
    (bad.path / file).unlink(missing_ok=True)
    if content is not None:
        (bad.path / file).write_text(content)
    errors = {summary.id: summary.error for summary in list_runs()}
    assert errors[run.id] == ""
    assert sentence in errors[bad.id]
    assert "\n" not in errors[bad.id]


def test_list_is_newest_first_and_skips_drafts(run):
    assert list_runs(Path("/nonexistent")) == []
    (runs_root() / ".20990101-000000-draft").mkdir()
    (runs_root() / "20990101-000000-foreign").mkdir()
    run.write_result({"test_accuracy": 0.5})
    summaries = list_runs()
    assert [summary.id for summary in summaries] == ["20990101-000000-foreign", run.id]
    assert (summaries[1].config, summaries[1].result) == (RunConfig(), {"test_accuracy": 0.5})


def test_polling_a_run_while_it_is_written_never_fails(run):
    run.write_status(state="running")
    failures = []

    def write():
        try:
            for epoch in range(1, 60):
                run.write_epoch(epoch, epoch_values(epoch))
                run.append_metrics({"epoch": epoch, "test_accuracy": 0.5, "seconds": 1.0})
                run.write_status(epoch=epoch)
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    seen = []
    for _ in range(1000):
        epochs = run.epochs()
        if epochs:
            assert run.epoch(epochs[-1], ["weight"])["weight"][0] == epochs[-1]
            assert run.trajectories("weight", [0]).shape[0] >= len(epochs)
        seen.append((run.status().epoch, len(run.metrics())))
    writer.join()
    assert not failures
    assert seen == sorted(seen)


def test_reading_runs_imports_no_torch():
    script = "import sys, kdaif.runs; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parents[3])


def test_one_process_holds_a_run_and_its_death_frees_it(run):
    code = f"""
from pathlib import Path
from kdaif.runs import Run
with Run(Path({str(run.path)!r})).hold():
    print("held", flush=True)
    input()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        with pytest.raises(UserError, match="in the hands of another process"), run.hold(0.1):
            pass
        other.kill()
        other.wait()
        with run.hold(5):
            pass
