from pathlib import Path

import datasets
import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast, TrainerCallback, TrainingArguments

from kdaif import models
from kdaif.config import DistillationConfig, InfluenceConfig, OptimConfig, UserError
from kdaif.data import load
from kdaif.fit import new_model
from kdaif.integrations import INDEX, STATE, InfluenceTrainer
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
    student = options.pop("student", student)
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


class Rows:
    """The rows of each training batch."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def of(self, trainer: InfluenceTrainer) -> "Rows":
        plain = trainer.compute_loss

        def noted(model: torch.nn.Module, inputs: dict[str, torch.Tensor], *more: object, **options: object) -> object:
            self.batches.append(inputs[INDEX].tolist())
            return plain(model, inputs, *more, **options)

        trainer.compute_loss = noted
        return self


@pytest.mark.parametrize(
    "how",
    [
        {"update": "lagged"},
        {"update": "lagged", "scope": "all", "warmup": 0.6},
        {"update": "periodic"},
    ],
    ids=str,
)
def test_a_run_resumed_after_an_epoch_is_the_undisturbed_one(
    films: Path, tmp_path: Path, how: dict[str, object]
) -> None:
    """2 of 3 epochs, with dropout; tolerance 1e-6 of weights in 0..2, of t and of the student's parameters."""
    how = {"damping": 0.1, **how}  # little damping, so that weights differ after so few steps
    influence = InfluenceConfig(source="student", validation="given", mapping="sigmoid", corroborate="none", **how)
    arguments = {"num_train_epochs": 3, "save_strategy": "epoch", "learning_rate": 3e-3}
    whole, resumed = (trainer_of(films, tmp_path, arguments=arguments, influence=influence) for _ in range(2))
    seen, again = Rows().of(whole), Rows().of(resumed)
    whole.train()
    first = {name: tensor.clone() for name, tensor in whole.model.state_dict().items()}
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-30"))
    assert again.batches == seen.batches[30:]
    assert seen.batches[:15] != seen.batches[15:30] != seen.batches[30:]
    np.testing.assert_allclose(resumed.sample_weights(), whole.sample_weights(), rtol=0, atol=1e-6)
    np.testing.assert_allclose(resumed.influence(), whole.influence(), rtol=0, atol=1e-6)
    np.testing.assert_array_equal(resumed.weighting.weights.table.visits, whole.weighting.weights.table.visits)
    assert whole.sample_weights().std() > 0.02
    for name, tensor in resumed.model.state_dict().items():
        torch.testing.assert_close(tensor, first[name], rtol=0, atol=1e-6)


def test_a_run_resumed_within_an_epoch_goes_on_with_its_batches(films: Path, tmp_path: Path) -> None:
    arguments = {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": 20}
    influence = InfluenceConfig(update="periodic")
    whole, resumed = (trainer_of(films, tmp_path, arguments=arguments, influence=influence) for _ in range(2))
    seen, again = Rows().of(whole), Rows().of(resumed)
    whole.train()
    (tmp_path / "checkpoint-30").rename(tmp_path / "kept")  # so that checkpoint-20 is the last
    resumed.train(resume_from_checkpoint=True)
    assert again.batches == seen.batches[20:]
    np.testing.assert_array_equal(resumed.weighting.weights.table.visits, whole.weighting.weights.table.visits)


class Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.trace,)


def test_a_checkpoint_without_these_weights_is_refused_and_runs_no_code(films: Path, tmp_path: Path) -> None:
    trainer = trainer_of(films, tmp_path)
    says = (
        r"^resume_from_checkpoint: got .*, takes a checkpoint with the influence weights \(kdaif.pt\) of 240 training"
    )
    with pytest.raises(UserError, match=says):
        trainer.train(resume_from_checkpoint=True)  # there is none
    for content in (Bomb(tmp_path / "trace"), {"table": {"prior": torch.zeros(9)}, "seen": 0, "steps": 0}, [1]):
        torch.save(content, tmp_path / STATE)
        with pytest.raises(UserError, match=says):
            trainer.train(str(tmp_path))
    assert not (tmp_path / "trace").exists()


