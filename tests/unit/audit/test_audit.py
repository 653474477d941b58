import json

import pytest

from kdaif.audit import DETECTORS, PAIRS, audit
from kdaif.audit.tables import tables
from kdaif.cli import main
from kdaif.config import UserError
from kdaif.runs import Run, open_run
from kdaif.train import train_new
from tests.small import small
from tests.unit.audit.tiny import TINY

RECORDED = {"influence", "student_influence", "weight", "teacher_loss", "loss", "mean_loss", "aum"}


@pytest.fixture(scope="module")
def result(done: Run) -> dict:
    said: list[str] = []
    result = audit(done, k=20, retrain=True, effort=TINY, say=said.append)
    assert "detecting by last_whiten_t" in said
    return result


def test_every_detector_has_every_figure(result: dict):
    names = RECORDED | set(DETECTORS)
    for key in ("auroc", "average_precision", "precision_at_k", "recall_at_10_percent"):
        assert set(result[key]) == names
    assert set(result["seconds"]) == set(DETECTORS)
    assert result["missing"] == []
    assert result["compared"] == TINY.compared < result["samples"]


def test_truth_is_told_of_both_models(result: dict):
    assert set(result["lds"]) == {"convex", "student"}
    assert {"last_as_in_run", "last_whiten", "all_kfac", "captum_tracincp_fast"} < set(result["lds"]["student"])
    assert {"all_as_in_run", "all_exact", "captum_arnoldi"} < set(result["lds"]["convex"])
    assert set(result["leave_one_out"]) == set(result["lds"]["convex"])
    assert {"random", "loss", "last_as_in_run", "shares"} < set(result["removal"])
    assert result["retraining"]["samples"] == TINY.samples


def test_the_result_is_plain_data(result: dict):
    assert json.loads(json.dumps(result)).keys() == result.keys()


def test_tables_are_sorted_and_whole(result: dict):
    found = list(tables(result))
    assert len(found) == 6  # detection, LDS twice, leave-one-out, removal twice
    for table in found:
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert found[0].title.endswith("; compared on 120 of them, drawn at random")
    auroc = [float(row[1]) for row in found[0].rows]
    assert auroc == sorted(auroc, reverse=True)


def test_a_run_without_wrong_labels_can_only_be_retrained(monkeypatch: pytest.MonkeyPatch):
    run = open_run(train_new(small("noise.kind=none", "noise.rate=0"))["run_id"])
    with pytest.raises(UserError, match="knows of no wrong label"):
        audit(run)
    for name in ("student_pairs", "convex_pairs"):
        monkeypatch.setattr(f"kdaif.audit.{name}", lambda case, effort: {"last_whiten": PAIRS["last_whiten"]})
    result = audit(run, retrain=True, effort=TINY)
    assert "auroc" not in result
    assert "lds" in result


def test_the_command(done: Run, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        main(["audit", str(done.path), "--quick", "--k", "20", "--json"])
    assert left.value.code == 0
    out = capsys.readouterr().out
    assert "last_whiten_t" in out
    figures = json.loads(out.splitlines()[-1])
    assert figures["k"] == 20
    assert "lds" not in figures
