"""The rooms behind the primary sample, on a run that was really trained."""

import json
import shutil

import pytest
from streamlit.testing.v1 import AppTest

from kdaif.relations import read_relations, strongest
from kdaif.runs import Run, cache_root, open_run
from tests.app.test_pages import opened
from tests.factories import digits_run

SAMPLES = "views/samples.py"


@pytest.fixture
def real(trained: Run) -> Run:
    """The trained run in this test's cache folder."""
    shutil.copytree(trained.path.parent.parent, cache_root(), dirs_exist_ok=True)
    shutil.rmtree(cache_root() / "runs" / trained.id / "derived", ignore_errors=True)
    return open_run(trained.id)


def thumbnails(app: AppTest) -> dict[str, list[dict]]:
    protos = [element.proto for element in app.get("bidi_component")]
    proto = next(proto for proto in protos if proto.id.endswith("neighbours"))
    return {group["title"]: group["thumbnails"] for group in json.loads(proto.json)["groups"]}


def test_heat_maps_come_when_they_are_asked_for_student_beside_teacher(app, real):
    opened(app, SAMPLES, sample="3", room="Heat map")
    assert not [image for image in app.get("image") if "Heat map" in image.proto.imgs[0].alt]
    app.button(key="explain").click().run()
    assert not app.exception
    captions = [image.proto.imgs[0].caption for image in app.get("image")]
    assert [caption.split(":")[0] for caption in captions if caption] == ["Student", "Teacher"]
    assert app.button(key="explain").disabled
    app.selectbox(key="explain_by").select("occlusion").run()
    assert not app.button(key="explain").disabled


def test_the_classes_to_explain_are_those_that_somebody_named(app, real):
    opened(app, SAMPLES, sample="3", room="Heat map")
    last, names = real.epoch(), real.classes()
    named = {names[real.samples()["label"][3]]} | {
        names[last[f"{who}_prediction"][3]] for who in ("student", "teacher")
    }
    assert set(app.selectbox(key="why").options) == named


def test_neighbours_are_found_once_and_a_like_sample_opens(app, real):
    opened(app, SAMPLES, sample="3", room="Neighbours")
    app.button(key="find_neighbours").click().run()
    assert not app.exception
    harms, helps, like = thumbnails(app).values()
    relations = read_relations(real)
    assert [tile["words"] for tile in harms] == list(
        relations.held_words[strongest(relations.on_validation(3), 6, lowest=True)]
    )
    assert all(tile["row"] is None for tile in harms + helps)
    assert [tile["row"] for tile in like] == strongest(relations.likeness(3), 6, lowest=False).tolist()
    app.number_input(key="sample").set_value(like[0]["row"]).run()
    assert "find_neighbours" not in [button.key for button in app.button]


@pytest.mark.parametrize(("room", "button"), [("Heat map", "explain"), ("Neighbours", "find_neighbours")])
def test_a_run_whose_networks_are_gone_says_so_in_a_sentence(app, room, button):
    run = digits_run("kd-aif", epochs=2)
    opened(app, SAMPLES, run=run.id, room=room)
    app.button(key=button).click().run()
    assert not app.exception
    assert app.error[0].value.endswith(".")


def test_a_run_without_pictures_has_no_heat_map(app):
    digits_run("kd-aif", epochs=2).add_provenance(inputs=None)
    opened(app, SAMPLES, room="Heat map")
    assert list(app.get_by_key("room").options) == ["Course", "Neighbours", "Act"]
