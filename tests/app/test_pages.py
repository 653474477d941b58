"""Each page and the flows through them, without a browser."""

import base64
import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.ui import progress
from app.ui.figures import FADED
from kdaif.jobs import find_job
from kdaif.runs import list_runs, open_run, runs_root
from kdaif.runs.tables import sample_table
from tests.app.conftest import ROOT
from tests.factories import digits_run

PAGES = (
    "views/overview.py",
    "views/samples.py",
    "views/compare.py",
    "views/dynamics.py",
    "views/robustness.py",
    "views/card.py",
)


def headline(app: AppTest) -> str:
    """The opening sentence without its colours."""
    return re.sub(r":color\[(.*?)\]\{.*?\}", r"\1", app.header[0].value)


def fresh() -> AppTest:
    """Another visitor."""
    return AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60)


def opened(app: AppTest, page: str, /, **query: str) -> AppTest:
    app.run()
    for name, value in query.items():
        app.query_params[name] = value
    app.switch_page(page).run()
    assert not app.exception
    return app


def gallery(app: AppTest, key: str = "gallery") -> list[dict]:
    """The groups of tiles that the component was given."""
    protos = [element.proto for element in app.get("bidi_component")]
    proto = next(proto for proto in protos if f"-{key}" in proto.id or proto.id.endswith(key))
    return json.loads(proto.json)["groups"]


def chart(app: AppTest, key: str) -> dict:
    return json.loads(next(element.proto.spec for element in app.get("plotly_chart") if element.proto.id.endswith(key)))


def numbers(array: dict) -> np.ndarray:
    """An array as plotly sends it: typed bytes."""
    return np.frombuffer(base64.b64decode(array["bdata"]), array["dtype"])


def newest(method: str) -> str:
    return next(run.id for run in list_runs() if run.config and run.config.method == method)


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_house_says_what_to_do(app, page):
    opened(app, page)
    assert len(app.header) == 1
    assert not app.error
    if page == PAGES[0]:
        assert app.button(key="run_demo").label == "Run the demo"


@pytest.mark.parametrize("page", PAGES)
def test_every_page_opens_with_a_sentence_in_figures(app, demo, page):
    opened(app, page)
    assert not app.error
    assert not app.warning
    assert re.search(r"\d", headline(app))


def test_overview_shows_gain_figures_worst_samples_and_all_runs(app, demo):
    opened(app, PAGES[0])
    assert re.fullmatch(
        r"KD-AIF recovered \d+ % of what a perfect label cleaner would gain \(mean of 2 seeds\)\. "
        r"\d+ of 1,200 samples look harmful, \d+ % of them rightly\.",
        headline(app),
    )
    assert [metric.label for metric in app.metric] == ["Test accuracy", "Flips found", "AUROC"]
    assert len(app.dataframe[0].value) == 6
    (group,) = gallery(app, "worst")
    assert len(group["samples"]) == 8
    assert all(sample["image"].startswith("data:image/png") for sample in group["samples"])


def test_overview_without_a_counterpart_says_what_is_missing(app):
    digits_run("kd-aif", epochs=2)
    opened(app, PAGES[0])
    assert "there is no vanilla KD run of the same seed to measure it against yet" in headline(app)
    assert any("`method: kd`" in caption.value for caption in app.caption)


def test_the_demo_button_starts_the_demo_once_and_shows_that_it_lives(app, monkeypatch):
    monkeypatch.setattr(progress, "DEMO_COMMAND", [sys.executable, "-c", "import time; time.sleep(60)"])
    app.run()
    app.button(key="run_demo").click().run()
    job = find_job("demo")
    try:
        assert job is not None
        assert job.alive()
        assert "under way" in app.get("progress")[0].proto.text
        assert "run_demo" not in [button.key for button in app.button]
    finally:
        subprocess.run(["kill", str(job.pid)], check=True)


def test_a_demo_that_failed_shows_its_last_words(app, monkeypatch):
    monkeypatch.setattr(progress, "DEMO_COMMAND", [sys.executable, "-c", "raise SystemExit('no digits today')"])
    app.run()
    app.button(key="run_demo").click().run()
    job = find_job("demo")
    while job.alive():
        pass
    app.run()
    assert app.error[0].value == "The demo ended without a result. Its last lines:"
    assert app.code[0].value == "no digits today"
    assert app.button(key="run_demo").label == "Run the demo"


def test_live_runs_show_stage_epoch_and_time_left(app):
    digits_run("kd-aif", epochs=10, recorded=3)
    app.run()
    text = app.get("progress")[0].proto.text
    assert "**KD-AIF**" in text
    assert "seed 0 · student · epoch 3 of 10 · about 8 s left" in text
    assert "No run of this experiment has finished yet." in headline(app)


