"""The Experiments page, without a browser and without a worker."""

import json
import re

import pytest
from streamlit.testing.v1 import AppTest

from app.ui import data_preview, launcher
from app.ui.launcher import time_words
from app.ui.plan import DAMAGES, SOURCES, form_values, plan_of, preset_values, read_matrix, sweep_values
from kdaif import jobs
from kdaif.config import UserError, load_config
from kdaif.data import sources
from kdaif.data.corruption import CORRUPTIONS, TEXT_CORRUPTIONS
from kdaif.data.tables import READERS
from kdaif.estimate import Estimate
from kdaif.jobs import worker
from kdaif.jobs.tickets import tickets
from kdaif.paths import ENDINGS
from kdaif.runs import cache_root, list_runs, open_run
from tests.app.test_pages import headline, opened
from tests.small import small

PAGE = "views/experiments.py"


@pytest.fixture(autouse=True)
def workers(monkeypatch):
    """Nothing is trained: a call for a worker is counted."""
    calls = []
    monkeypatch.setattr(worker, "ensure_worker", lambda: calls.append(1))
    return calls


def text_input(app: AppTest, label: str):
    return next(element for element in app.text_input if element.label == label)


def queued(app: AppTest) -> AppTest:
    """The page after a sweep of 2 methods at 2 rates with 1 seed was queued."""
    opened(app, PAGE)
    text_input(app, "Seeds").set_value("0")
    app.pills(key="plan methods").set_value(["kd", "oracle"])
    app.run()
    app.button(key="queue").click().run()
    assert not app.exception
    return app


def test_an_empty_house_invites_to_the_first_sweep(app):
    opened(app, PAGE)
    assert headline(app).startswith("Nothing has been trained yet")
    assert app.button(key="queue").label == "Queue 18 runs"
    assert any("not known before" in caption.value for caption in app.caption)


def test_a_sweep_is_queued_and_shown(app, workers):
    queued(app)
    assert headline(app).startswith("0 of 4 runs are done, 4 wait")
    (sweep,) = jobs.list_sweeps()
    assert (sweep.methods, sweep.noise, sweep.seeds) == (["kd", "oracle"], [0.0, 0.4], [0])
    assert list(tickets()) == sweep.runs
    assert workers
    assert app.query_params["sweep"] == sweep.id
    assert sum(button.key.startswith("cancel-") for button in app.button if button.key) == 4


def test_a_run_is_cancelled_resumed_and_moved_to_the_trash(app):
    queued(app)
    run = open_run(jobs.list_sweeps()[0].runs[2])
    app.button(key=f"cancel-{run.id}").click().run()
    assert run.status().state == "cancelled"
    assert headline(app).startswith("0 of 4 runs are done, 3 wait, 1 has stopped")
    app.button(key=f"resume-{run.id}").click().run()
    assert run.status().state == "queued"
    app.button(key=f"trash-{run.id}").click().run()
    assert (cache_root() / "trash" / run.id / "config.json").exists()
    assert len(list_runs()) == 3
    assert not app.exception


def test_the_log_is_shown_and_a_run_is_cloned(app):
    queued(app)
    run = open_run(jobs.list_sweeps()[0].runs[1])
    run.log_path.write_text("teacher: epoch 1 of 4\n")
    app.button(key=f"log-{run.id}").click().run()
    assert app.code[0].value == "teacher: epoch 1 of 4"
    app.button(key=f"clone-{run.id}").click().run()
    assert app.button(key="queue").label == "Queue 1 run"
    assert (text_input(app, "Rates").value, app.pills(key="plan methods").value) == ("0", ["oracle"])
    app.button(key="clone_sweep").click().run()
    assert app.button(key="queue").label == "Queue 4 runs"


def test_what_is_wrong_is_said_and_nothing_is_queued(app):
    opened(app, PAGE)
    text_input(app, "Rates").set_value("0, 1.4").run()
    assert [error.value for error in app.error] == ["noise.rate: got 1.4, should be less than 1."]
    assert not any(button.key == "queue" for button in app.button)
    text_input(app, "Rates").set_value("0").run()
    assert not app.error


