"""Deciding about samples: marks, slices, sorting, filters, and retraining with what was marked."""

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.ui.sorting import ORDERS, ends
from kdaif import retrain as retraining
from kdaif.neighbours import measure
from kdaif.runs import Run, new_run, open_run
from kdaif.runs.slices import MARKED, list_slices, read_slice
from kdaif.runs.tables import sample_table
from tests.app.test_detail_page import real as real
from tests.app.test_pages import fresh, gallery, newest, opened
from tests.factories import digits_run

SAMPLES = "views/samples.py"


def decision(app: AppTest):
    return next(box for box in app.selectbox if box.key.startswith("decision on"))


def marks(run: Run) -> dict[int, str]:
    found = read_slice(run, MARKED)
    return dict(zip(found["row"], found["label"], strict=True))


def test_a_sample_is_marked_relabelled_and_kept_again(app, demo):
    opened(app, SAMPLES, sample="7", room="Act")
    run = open_run(newest("kd-aif"))
    assert app.button(key="retrain").disabled
    decision(app).select("Leave it out").run()
    assert marks(run) == {7: ""}
    decision(app).select("digit 4").run()
    assert marks(run) == {7: "digit 4"}
    assert any("**1 marked**: 0 to leave out, 1 to relabel" in text.value for text in app.markdown)
    decision(app).select("Keep as it is").run()
    assert marks(run) == {}


def test_the_teachers_class_is_offered_first(app, demo):
    run = open_run(newest("kd-aif"))
    table = sample_table(run)
    row = int(table.index[table["suggested"] != ""][0])
    opened(app, SAMPLES, sample=str(row), room="Act")
    assert decision(app).options[2] == f"Relabel as {table['suggested'][row]}, as the teacher says"


def test_a_whole_selection_is_marked_and_shown_again(app, demo):
    opened(app, SAMPLES, show="Looks harmful", room="Act", **{"class": "digit 3"})
    run = open_run(newest("kd-aif"))
    table = sample_table(run)
    chosen = table[(table["verdict"] == "harmful") & (table["given"] == "digit 3")]
    app.button(key="relabel_all").click().run()
    disputed = chosen[chosen["suggested"] != ""]
    assert marks(run) == dict(disputed["suggested"])
    app.button(key="mark_all").click().run()
    assert marks(run) == dict.fromkeys(sorted(chosen.index), "")
    app.selectbox(key="class").select("All classes")
    app.selectbox(key="show").select(f"Slice: {MARKED}").run()
    shown = {sample["row"] for group in gallery(app) for sample in group["samples"]}
    assert shown <= set(chosen.index)
    assert shown
    app.button(key="clear_marks").click().run()
    assert marks(run) == {}


def test_a_slice_is_saved_opened_on_another_page_by_its_link_and_deleted(app, demo):
    opened(app, SAMPLES, show="Looks helpful")
    run = open_run(newest("kd-aif"))
    app.text_input(key="slice_name").set_value("good ones")
    app.button(key="save_slice").click().run()
    assert not app.exception
    assert list_slices(run) == ["good ones"]
    helpful = sample_table(run)["verdict"] == "helpful"
    linked = opened(fresh(), "views/dynamics.py", show="Slice: good ones")
    assert linked.selectbox(key="show").value == "Slice: good ones"
    assert any(f"{helpful.sum():,} samples" in button.proto.label for button in linked.get("download_button"))
    app.button(key="delete_slice").click().run()
    assert list_slices(run) == []


def test_a_confusion_pair_and_words_filter(app, demo):
    table = sample_table(open_run(newest("kd-aif")))
    pair = table[table["suggested"] != ""].groupby(["given", "suggested"]).size().idxmax()
    opened(app, SAMPLES, rather=pair[1], **{"class": pair[0]})
    tiles = [sample for group in gallery(app) for sample in group["samples"]]
    assert {(tile["given"], tile["suggested"]) for tile in tiles} == {pair}
    app.selectbox(key="class").select("All classes")
    app.selectbox(key="rather").select("All classes")
    app.text_input(key="words").set_value("DIGITS#77").run()
    found = {sample["row"] for group in gallery(app) for sample in group["samples"]}
    assert found == {77, *range(770, 780)}


@pytest.mark.parametrize("name", ORDERS)
def test_every_order_sorts(app, demo, name):
    opened(app, SAMPLES, sort=name)
    assert app.selectbox(key="sort").value == name
    groups = gallery(app)
    assert [group["title"] for group in groups] == [ORDERS[name].first, ORDERS[name].last]
    run = open_run(newest("kd-aif"))
    values = ORDERS[name].values(run, sample_table(run))
    first, last = ([values[tile["row"]] for tile in group["samples"]] for group in groups)
    assert first == sorted(first)
    assert last == sorted(last, reverse=True)
    assert first[-1] <= last[-1]


