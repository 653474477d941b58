from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    TrainingArguments,
)

from kdaif import models
from kdaif.config import DistillationConfig, UserError, load_config
from kdaif.data import load
from kdaif.fit import new_model
from kdaif.hidden import check_hidden, compared, pass_both
from kdaif.influence import SCORERS, InfluenceWeights, scope_names
from kdaif.influence.scores import gradient
from kdaif.integrations import InfluenceTrainer
from kdaif.models import TextClassifier
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import SCORED, small_text, token_rows, write_scored, write_sentences
from tests.small import small
from tests.unit.models.test_text import sentences

SIZES = {"vocab_size": 60, "num_labels": 2}
BERT = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64}


def classifier(config: object, seed: int = 0) -> TextClassifier:
    torch.manual_seed(seed)
    network = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
    return TextClassifier(network, 0).eval()


def bert(layers: int, seed: int = 0, **changed: int) -> TextClassifier:
    return classifier(BertConfig(num_hidden_layers=layers, **{**BERT, **SIZES, **changed}), seed)


def distilbert(layers: int) -> TextClassifier:
    return classifier(DistilBertConfig(dim=32, n_layers=layers, n_heads=2, hidden_dim=64, **SIZES))


INPUTS = sentences(3, 12, 5, 9)


@pytest.mark.parametrize(
    ("student", "teacher", "held_against"), [(3, 6, [1, 3, 5]), (2, 2, [0, 1]), (1, 4, [3]), (4, 6, [1, 2, 3, 5])]
)
def test_layers_are_compared_uniformly_and_the_last_with_the_last(
    student: int, teacher: int, held_against: list[int]
) -> None:
    assert compared(student, teacher) == held_against


@pytest.mark.parametrize("student", [bert(2), distilbert(2)], ids=["bert", "distilbert"])
def test_the_distance_is_the_mean_squared_error_of_the_hidden_states(student: TextClassifier) -> None:
    teacher = bert(4, seed=1)
    found = pass_both(student, teacher, INPUTS)
    torch.testing.assert_close(found.logits, student(INPUTS))
    torch.testing.assert_close(found.teacher_logits, teacher(INPUTS))
    for row, count in enumerate((3, 12, 5, 9)):
        given = {"input_ids": INPUTS[row : row + 1, 0, :count].long(), "output_hidden_states": True}
        parts = {"token_type_ids": INPUTS[row : row + 1, 1, :count].long()}
        own, taught = (
            model.network(**given, **(parts if model.pairs else {})).hidden_states for model in (student, teacher)
        )
        expected = torch.stack([F.mse_loss(own[1], taught[2]), F.mse_loss(own[2], taught[4])]).mean()
        torch.testing.assert_close(found.distance[row], expected, rtol=1e-4, atol=1e-5)


def test_a_copy_is_no_distance_away_and_the_teacher_gets_no_gradient() -> None:
    student, teacher = bert(2), bert(2)
    assert pass_both(student, teacher, INPUTS).distance.max() == 0
    pass_both(bert(2, seed=3), teacher, INPUTS).distance.sum().backward()
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(layer._forward_hooks for layer in teacher.modules())


@pytest.mark.parametrize(
    ("student", "teacher", "said"),
    [
        (
            lambda: nn.Linear(2, 2),
            lambda: bert(2),
            "student.model has no list of transformer layers, takes 0 or two BERT",
        ),
        (
            lambda: bert(2),
            lambda: classifier(AlbertConfig(embedding_size=16, num_hidden_layers=2, **BERT, **SIZES)),
            "teacher.model has no list of transformer layers",
        ),
        (lambda: bert(3), lambda: bert(2), "the student has more layers than the teacher"),
        (lambda: bert(2, hidden_size=16), lambda: bert(2), "hidden states have 16 components in the student and 32 in"),
    ],
)
def test_networks_that_cannot_be_compared_are_refused(student, teacher, said: str) -> None:
    with pytest.raises(UserError, match=f"^distillation.hidden: {said}"):
        check_hidden(student(), teacher())