def test_the_summary_comes_with_the_runs(app):
    queued(app)
    accuracies = {("kd", 0.0): 0.9, ("oracle", 0.0): 0.91, ("kd", 0.4): 0.7}
    for run in [open_run(run_id) for run_id in jobs.list_sweeps()[0].runs]:
        config = run.config()
        if (value := accuracies.get((config.method, config.noise.rate))) is not None:
            run.write_result({"test_accuracy": value, "flipped_auroc": None, "seconds": 1.0})
            run.write_status(state="done")
    app.run()
    table = app.dataframe[0].value
    assert table["Done"].tolist() == ["1 of 1", "1 of 1", "1 of 1"]
    assert table["Accuracy"].tolist() == ["90.0 %", "91.0 %", "70.0 %"]
    assert table["Over vanilla KD"].tolist() == ["–", "+1.0", "–"]


def test_the_data_are_shown_once_they_were_read(app, monkeypatch):
    opened(app, PAGE)
    app.button(key="look").click()
    started = []
    monkeypatch.setattr(data_preview, "launch", lambda name, command, environment: started.append((name, command)))
    app.run()
    ((name, command),) = started
    assert command[3] == "preview"
    sample = {"id": "x", "given": "3", "true": "8"}
    found = {"classes": ["3", "8"], "sizes": {"train": 20, "validation": 5, "test": 5}, "wrong": 0.4}
    found |= {"samples": [sample], "flipped": [sample], "models": {"digits-cnn": 12345, "digits-cnn-small": 678}}
    job = jobs.Job(name, command, 1, 0.0, 0.0)
    job.log_path.parent.mkdir(parents=True, exist_ok=True)
    job.log_path.write_text(f"reading\n{json.dumps(found)}\n")
    monkeypatch.setattr(data_preview, "find_job", lambda wanted: job if wanted == name else None)
    app.run()
    assert not app.exception
    assert any("20 training, 5 validation and 5 test samples of 2 classes; 40 %" in c.value for c in app.caption)
    assert app.text[0].value == "3 → 8: x"
    student = next(element for element in app.selectbox if element.label == "Student")
    assert "digits-cnn-small · 678 parameters" in student.options


def test_data_that_do_not_exist_are_not_queued(app):
    opened(app, PAGE)
    text_input(app, "Data").set_value("nosuchsource").run()
    assert [error.value.partition(",")[0] for error in app.error] == ["data.source: got 'nosuchsource'"]
    assert not any(button.key in ("queue", "look") for button in app.button)
    text_input(app, "Data").set_value("glue/sst2").run()
    assert not app.error
    assert not app.button(key="queue").disabled


def looked(app: AppTest, monkeypatch: pytest.MonkeyPatch, said: str) -> AppTest:
    """The page after a look at the data in the form that ended with these words."""
    log = cache_root() / "jobs" / "look.log"
    monkeypatch.setattr(jobs.Job, "log_path", log)
    monkeypatch.setattr(data_preview, "launch", lambda name, *_: names.append(name))
    monkeypatch.setattr(
        data_preview, "find_job", lambda name: jobs.Job(name, [], 1, 0.0, 0.0) if name in names else None
    )
    names = []
    app.button(key="look").click().run()
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(f"kdaif: {said}\n")
    return app.run()


def test_data_that_could_not_be_read_are_not_queued(app, monkeypatch, tmp_path):
    table = tmp_path / "own.csv"
    table.write_text("a,b\nfine,1\n")
    opened(app, PAGE)
    text_input(app, "Data").set_value(str(table)).run()
    looked(app, monkeypatch, "data.columns.label: name the column of labels; the table has a, b.")
    assert app.error[0].value.endswith("has a, b. Write `data.columns.label=...` under More settings.")
    assert app.button(key="queue").disabled
    assert any(caption.value.startswith("These data could not be read") for caption in app.caption)
    app.text_area(key="plan more").set_value("data.columns.label=b").run()  # other data, not yet looked at
    assert not app.error
    assert not app.button(key="queue").disabled


def test_own_sentences_are_told_which_recipe_takes_them(app, monkeypatch):
    opened(app, PAGE)
    looked(app, monkeypatch, "data.augment: got 'shift', which is made for images; takes none for text.")
    hint = "Start from the recipe `sst2-minilm`, or write `data.augment=none` under More settings."
    assert app.error[0].value.endswith(f"takes none for text. {hint}")
    assert plan_of(preset_values("sst2-minilm")).config.data.augment == "none"
    assert plan_of(preset_values("digits") | {"more": "data.augment=none"}).config.data.augment == "none"