def test_a_method_that_measures_no_influence_offers_no_order_by_it(app, demo):
    opened(app, SAMPLES, run=newest("kd"))
    assert not [
        name for name in app.selectbox(key="sort").options if "influence" in name.lower() or "weight" in name.lower()
    ]
    assert [group["title"] for group in gallery(app)] == ["Highest loss", "Lowest loss"]
    assert app.get("download_button")[0].proto.label == "100 of highest loss"


def test_the_ends_are_called_what_they_are():
    assert ends("Influence", np.array([-3.0, 2.0])) == ("Most harmful", "Most helpful")
    assert ends("Influence", np.array([-3.0, -1.0])) == ("Most harmful", "Least harmful")
    assert ends("Influence", np.array([1.0, 2.0])) == ("Least helpful", "Most helpful")
    assert ends("Influence", np.array([-3.0, 2.0]), harm=False) == ("Lowest influence", "Most helpful")
    assert ends("Influence", np.array([1.0, 2.0]), harm=False) == ("Least helpful", "Most helpful")
    assert ends("Loss", np.array([-3.0, -1.0]), harm=False) == ("Highest loss", "Lowest loss")


def test_few_selected_samples_are_no_hundred(app, demo):
    opened(app, SAMPLES, show="Looks harmful", **{"class": "digit 3"})
    labels = [button.proto.label for button in app.get("download_button")]
    assert len(labels) == 1
    assert 0 < int(labels[0].split()[1]) <= 100


def test_marking_says_how_many_other_marks_it_replaces(app, demo):
    opened(app, SAMPLES, show="Looks harmful", **{"class": "digit 3"})
    app.button(key="relabel_all").click().run()
    relabelled = len(marks(open_run(newest("kd-aif"))))
    app.button(key="mark_all").click().run()
    assert f"{relabelled:,} other marks replaced" in app.toast[-1].value
    app.button(key="mark_all").click().run()
    assert "replaced" not in app.toast[-1].value


def test_marks_that_leave_nothing_to_train_on_are_refused_before_anything_is_foretold(app, demo, monkeypatch):
    monkeypatch.setattr("app.ui.act.foretell", lambda *_: pytest.fail("foretold"))
    opened(app, SAMPLES, room="Act", sample="0")
    app.button(key="mark_all").click().run()
    app.button(key="retrain").click().run()
    assert [error.value for error in app.error] == [
        "retrain: the marks leave 0 of 1,200 samples to train on, takes 2 or more."
    ]
    assert retraining.retrainings(open_run(newest("kd-aif"))) == []


def test_a_retraining_that_failed_says_why(app, demo):
    run = open_run(newest("kd-aif"))
    other = new_run(run.config())
    other.write_status(state="failed", message="data.source: gone.")
    run.write_notes(
        retraining.RECORD, {"runs": [{"run_id": other.id, "left_out": 1, "relabelled": 0, "predicted": None}]}
    )
    opened(app, SAMPLES, run=run.id, room="Act", sample="0")
    assert list(app.dataframe[0].value["Why"]) == ["data.source: gone."]


def test_retraining_foretells_queues_and_shows_both_changes(app, real, monkeypatch):
    monkeypatch.setattr(retraining, "submit", lambda config, data_root: new_run(config))
    measure(real)
    opened(app, SAMPLES, run=real.id, sample="0", room="Act")
    decision(app).select("Leave it out").run()
    app.button(key="retrain").click().run()
    assert not app.exception
    (line,) = retraining.retrainings(real)
    assert isinstance(line["predicted"], float)
    started = open_run(line["run_id"])
    assert started.config().data.edits
    started.write_result({"test_accuracy": real.result()["test_accuracy"] - 0.01})
    started.write_status(state="done")
    app.run()
    table = app.dataframe[0].value
    assert list(table["Verified"]) == ["−1.0"]
    assert list(table["State"]) == ["✓ Done"]


def test_downloads_are_offered_as_csv_and_parquet(app, demo):
    opened(app, SAMPLES)
    labels = [button.proto.label for button in app.get("download_button")]
    assert labels == ["100 most harmful", "All 1,200 selected"]
    app.get_by_key("file_kind").set_value("parquet").run()
    assert not app.exception


def test_corrupted_inputs_can_be_shown_where_they_are_known(app):
    run = digits_run("kd-aif", epochs=1)
    run.write_samples(run.samples().assign(corrupted=[row < 5 for row in range(1200)]), run.classes())
    opened(app, SAMPLES, show="Corrupted inputs")
    assert {sample["row"] for group in gallery(app) for sample in group["samples"]} == set(range(5))