def test_a_broken_folder_is_named_and_spares_the_rest(app, demo):
    (runs_root() / "20260101-000000-foreign").mkdir()
    opened(app, PAGES[0])
    assert app.expander[0].label == "1 folder among the runs could not be read"
    assert "holds no config.json" in app.expander[0].text[0].value


def test_samples_shows_the_newest_kd_aif_run_from_both_ends(app, demo):
    opened(app, PAGES[1])
    table = sample_table(open_run(newest("kd-aif"))).sort_values("rank")
    harmful, helpful = gallery(app)
    assert [sample["row"] for sample in harmful["samples"]] == list(table.index[:12])
    assert [sample["row"] for sample in helpful["samples"]] == list(table.index[::-1][:6])
    assert all(sample["marker"] == "flipped" for sample in harmful["samples"])
    assert any(f"**Sample {table.index[0]}**" in text.value for text in app.markdown)


def test_the_range_selects_in_gallery_histogram_and_export(app, demo):
    opened(app, PAGES[1])
    app.number_input(key="from").set_value(0.2)
    app.number_input(key="to").set_value(0.8).run()
    table = sample_table(open_run(newest("kd-aif")))
    expected = int(table["weight"].between(0.2, 0.8).sum())
    assert 0 < expected < 1200
    assert app.get("download_button")[-1].proto.label == f"All {expected:,} selected"
    assert all(0.2 <= sample["weight"] <= 0.8 for group in gallery(app) for sample in group["samples"])
    opacity = numbers(chart(app, "histogram")["data"][0]["marker"]["opacity"])
    assert set(opacity) == {0.95, FADED}
    app.button(key="clear").click().run()
    assert app.number_input(key="from").value is None
    assert app.get("download_button")[1].proto.label == "All 1,200 selected"


def test_another_field_clears_the_range(app, demo):
    opened(app, PAGES[1])
    app.number_input(key="to").set_value(0.8).run()
    app.get_by_key("field").set_value("influence").run()
    assert app.number_input(key="to").value is None
    assert "influence" in chart(app, "histogram")["layout"]["xaxis"]["title"]["text"]


def test_class_and_show_filter(app, demo):
    opened(app, PAGES[1])
    app.selectbox(key="class").select("digit 3")
    app.selectbox(key="show").select("Looks harmful").run()
    tiles = [sample for group in gallery(app) for sample in group["samples"]]
    assert {sample["given"] for sample in tiles} == {"digit 3"}
    assert {sample["sign"] for sample in tiles} == {"▼"}


def test_an_empty_selection_is_said(app, demo):
    opened(app, PAGES[1])
    app.number_input(key="from").set_value(50.0).run()
    assert app.info[0].value == "No sample is selected: widen the filters or clear the range."


def test_the_epoch_slider_shows_that_epoch(app, demo):
    opened(app, PAGES[1])
    app.select_slider(key="epoch").set_value(1).run()
    first = sample_table(open_run(newest("kd-aif")), 1).sort_values("rank")
    assert [sample["row"] for sample in gallery(app)[0]["samples"]] == list(first.index[:12])


def test_the_sample_number_opens_its_detail(app, demo):
    opened(app, PAGES[1])
    app.number_input(key="sample").set_value(7).run()
    assert any("**Sample 7**" in text.value for text in app.markdown)
    course = chart(app, "course")["data"]
    assert [trace["name"] for trace in course if "name" in trace].count("this sample") == 3
    run = open_run(newest("kd-aif"))
    np.testing.assert_allclose(numbers(course[2]["y"]), run.trajectories("weight", [7])[:, 0], rtol=1e-6)


def test_everything_can_be_sent_as_a_link(app, demo):
    run = newest("kd")
    opened(app, PAGES[1], run=run, epoch="2", sample="11", **{"class": "digit 5"})
    assert app.selectbox(key="run").value == run
    assert app.select_slider(key="epoch").value == 2
    assert app.number_input(key="sample").value == 11
    assert app.selectbox(key="class").value == "digit 5"
    assert "weighs all 1,200 training samples the same" in headline(app)


@pytest.mark.parametrize(
    "query",
    [
        {"run": "../../etc"},
        {"sample": "99999999"},
        {"sample": "x"},
        {"epoch": "77"},
        {"class": "horse"},
        {"show": "Slice: gone"},
    ],
)
def test_a_link_that_leads_nowhere_shows_the_page_all_the_same_and_says_so(app, demo, query):
    opened(app, PAGES[1], **query)
    assert not app.error
    assert len(gallery(app)) == 2
    (warning,) = app.warning
    (wanted,) = query.values()
    assert f"the link says '{wanted}', which is not here" in warning.value