def test_a_network_that_does_not_take_the_data_is_queued_once_it_is_another(app, monkeypatch):
    opened(app, PAGE)
    said = "student.model: 'digits-cnn-small' takes images, but the data are sentences; takes bert-tiny."
    assert looked(app, monkeypatch, said).error[0].value == said  # the form has a field for it
    assert app.button(key="queue").disabled
    assert not chosen(app, "Student", "minilm-3").button(key="queue").disabled


def test_the_form_goes_back_to_its_recipe(app):
    opened(app, PAGE)
    text_input(app, "Data").set_value("cifar10")
    text_input(app, "Seeds").set_value("7")
    app.text_area(key="plan more").set_value("student.optim.lr=0.1").run()
    app.button(key="reset").click().run()
    assert (text_input(app, "Data").value, text_input(app, "Seeds").value) == ("digits", "0, 1, 2")
    assert app.text_area(key="plan more").value == ""


def chosen(app: AppTest, label: str, value: str) -> AppTest:
    next(element for element in app.selectbox if element.label == label).set_value(value).run()
    assert not app.exception
    return app


def test_a_class_matrix_is_uploaded_and_its_sweep_queued(app):
    opened(app, PAGE)
    chosen(app, "Noise", "matrix")
    assert [error.value for error in app.error] == ["noise.kind 'matrix' needs noise.matrix."]
    assert text_input(app, "Rates").disabled
    app.file_uploader(key="matrix_file").upload("mixed.csv", b"0.5,0.6\n0.1,0.9\n", "text/csv").run()
    assert app.error[0].value == "Class matrix: row 1 of mixed.csv sums to 1.1, takes shares that sum to 1."
    rows = [[0.73 if row == column else 0.03 for column in range(10)] for row in range(10)]
    lines = "\n".join(",".join(map(str, row)) for row in rows).encode()
    app.file_uploader(key="matrix_file").upload("mixed.csv", lines, "text/csv").run()
    assert not app.error
    assert any(caption.value.startswith("10 classes; 27 % of the labels") for caption in app.caption)
    app.button(key="queue").click().run()
    (sweep,) = jobs.list_sweeps()
    noise = open_run(sweep.runs[0]).config().noise
    assert (noise.kind, noise.rate, sweep.noise) == ("matrix", 0, [0.0])
    assert [list(row) for row in noise.matrix] == rows


def test_the_damage_is_chosen_where_inputs_are_damaged(app):
    opened(app, PAGE)
    assert "Damage" not in [element.label for element in app.selectbox]
    chosen(chosen(app, "Noise", "input"), "Damage", "blur")
    chosen(app, "Noise", "pair")  # the field goes, and what was chosen stays
    chosen(app, "Noise", "input")
    app.button(key="queue").click().run()
    noise = open_run(jobs.list_sweeps()[0].runs[-1]).config().noise
    assert (noise.kind, noise.corruption, noise.rate) == ("input", "blur", 0.4)


# --- the plan, without widgets ---------------------------------------------------------------------------------------


def test_what_a_base_has_instead_of_training_its_teacher_goes_with_its_model():
    tuned = ["teacher.model=minilm", "teacher.labels=none"]
    values = form_values(load_config("sst2-minilm", tuned))
    assert plan_of(values).config.teacher.labels == "none"
    assert plan_of(values | {"teacher": "bert-tiny"}).config.teacher.labels == "given"
    kept = form_values(load_config("digits", ["teacher.checkpoint=a.pt"])) | {"teacher": "digits-cnn-small"}
    assert plan_of(kept).config.teacher.checkpoint is None
    assert plan_of(kept | {"more": "teacher.checkpoint=b.pt"}).config.teacher.checkpoint == "b.pt"


def test_the_form_of_a_preset_is_that_preset():
    plan = plan_of(preset_values("digits"))
    assert plan.config == small().model_validate(form_values(plan.config)["base"])
    assert (plan.methods, plan.noise, plan.seeds) == (["kd", "kd-aif", "oracle"], [0.0, 0.4], [0, 1, 2])
    assert len(plan.cells()) == 18


def test_a_cloned_run_keeps_every_setting():
    config = small("method=oracle", "seed=5")
    assert plan_of(form_values(config)).cells() == [config]


def test_a_cloned_sweep_is_the_sweep():
    record = jobs.submit_sweep(small(), methods=["kd", "ce"], noise=[0.0, 0.3], seeds=[1, 2])
    assert [jobs.standing(cell, None).id for cell in plan_of(sweep_values(record)).cells()] == record.runs


