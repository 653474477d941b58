from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainingArguments

from kdaif import models
from kdaif.config import OptimConfig, UserError
from kdaif.data import load
from kdaif.fit import new_model
from kdaif.integrations import InfluenceTrainer
from kdaif.metrics.detection import auroc
from kdaif.optim import make_optimizer
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import SCORED, small_text, token_rows, write_scored, write_sentences

TRAINING = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True, "max_grad_norm": 0.0}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sentences(tmp_path_factory.mktemp("films"), train=300, test=60)


def sets(films: Path, *more: str) -> object:
    return small_text(films, "student.model=bert-micro", "student.optim.epochs=3", "teacher.optim.epochs=4", *more)


def test_the_weights_are_those_of_the_built_in_loop(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Same data, teacher, student, order and optimiser; tolerance 1e-3 of weights in 0..1 and of t: rounding, over 3 epochs."""
    built = models.text.SCRATCH["bert-micro"]

    def without_dropout(size: int, pad: int) -> object:
        config = built(size, pad)
        config.update(NO_DROPOUT)
        return config

    monkeypatch.setitem(models.text.SCRATCH, "bert-micro", without_dropout)
    config = sets(films, "influence.mapping=sigmoid")  # no weight stays as it is
    result = train_new(config)
    run = Run(Path(result["run_dir"]))
    dataset = load(config.data, config.noise, config.seed, None)
    teacher = new_model("bert-micro", dataset, torch.device("cpu"), "teacher.model")
    models.load_checkpoint(teacher, Path(run.provenance()["teacher"]))
    torch.manual_seed(config.seed)
    student = new_model("bert-micro", dataset, torch.device("cpu"), "student.model")
    optim: OptimConfig = config.student.optim
    steps = optim.epochs * -(-len(dataset.train) // optim.batch_size)
    trainer = InfluenceTrainer(
        student.network,
        TrainingArguments(
            str(tmp_path), num_train_epochs=3, per_device_train_batch_size=optim.batch_size, seed=0, **TRAINING
        ),
        teacher=teacher.network,
        train_dataset=token_rows(dataset.train),
        validation_dataset=token_rows(dataset.validation),
        influence=config.influence,
        processing_class=dataset.vocabulary.tokenizer,
        optimizers=make_optimizer(student, optim, steps, "student.optim"),
    )
    trainer.train()
    last = run.epoch()
    np.testing.assert_allclose(trainer.sample_weights(), last["weight"], atol=1e-3)
    np.testing.assert_allclose(trainer.influence(), last["influence"], atol=1e-3 * np.abs(last["influence"]).max())
    assert auroc(-trainer.influence(), dataset.train.flipped.numpy()) == pytest.approx(
        result["flipped_auroc"], abs=1e-3
    )
    assert last["weight"].std() > 0.1


class Counting(TrainerCallback):
    def __init__(self) -> None:
        self.steps = 0

    def on_step_end(self, *args: object, **options: object) -> None:
        self.steps += 1


def trainer_of(films: Path, folder: Path, **options: object) -> InfluenceTrainer:
    config = sets(films)
    dataset = load(config.data, config.noise, 0, None)
    torch.manual_seed(0)
    teacher, student = (new_model("bert-micro", dataset, torch.device("cpu"), "x").network for _ in range(2))
    arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 16, **TRAINING, **options.pop("arguments", {})}
    options = {
        "train_dataset": token_rows(dataset.train),
        "validation_dataset": token_rows(dataset.validation),
        **options,
    }
    tokenizer: PreTrainedTokenizerFast = dataset.vocabulary.tokenizer
    return InfluenceTrainer(
        student, TrainingArguments(str(folder), **arguments), teacher=teacher, processing_class=tokenizer, **options
    )


def test_callbacks_accumulation_and_evaluation_work_as_in_any_trainer(films: Path, tmp_path: Path) -> None:
    counting = Counting()
    accumulated = {"gradient_accumulation_steps": 3, "eval_strategy": "epoch"}
    config = sets(films)
    test = token_rows(load(config.data, config.noise, 0, None).test)
    trainer = trainer_of(films, tmp_path, arguments=accumulated, eval_dataset=test, callbacks=[counting])
    trainer.train()
    assert counting.steps == 5  # of 15 batches
    assert np.isfinite(trainer.influence()).all()
    assert trainer.evaluate()["eval_loss"] > 0
    assert trainer.sample_weights().shape == (240,)


def test_what_does_not_fit_gets_one_sentence(films: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^validation_dataset: it has no column 'labels', takes a tokenised data set"):
        trainer_of(films, tmp_path, validation_dataset=datasets.Dataset.from_dict({"input_ids": [[1, 2]]}))
    with pytest.raises(UserError, match="there are no weights before train"):
        trainer_of(films, tmp_path).influence()


def test_numbers_are_distilled_too(tmp_path: Path) -> None:
    """A model of one output and labels of type float: a regression."""
    config = small_text(write_scored(tmp_path / "scored", 400), *SCORED, "teacher.optim.epochs=6")
    dataset = load(config.data, config.noise, 0, None)
    made = train_new(config)  # for its teacher
    teacher, student = (new_model("bert-micro", dataset, torch.device("cpu"), "x") for _ in range(2))
    models.load_checkpoint(teacher, Path(Run(Path(made["run_dir"])).provenance()["teacher"]))
    train, validation = (token_rows(part) for part in (dataset.train, dataset.validation))
    arguments = TrainingArguments(str(tmp_path), num_train_epochs=4, learning_rate=3e-3, seed=0, **TRAINING)
    given = {
        "teacher": teacher.network,
        "validation_dataset": validation,
        "processing_class": dataset.vocabulary.tokenizer,
    }
    trainer = InfluenceTrainer(student.network, arguments, train_dataset=train, **given)
    trainer.train()
    assert auroc(-trainer.influence(), dataset.train.flipped.numpy()) > 0.6
    assert np.isfinite(trainer.sample_weights()).all()
    classes = train.remove_columns("labels").add_column("labels", [0] * len(train))
    with pytest.raises(
        UserError, match=r"^model: it has 1 outputs for labels of type torch.int64, takes one output for"
    ):
        InfluenceTrainer(student.network, arguments, train_dataset=classes, **given)