def test_scores_of_the_loss_with_hidden_states_are_exact() -> None:
    student, teacher, labels = bert(2), bert(4, seed=1).requires_grad_(False), torch.tensor([0, 1, 1, 0])

    def criterion(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        passed = pass_both(student, teacher, batch[0])
        return F.cross_entropy(passed.logits, batch[1], reduction="none") + 3 * passed.distance

    names = scope_names(student, "all")
    directions = [gradient(student, criterion, [(INPUTS, labels)], names)]
    other = sentences(4, 8, 6, 7, seed=2), labels
    scores, reference = (SCORERS[name](student, criterion, other, directions) for name in ("layerwise", "loop"))
    assert (scores - reference).abs().max() <= 1e-5 * reference.abs().max()


def test_a_step_is_scored_with_its_hidden_states() -> None:
    student, teacher, labels = bert(2), bert(4, seed=1).requires_grad_(False), torch.tensor([0, 1, 1, 0])
    scores = []
    for hidden in (0.0, 5.0):
        weights = InfluenceWeights(student.train(), (INPUTS, labels), 4, scope="all", folds=2, update="lagged")
        passed = pass_both(student, teacher, INPUTS)
        losses = F.cross_entropy(passed.logits, labels, reduction="none") + hidden * passed.distance
        weights(losses, torch.arange(4)).backward()
        weights.step()
        assert weights.table.visits.tolist() == [1] * 4
        scores.append(weights.table.raw.clone())
        weights.close()
    assert not torch.allclose(*scores)


TEXT = ("teacher.model=bert-micro", "student.model=distilbert-micro")


def far_apart(run: Run, teacher: Path, config: object) -> float:
    """Mean distance of the finished student's hidden states from its teacher's."""
    dataset = load(config.data, config.noise, config.seed, None)
    made = {}
    for name, path in (("teacher", teacher), ("student", run.student_path)):
        made[name] = new_model(getattr(config, name).model, dataset, torch.device("cpu"), name).eval()
        models.load_checkpoint(made[name], path)
    with torch.no_grad():
        return float(pass_both(made["student"], made["teacher"], dataset.test.inputs).distance.mean())


def test_a_run_brings_hidden_states_nearer_and_keeps_no_logits(tmp_path: Path) -> None:
    folder, distances = write_sentences(tmp_path / "films", 200), []
    for hidden in (0, 10):
        config = small_text(
            folder, *TEXT, "student.optim.epochs=3", f"distillation.hidden={hidden}", "influence.scope=all"
        )
        run = Run(Path(train_new(config)["run_dir"]))
        assert np.isfinite(run.epoch()["influence"]).all()
        distances.append(far_apart(run, Path(run.provenance()["teacher"]), config))
    assert distances[1] < 0.8 * distances[0]


@pytest.mark.parametrize("sets", [["method=kd"], ["method=small-loss"], ["influence.update=two_phase"]])
def test_it_goes_with_other_methods_and_with_numbers(tmp_path: Path, sets: list[str]) -> None:
    folder = write_scored(tmp_path / "scored")
    short = ["student.optim.epochs=1", "teacher.optim.epochs=1", "distillation.hidden=1"]
    result = train_new(small_text(folder, *SCORED, *TEXT, *short, *sets))
    assert np.isfinite(result["test_accuracy"])


def test_images_have_no_hidden_states() -> None:
    with pytest.raises(UserError, match=r"^distillation.hidden: student.model has no list of transformer layers"):
        train_new(small("distillation.hidden=1"))
    with pytest.raises(UserError, match=r"^distillation.hidden: got -1, should be greater than or equal to 0"):
        load_config("digits", ["distillation.hidden=-1"])


def test_the_trainer_takes_it_too(tmp_path: Path) -> None:
    config = small_text(write_sentences(tmp_path / "films", 80))
    dataset = load(config.data, config.noise, 0, None)
    teacher, student = (new_model("bert-micro", dataset, torch.device("cpu"), "x") for _ in range(2))
    options = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    trainer = InfluenceTrainer(
        student.network,
        TrainingArguments(
            str(tmp_path), num_train_epochs=8, per_device_train_batch_size=16, learning_rate=3e-3, **options
        ),
        teacher=teacher.network,
        train_dataset=token_rows(dataset.train),
        validation_dataset=token_rows(dataset.validation),
        distillation=DistillationConfig(hidden=20),
        processing_class=dataset.vocabulary.tokenizer,
    )
    distances = []
    for train in (lambda: None, trainer.train):
        train()
        with torch.no_grad():
            distances.append(float(pass_both(student.eval(), teacher.eval(), dataset.test.inputs).distance.mean()))
    assert distances[1] < 0.8 * distances[0]