def test_the_form_knows_every_damage():
    assert list(DAMAGES) == [*CORRUPTIONS, *TEXT_CORRUPTIONS]


def test_the_form_knows_every_named_source_and_kind_of_file():
    assert list(SOURCES) == list(sources.SOURCES)
    assert list(ENDINGS) == list(READERS)


def test_data_are_a_name_a_path_or_a_hub_id(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    form = preset_values("digits") | {"root": str(tmp_path)}
    for source in (*SOURCES, str(tmp_path), "mine", "mine/deep", "~/mine", "owner/name", "owner/name:config"):
        assert plan_of(form | {"source": source}).config.data.source == source
    for source in ("nosuchsource", "mine/not.csv", "/nowhere", "~/nowhere", "./nowhere", "a/b/c"):
        with pytest.raises(UserError, match=re.escape(f"data.source: got {source!r}, takes one of digits,")):
            plan_of(form | {"source": source})
        with pytest.raises(UserError, match=re.escape(f"data.source: got {source!r}")):
            sources.read_source(source, tmp_path)
    for source in ("", "~nobody", "x" * 300):
        with pytest.raises(UserError, match=f"data.source: got '{source}', takes one of digits,"):
            plan_of(preset_values("digits") | {"source": source})


@pytest.mark.parametrize(
    "content",
    [
        b"0.9,0.1\n0.2,0.8\n",
        b"\xef\xbb\xbfcat, dog\r\n0.9, 0.1\r\n\r\n0.2, 0.8\r\n",
        b",cat,dog\ncat,0.9,0.1\ndog,0.2,0.8\n",
        b"cat,0.9,0.1\ndog,0.2,0.8\n",
        b"given,0,1\n0,0.9,0.1\n1,0.2,0.8\n",
    ],
)
def test_a_class_matrix_is_read_with_and_without_names(content):
    assert read_matrix("m.csv", content) == ((0.9, 0.1), (0.2, 0.8))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "m.csv has 0 rows of 0 numbers"),
        (b"\xff\xfe\x00", "m.csv is no csv file"),
        (b"0.9,0.1\n0.2,many\n", "m.csv holds 'many', takes numbers"),
        (b"0.9,\n0.2,0.8\n", "m.csv holds '', takes numbers"),
        (b"0.9,0.1\n0.2,nan\n", "m.csv holds 'nan', takes numbers"),
        (b"0.9,0.1\n0.2,0.8\n0.5,0.5\n", "m.csv has 3 rows of 2 numbers"),
        (b"0.9,0.1\n0.2\n", "m.csv has 2 rows of 1 or 2 numbers"),
        (b"0.9,0.1\n-0.2,1.2\n", "row 2 of m.csv holds -0.2, takes shares"),
    ],
)
def test_a_wrong_class_matrix_is_one_sentence(content, said):
    with pytest.raises(UserError, match=f"^Class matrix: .*{re.escape(said)}") as error:
        read_matrix("m.csv", content)
    assert str(error.value).endswith(".")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"methods": []}, "Methods: none is chosen"),
        ({"seeds": "a"}, "Seeds: got 'a', takes numbers with commas between"),
        ({"more": "student.optim.lr=-1"}, "student.optim.lr: got -1"),
        ({"root": "/nowhere at all"}, "Folder of data sets: got '/nowhere at all'"),
        ({"kind": "matrix"}, "noise.kind 'matrix' needs noise.matrix"),
    ],
)
def test_a_wrong_plan_is_one_sentence(change, said):
    with pytest.raises(UserError) as error:
        plan_of(preset_values("digits") | change)
    assert str(error.value).startswith(said)


def test_the_time_is_told_with_what_it_rests_on(monkeypatch):
    assert time_words(Estimate(90.0, 3, 0), 4, 4) == "about 1 min 30 s on one device, going by 3 done runs."
    partly = time_words(Estimate(90.0, 1, 1), 4, 2)
    assert partly == "2 of them are done already; at least 1 min 30 s on one device, going by 1 done run."
    assert time_words(Estimate(0.0, 0, 0), 4, 0) == "All of these runs are done already."
    monkeypatch.setattr(launcher, "calibrating", lambda: True)
    assert "is being measured" in time_words(Estimate(0.0, 0, 4), 4, 4)