def test_a_link_to_what_is_there_brings_no_warning(app, demo):
    opened(app, PAGES[1], epoch="2", sample="11", show="Looks harmful", sort="Loss", page="2", **{"from": "a"})
    assert not app.warning


def test_the_page_of_the_gallery_is_part_of_the_link(app, demo):
    first = opened(app, PAGES[1])
    one = gallery(first)[0]["samples"][0]["row"]
    second = opened(fresh(), PAGES[1], page="2")
    assert gallery(second)[0]["samples"][0]["row"] != one
    assert not second.warning


def test_another_run_with_fewer_epochs_and_samples_keeps_the_page_whole(app, demo):
    run = digits_run("kd-aif", seed=5, epochs=2)
    opened(app, PAGES[1], run=newest("oracle"), epoch="3")
    app.selectbox(key="run").set_value(run.id).run()
    assert not app.exception
    assert app.select_slider(key="epoch").value == 0


def test_unknown_flips_are_not_spoken_of(app):
    digits_run("kd-aif", epochs=2, known=False)
    opened(app, PAGES[1])
    assert headline(app).endswith("samples look harmful.")
    assert list(app.selectbox(key="show").options) == ["All samples", "Looks harmful", "Looks helpful"]
    assert {sample["marker"] for group in gallery(app) for sample in group["samples"]} == {""}


def test_a_run_without_pictures_shows_references(app):
    run = digits_run("kd-aif", epochs=2)
    run.add_provenance(inputs=None)
    opened(app, PAGES[1])
    assert gallery(app)[0]["samples"][0]["words"].startswith("load_digits#")


def test_lost_pictures_are_one_sentence(app):
    run = digits_run("kd-aif", epochs=2)
    shutil.rmtree(runs_root().parent / "inputs")
    opened(app, PAGES[1])
    assert "the inputs" in app.error[0].value
    assert "cannot be read" in app.error[0].value
    assert run.id


def test_compare_draws_accuracy_curves_classes_and_settings(app, demo):
    opened(app, PAGES[2])
    assert re.fullmatch(
        r"KD-AIF reaches [\d.]+ % on the test set, [\d.]+ points above vanilla KD and [\d.]+ points below the oracle "
        r"\(mean of 2 seeds\)\.",
        headline(app),
    )
    assert [trace.get("name") for trace in chart(app, "curves")["data"]][1::2] == ["Vanilla KD", "KD-AIF", "Oracle"]
    assert sorted(chart(app, "classes")["data"][0]["x"]) == [f"digit {n}" for n in range(10)]
    assert [name.split(",")[0] for name in app.multiselect(key="runs").value] == ["Vanilla KD", "KD-AIF", "Oracle"]
    shown = opened(fresh(), PAGES[2], compared="Figures").dataframe[0]
    assert shown.proto.placeholder == "–"
    figures = shown.value
    assert list(figures)[3:] == ["Std, points", "Gain, points", "Gap recovered"]
    assert list(figures["Method"]) == ["Vanilla KD", "KD-AIF", "Oracle"]
    assert figures["Runs"].to_list() == [2, 2, 2]
    settings = opened(fresh(), PAGES[2], compared="Settings that differ").dataframe[0].value
    assert list(settings.index) == ["method"]


def test_compare_keeps_experiments_apart(app, demo):
    for method in ("kd", "kd-aif"):
        digits_run(method, epochs=4, noise=0.2)
    opened(app, PAGES[2])
    assert len(app.selectbox(key="experiment").options) == 2
    assert "(one seed)" in headline(app)
    app.selectbox(key="experiment").select_index(1).run()
    assert "(mean of 2 seeds)" in headline(app)


def test_compare_without_kd_says_so(app):
    digits_run("kd-aif", epochs=2)
    opened(app, PAGES[2])
    assert any("needs a finished run" in caption.value for caption in app.caption)


def test_a_live_run_alone_leaves_compare_waiting(app):
    digits_run("kd-aif", recorded=2)
    opened(app, PAGES[2])
    assert "No run has finished yet" in headline(app)


def test_pages_bring_in_no_torch(demo, tmp_path):
    script = (
        "import sys\n"
        "from streamlit.testing.v1 import AppTest\n"
        "app = AppTest.from_file('app/main.py', default_timeout=60).run()\n"
        f"for page in {PAGES!r}:\n"
        "    app.switch_page(page).run()\n"
        "    assert not app.exception and not app.error, (page, app.exception, app.error)\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, timeout=120)
