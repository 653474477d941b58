import shutil
import time

import numpy as np
import pandas as pd
import pytest

from kdaif import retrain as module
from kdaif.config import UserError
from kdaif.edits import read_edits
from kdaif.foretell import fit, foretell
from kdaif.neighbours import measure
from kdaif.retrain import edited_config, retrain, retrainings
from kdaif.runs import Run, cache_root, new_run, open_run
from tests.factories import digits_run


def edits(rows: list[int], labels: list[str]) -> pd.DataFrame:
    return pd.DataFrame({"row": rows, "label": labels})


def test_the_new_config_differs_in_the_edits_alone_and_nothing_is_overwritten():
    run = digits_run(epochs=1)
    config = edited_config(run, edits([3, 5], ["", "digit 2"]))
    old, new = run.config().model_dump(), config.model_dump()
    file = new["data"].pop("edits")
    assert old["data"].pop("edits") is None
    assert old == new
    found = read_edits(file)
    assert dict(zip(found["id"], found["label"], strict=True)) == {
        "digits/train/000003": "",
        "digits/train/000005": "digit 2",
    }
    assert found["hash"].tolist() == run.samples()["hash"][[3, 5]].tolist()
    assert edited_config(run, edits([5, 3], ["digit 2", ""])) == config


def test_edits_of_an_edited_run_are_kept_and_later_ones_win():
    run = digits_run(epochs=1)
    again = new_run(edited_config(run, edits([3, 5], ["", "digit 2"])))
    again.write_samples(run.samples().drop(index=3), run.classes())
    found = read_edits(edited_config(again, edits([4, 6], ["digit 7", ""])).data.edits)
    assert dict(zip(found["id"].str[-1], found["label"], strict=True)) == {"3": "", "5": "digit 7", "7": ""}


def test_no_marks_are_refused():
    with pytest.raises(UserError, match="no sample is marked"):
        edited_config(digits_run(epochs=1), edits([], []))


def test_the_old_run_remembers_what_was_foretold_and_learns_what_came_true(monkeypatch):
    run = digits_run(epochs=1)
    monkeypatch.setattr(module, "submit", lambda config, data_root: new_run(config))
    assert retrainings(run) == []
    started = retrain(run, edits([3, 5], ["", "digit 2"]), 0.02)
    (line,) = retrainings(run)
    assert (line["run_id"], line["left_out"], line["relabelled"]) == (started.id, 1, 1)
    assert (line["predicted"], line["verified"], line["state"]) == (0.02, None, "queued")
    started.write_result({"test_accuracy": run.result()["test_accuracy"] + 0.03})
    started.write_status(state="done")
    (line,) = retrainings(run)
    assert line["state"] == "done"
    assert line["verified"] == pytest.approx(0.03)
    shutil.rmtree(started.path)
    assert retrainings(run)[0]["state"] == "gone"


def test_a_retrained_run_really_trains_without_the_samples(trained: Run):
    shutil.copytree(trained.path.parent.parent, cache_root(), dirs_exist_ok=True)
    run = open_run(trained.id)
    started = retrain(run, edits([0, 1], ["", "3"]), None)
    deadline = time.monotonic() + 120
    while started.status().live and time.monotonic() < deadline:
        time.sleep(0.2)
    assert started.status().state == "done", started.status().message
    samples = started.samples()
    assert len(samples) == 199
    assert samples["id"][0] == run.samples()["id"][1]
    assert started.classes()[samples["label"][0]] == "3"


def test_a_layer_fitted_to_clear_targets_gives_them_back():
    rng = np.random.default_rng(0)
    features = np.column_stack([rng.normal(size=(300, 4)), np.ones(300)])
    labels = (features @ rng.normal(size=(5, 3))).argmax(1)
    weights = fit(features, np.eye(3)[labels])
    assert ((features @ weights).argmax(1) == labels).mean() > 0.95
    again = fit(features, np.eye(3)[labels], weights)
    np.testing.assert_allclose(again, weights, atol=0.05)


def test_right_labels_are_foretold_to_help_and_wrong_ones_to_harm(trained: Run):
    relations = measure(trained)
    samples, classes = trained.samples(), np.array(trained.classes())
    flipped = np.flatnonzero(samples["flipped"].to_numpy(bool))
    right = np.flatnonzero(~samples["flipped"].to_numpy(bool))
    shares: list[float] = []
    mended = foretell(trained, relations, edits(list(flipped), list(classes[samples["clean"][flipped]])), shares.append)
    assert shares == sorted(shares)
    assert 0 < shares[0] < 0.5 < shares[-1] <= 1
    spoilt = foretell(trained, relations, edits(list(right), ["0"] * len(right)))
    assert spoilt < -0.02
    assert mended > spoilt
    assert foretell(trained, relations, edits([0], [str(samples["label"][0])])) == pytest.approx(0, abs=0.03)