def test_a_data_set_is_read_in_any_format(films: Path, tmp_path: Path) -> None:
    config = sets(films)
    rows = token_rows(load(config.data, config.noise, 0, None).train)
    formats = [rows, rows.with_format("torch"), rows.with_format("numpy", columns=["input_ids", "labels"])]
    weights = []
    for number, formatted in enumerate(formats):
        trainer = trainer_of(films, tmp_path / str(number), train_dataset=formatted)
        trainer.train()
        weights.append(trainer.influence())
    np.testing.assert_array_equal(weights[0], weights[1])
    np.testing.assert_array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("arguments", "epochs"),
    [
        ({"num_train_epochs": 0.5}, 1),
        ({"num_train_epochs": 2.5}, 3),
        ({"num_train_epochs": -1, "max_steps": 20}, 2),
        ({"num_train_epochs": 50, "max_steps": 12, "gradient_accumulation_steps": 4}, 3),  # of 4 steps an epoch
    ],
)
def test_the_warm_up_follows_the_epochs_that_are_trained(
    films: Path, tmp_path: Path, arguments: dict[str, object], epochs: int
) -> None:
    trainer = trainer_of(films, tmp_path, arguments=arguments, influence=InfluenceConfig(warmup=0.99))
    trainer.train()
    assert trainer.weighting.weights.warmup == epochs * 240
    assert np.ceil(trainer.state.epoch) == epochs


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"per_device_train_batch_size": 1}, r"^args.per_device_train_batch_size: got 1, takes 2 or more"),
        ({"num_train_epochs": -1}, r"^args.num_train_epochs: got -1, takes a number above 0, or max_steps\.$"),
    ],
)
def test_arguments_that_train_nothing_get_one_sentence(
    films: Path, tmp_path: Path, arguments: dict[str, object], says: str
) -> None:
    with pytest.raises(UserError, match=says):
        trainer_of(films, tmp_path, arguments=arguments)


def test_two_phases_are_refused(films: Path, tmp_path: Path) -> None:
    says = r"^influence.update: got 'two_phase', which trains twice, takes one of online, lagged, periodic\.$"
    with pytest.raises(UserError, match=says):
        trainer_of(films, tmp_path, influence=InfluenceConfig(update="two_phase"))


def test_another_loss_is_refused(films: Path, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^compute_loss_func: got one, takes none: the loss is that of `distillation`\.$"
    ):
        trainer_of(films, tmp_path, compute_loss_func=lambda outputs, labels, num_items_in_batch: outputs.loss)


def test_the_training_set_is_evaluated_as_any_other(films: Path, tmp_path: Path) -> None:
    trainer = trainer_of(films, tmp_path)
    trainer.train()
    before = trainer.influence()
    loss = trainer.evaluate(trainer.train_dataset)["eval_loss"]
    with torch.no_grad():
        logits = trainer.student.eval()(trainer.splits.train.inputs)
    labels = trainer.splits.train.labels
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)), abs=1e-4)
    ordered = trainer.evaluation_loop(trainer.get_train_dataloader(), "training batches")
    assert ordered.metrics["eval_loss"] == pytest.approx(loss, abs=1e-2)
    np.testing.assert_array_equal(trainer.influence(), before)


def test_an_accumulated_gradient_is_the_mean_over_its_batches(films: Path, tmp_path: Path) -> None:
    """Neutral weights, no teacher's term, SGD at rate 1: one step is the gradient; tolerance 1e-5 of gradients up to 1."""
    accumulated = {
        "gradient_accumulation_steps": 3,
        "max_steps": 1,
        "learning_rate": 1.0,
        "lr_scheduler_type": "constant",
    }
    trainer = trainer_of(
        films,
        tmp_path,
        arguments={**accumulated, "optim": "sgd"},
        influence=InfluenceConfig(mapping="neutral"),
        distillation=DistillationConfig(alpha=1.0),
    )
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    before = {name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()}
    rows = Rows().of(trainer)
    loader = trainer.get_train_dataloader()
    loader.set_epoch(0)
    index = torch.tensor(list(loader.batch_sampler)[:3]).flatten()
    train = trainer.splits.train
    torch.nn.functional.cross_entropy(trainer.student(train.inputs[index]), train.labels[index]).backward()
    wanted = {name: parameter.grad.clone() for name, parameter in trainer.model.named_parameters()}
    trainer.model.zero_grad()
    trainer.train()
    assert len(rows.batches) == 3
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(before[name] - parameter.detach(), wanted[name], rtol=0, atol=1e-5)


def test_a_model_that_takes_no_labels_is_trained(films: Path, tmp_path: Path) -> None:
    config = sets(films)
    dataset = load(config.data, config.noise, 0, None)
    encoder = new_model("bert-micro", dataset, torch.device("cpu"), "x").network.bert
    trainer = trainer_of(films, tmp_path, student=models.text.MeanPooled(encoder, 2))
    trainer.train()
    assert np.isfinite(trainer.influence()).all()


def test_a_collator_that_drops_the_rows_is_refused(films: Path, tmp_path: Path) -> None:
    trainer = trainer_of(films, tmp_path)
    whole = trainer.data_collator
    trainer.data_collator = lambda rows: whole([{k: v for k, v in row.items() if k != INDEX} for row in rows])
    with pytest.raises(
        UserError, match=r"^data_collator: it drops the column 'kdaif_index', takes one that keeps it\.$"
    ):
        trainer.train()
