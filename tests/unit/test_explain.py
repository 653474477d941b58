import math
import shutil

import numpy as np
import pytest
import torch
from captum.attr import IntegratedGradients, Occlusion, Saliency

from kdaif import models
from kdaif.config import UserError
from kdaif.explain import METHODS, explain, normalised, open_network, patch
from kdaif.runs import Run
from tests.factories import digits_run
from tests.small import small

ROW, TARGET = 3, 5


def direct(name: str, network: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    """captum, called as its documentation has it."""
    if name == "integrated-gradients":
        return IntegratedGradients(network).attribute(inputs, baselines=torch.zeros_like(inputs), target=TARGET)
    if name == "saliency":
        return Saliency(network).attribute(inputs, target=TARGET)
    return Occlusion(network).attribute(inputs, sliding_window_shapes=(1, 2, 2), strides=(1, 1, 1), target=TARGET)


@pytest.mark.parametrize("network", ["student", "teacher"])
@pytest.mark.parametrize("method", METHODS)
def test_attributions_are_captums(trained: Run, network: str, method: str):
    found = explain(trained, ROW, network, method, TARGET)
    opened = open_network(trained, network)
    inputs = normalised(trained.inputs()[ROW : ROW + 1], opened.stats).requires_grad_()
    expected = direct(method, opened.model, inputs).detach()[0].sum(0).numpy()
    assert found.values.shape == (8, 8)
    np.testing.assert_allclose(found.values, expected, rtol=1e-5, atol=1e-6)
    assert np.abs(found.values).max() > 0


def test_integrated_gradients_add_up_to_the_logits_distance_from_the_mean_image(trained: Run):
    found = explain(trained, ROW, "student", "integrated-gradients", TARGET)
    network = open_network(trained, "student")
    inputs = normalised(trained.inputs()[ROW : ROW + 1], network.stats)
    with torch.no_grad():
        here, there = (network.model(x)[0, TARGET] for x in (inputs, torch.zeros_like(inputs)))
    assert found.values.sum() + found.residual == pytest.approx(float(here - there), abs=1e-4)
    assert abs(found.residual) < 0.2 * max(1.0, abs(float(here - there)))
    assert math.isnan(explain(trained, ROW, "student", "saliency", TARGET).residual)


def test_the_networks_are_those_that_the_run_recorded(trained: Run):
    last = trained.epoch()
    said = [explain(trained, ROW, "teacher", "saliency", target).probability for target in range(10)]
    assert sum(said) == pytest.approx(1.0)
    assert int(np.argmax(said)) == last["teacher_prediction"][ROW]
    assert max(said) == pytest.approx(last["teacher_confidence"][ROW], abs=1e-4)


def test_a_running_run_is_explained_by_its_best_student(trained: Run, tmp_path):
    run = Run(tmp_path / "runs" / "half")
    run.path.parent.mkdir()
    shutil.copytree(trained.path, run.path)
    shutil.copytree(trained.path.parent.parent / "inputs", tmp_path / "inputs")
    run.student_path.unlink()
    assert explain(run, 0, "student", "saliency", 0).values.shape == (8, 8)


def test_inputs_are_normalised_as_in_training(trained: Run):
    stats = models.InputStats([0.5], [0.25])
    assert normalised(np.full((1, 2, 2, 1), 255, np.uint8), stats).unique().tolist() == [2.0]
    assert normalised(np.zeros((1, 4, 6, 1), np.uint8), stats).shape == (1, 1, 4, 6)


def test_the_patch_is_a_quarter_of_the_side_and_steps_by_half_of_that():
    assert patch([32, 32]) == ((8, 8), (4, 4))
    assert patch([8, 2]) == ((2, 1), (1, 1))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((0, "pupil", "saliency", 0), r"explain.network: got 'pupil', takes one of student, teacher\."),
        ((0, "student", "lime", 0), r"explain.method: got 'lime', takes one of integrated-gradients, occlusion"),
        ((9999, "student", "saliency", 0), r"explain.row: got 9999, takes 0 to 199\."),
        ((0, "student", "saliency", -1), r"explain.target: got -1, takes 0 to 9\."),
    ],
)
def test_what_does_not_exist_is_refused(trained: Run, arguments, sentence):
    with pytest.raises(UserError, match=sentence):
        explain(trained, *arguments)


def test_a_run_without_networks_or_inputs_is_refused():
    run = digits_run("kd-aif", epochs=1)
    with pytest.raises(UserError, match="has saved no student yet"):
        explain(run, 0, "student", "saliency", 0)
    run.add_provenance(inputs=None)
    with pytest.raises(UserError, match="keeps no inputs"):
        explain(run, 0, "student", "saliency", 0)


def test_a_method_without_a_teacher_has_none_to_ask(trained: Run, tmp_path):
    from kdaif.train import train_new

    alone = Run(tmp_path / "cache" / "runs" / train_new(small("method=ce", "student.optim.epochs=1"))["run_id"])
    with pytest.raises(UserError, match="of method ce has no teacher"):
        explain(alone, 0, "teacher", "saliency", 0)
