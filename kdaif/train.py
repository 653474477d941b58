"""One run, from its config to a finished run folder.

    data -> teacher (-> again, without what it finds harmful) -> weights (by method) -> student, epoch by epoch -> result

All figures are of the last epoch; the best validation epoch is reported beside it, never chosen by test accuracy.
A stopped run goes on from its last checkpoint and ends as it would have; under torchrun the first process alone writes.
"""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from kdaif import models, parallel
from kdaif.callbacks import Callback, Callbacks, Checkpoint, Heartbeat, Moment, Recorder
from kdaif.config import RunConfig, UserError, lookup
from kdaif.data import Batch, Batches, Dataset, Split, load
from kdaif.distill import LOSSES, LossTerms
from kdaif.evaluate import FIGURES, Opinions, judge, opinions, predict
from kdaif.fit import fit, load_state, make_accelerator, new_model, restore, training_state
from kdaif.hidden import check_hidden, pass_both
from kdaif.logits import TeacherLogits, teacher_logits
from kdaif.methods import METHODS, Method, check_method
from kdaif.metrics.detection import auroc
from kdaif.optim import make_optimizer
from kdaif.outside import rank
from kdaif.runs import Run, Taken, cache_root, save_inputs
from kdaif.runs.sameness import check_same_samples, stamped_run
from kdaif.teacher import Teacher, find_teacher, train_teacher
from kdaif.weighting import Setting, Step, Weighting

NUMBER_ACCURACY = "Pearson's correlation"  # what stands as accuracy where labels are numbers
EVALUATION_BATCH = 500  # samples, and fewer of long sentences:
EVALUATION_TOKENS = 2**15  # a batch's, with padding


def train(run: Run, data_root: Path | None = None, callbacks: Sequence[Callback] = ()) -> dict[str, Any]:
    """Trains a queued run, or goes on with one that was stopped, and returns its result (also in result.json).

    Without a `data_root` the run's own is taken. Raises `UserError` for a run that is running, done or asked to stop, and for
    a config that cannot be run; the run's status is then `failed` with that sentence.
    """
    run = parallel.follow(run)
    _check_waits(run)
    known = run.provenance().get("data_root")
    root = Path(known) if data_root is None and known else data_root
    with run.hold():
        _check_waits(run)  # it may have been trained while we waited for it
        return _report(run, lambda: _Training(run.config(), root), callbacks)


def train_new(
    config: RunConfig,
    data_root: Path | None = None,
    callbacks: Sequence[Callback] = (),
    new: Callable[[RunConfig, Path | None], Run] = stamped_run,
) -> dict[str, Any]:
    """Trains a new run of this config, made by `new`, and returns its result.

    Config and data are checked first: a `UserError` about them leaves no run behind.
    """
    training = _Training(config, data_root)
    run = parallel.same_run(lambda: new(config, data_root))
    with run.hold():
        return _report(run, lambda: training, callbacks)


def _check_waits(run: Run) -> None:
    if rank():  # the first process looks
        return
    if (state := run.status().state) in ("running", "done"):
        raise Taken(f"run: {run.id} is {state}, takes a run that waits or was stopped before its end.")
    if run.cancel_asked:
        raise UserError(f"run: {run.id} was cancelled, takes a run that waits; `resume` goes on with it.")


def _report(run: Run, prepare: Callable[[], "_Training"], callbacks: Sequence[Callback]) -> dict[str, Any]:
    """Carries out a training, while the run's status says how it stands."""
    began = time.monotonic()
    run.write_status(state="running", message="")
    heartbeat = Heartbeat(run)
    everything = Callbacks([heartbeat, *([] if rank() else callbacks)])
    try:
        result = prepare().go(run, everything)
        result["seconds"] = time.monotonic() - began
        run.write_result(result)
    except BaseException as error:
        heartbeat.close()
        run.write_status(state=_ending(run, error), eta_seconds=None, message=str(error))
        raise
    finally:
        everything.close()
    run.write_status(state="done", eta_seconds=0.0, message="")
    return result


def _ending(run: Run, error: BaseException) -> str:
    """How a run that did not finish stands: a signal that nobody asked for (a shutdown) only interrupts it."""
    if run.cancel_asked or isinstance(error, KeyboardInterrupt):
        return "cancelled"
    return "interrupted" if isinstance(error, SystemExit) else "failed"


class _Training:
    """The parts of one run, and what happens with them in an epoch.

    Making one finds everything that is wrong with config and data (`UserError`) and writes no run.
    """

    def __init__(self, config: RunConfig, data_root: Path | None) -> None:
        self.config, self.data_root = config, data_root
        self.method: Method = lookup(METHODS, config.method, "method")
        self.loss = lookup(LOSSES, config.distillation.loss if self.method.teacher else "ce", "distillation.loss")
        self.accelerator = make_accelerator(config)
        self.device = self.accelerator.device
        self.dataset: Dataset = load(config.data, config.noise, config.seed, data_root)
        check_method(config, self.dataset)
        self.batches = self._batches(self.dataset.train, config.student.optim.batch_size, training=True)
        parallel.check(config, self.method.spreads, self.batches.smallest)
        self.student = self._new_student()
        make_optimizer(self.student, config.student.optim, 1, "student.optim")
        self.teacher = find_teacher(config, self.dataset, data_root, self.device) if self.method.teacher else None
        self.hidden = config.distillation.hidden if self.teacher is not None else 0.0
        if self.hidden and self.teacher is not None:
            check_hidden(self.student, self.teacher.model)

    def go(self, run: Run, callback: Callbacks) -> dict[str, Any]:
        self.run, self.callback = run, callback
        if not rank():
            self._describe()
        if self.teacher is not None:
            self.teacher = self._taught(self.teacher, "teacher_seconds")
            lesson = parallel.said_by_first(lambda: self.method.lesson(self._setting()))
            if lesson is not None:
                again = find_teacher(self.config, self.dataset, self.data_root, self.device, lesson)
                self.teacher = self._taught(again, "teacher_again_seconds")
        self.teacher_says = self._teacher_opinions()
        self.teacher_logits = self._teacher_logits()
        self.weighting = self._weighting()
        self._fit_scoring_runs()
        self._fit_student("student", self.run.checkpoint_dir / "last.pt")
        self._save(self.student, self.run.student_path)
        return parallel.said_by_first(self._result)

    def _taught(self, teacher: Teacher, spent: str) -> Teacher:
        """The teacher when it is trained; the run's provenance says how long that took, where it had to be done."""
        if teacher.ready:
            return teacher
        with self.accelerator.main_process_first():  # it trains the teacher; the others find it trained
            began = time.monotonic()
            trained = train_teacher(teacher, self.config, self.dataset, self.accelerator, self.callback)
            self.run.add_provenance(**{spent: time.monotonic() - began})
        return trained

    def _new_student(self) -> nn.Module:
        torch.manual_seed(self.config.seed)
        return new_model(self.config.student.model, self.dataset, self.device, "student.model")

    def _stats(self) -> models.InputStats | None:
        return models.InputStats(self.dataset.mean, self.dataset.std) if self.dataset.vocabulary is None else None

    def _batches(self, split: Split, size: int | None = None, training: bool = False) -> Batches:
        if size is None:
            fitting = EVALUATION_TOKENS // split.inputs.shape[2]
            size = EVALUATION_BATCH if split.texts is None else max(1, min(EVALUATION_BATCH, fitting))
        augment = self.config.data.augment if training else "none"
        options: dict[str, Any] = {"shuffle": training, "augment": augment, "device": self.device}
        return Batches(split, self.dataset.mean, self.dataset.std, size, seed=self.config.seed, **options)

    def _predict(self, model: nn.Module, split: Split) -> Tensor:
        """Logits of a split, in the precision of the training."""
        with self.accelerator.autocast():
            return predict(model, self._batches(split))

    def _describe(self) -> None:
        """Writes down the samples that the rows of every epoch file stand for."""
        train = self.dataset.train
        flipped = train.flipped
        samples = pd.DataFrame(
            {
                "id": train.ids,
                "split": "train",
                **self._labels(),
                "flipped": None if flipped is None else flipped.numpy(),
                "corrupted": None if train.corrupted is None else train.corrupted.numpy(),
                "ref": train.refs,
                "hash": train.hashes(),
                "text": None if train.texts is None else train.texts[:, 0],
                "text_pair": None if train.texts is None or train.texts.shape[1] < 2 else train.texts[:, 1],
                "rating": np.nan if train.rating is None else train.rating,
                "rating_spread": np.nan if train.rating_spread is None else train.rating_spread,
            }
        )
        check_same_samples(self.run, samples)
        self.run.write_samples(samples, self.dataset.classes)
        if self.dataset.vocabulary is not None and (learnt := self.dataset.vocabulary.learnt()):
            self.run.write_tokenizer(learnt)
        self.run.add_provenance(
            inputs=save_inputs(train.images(), cache_root()) if train.texts is None else None,
            truncated=self.dataset.truncated,
            data=self.dataset.name,
            scale=self.dataset.scale and [*self.dataset.scale],
            device=str(self.device),
            sizes={name: len(getattr(self.dataset, name)) for name in ("train", "validation", "test")},
            student_parameters=models.parameter_count(self.student),
            data_root=str(self.data_root.absolute()) if self.data_root else None,
        )

    def _labels(self) -> dict[str, Any]:
        """The label columns of the samples: class numbers, or the only output's and numbers."""
        labels, clean, scale = self.dataset.train.labels, self.dataset.train.clean, self.dataset.scale
        if scale is None:
            return {"label": labels.numpy(), "clean": -1 if clean is None else clean.numpy()}
        true = np.nan if clean is None else scale.own(clean.numpy())
        return {
            "label": 0,
            "clean": -1 if clean is None else 0,
            "value": scale.own(labels.numpy()),
            "clean_value": true,
        }

    def _said(self, network: str, said: Opinions) -> dict[str, Any]:
        """What a network says of the training samples, as columns of an epoch file."""
        prediction = said.prediction.numpy()
        if self.dataset.scale is not None:
            return {f"{network}_value": self.dataset.scale.own(prediction)}
        return {f"{network}_prediction": prediction, f"{network}_confidence": said.confidence.numpy()}

    def _teacher_opinions(self) -> dict[str, Any]:
        """The teacher's columns of every epoch file, and its figures in the provenance."""
        if self.teacher is None:
            return {}
        model, train, test = self.teacher.model, self.dataset.train, self.dataset.test
        said = opinions(self._predict(model, train).cpu(), train.labels)
        on_test = self._predict(model, test)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        self.run.add_provenance(
            teacher=str(self.teacher.path.absolute()),
            teacher_test_accuracy=judge(on_test, test.labels).accuracy,
            teacher_parameters=parameters,
            **{f"teacher_test_{name}": FIGURES[name](on_test, test) for name in self.dataset.figures},
        )
        return {"teacher_loss": said.loss.numpy(), **self._said("teacher", said)}

    def _teacher_logits(self) -> TeacherLogits | None:
        if self.teacher is None or self.hidden:  # hidden states are too many to keep, and logits come with them
            return None
        return teacher_logits(self.teacher.model, self.teacher.path, self.config, self.dataset, str(self.device))

    def _setting(self) -> Setting:
        teacher = self.teacher.model if self.teacher else None
        autocast = self.accelerator.autocast
        return Setting(self.config, self.dataset, self.student, teacher, self._batches, self.device, autocast)

    def _weighting(self) -> Weighting:
        weighting = self.method.weighting(self._setting())
        # spent before the first epoch, so no part of its overhead
        self.run.add_provenance(scoring_seconds=weighting.seconds)
        weighting.seconds = 0.0
        return weighting

    def _fit_scoring_runs(self) -> None:
        """Runs that only score (update `two_phase`); a resumed run has their outcome in its checkpoint."""
        resumed = (self.run.checkpoint_dir / "last.pt").exists()
        for number in range(1, self.weighting.scoring_runs + 1):
            if not resumed:
                self._fit_student(f"scoring run {number}")
            self.student = self._new_student()
            self.weighting = self.weighting.next_run(self.student)

    def _fit_student(self, stage: str, checkpoint: Path | None = None) -> None:
        optim = self.config.student.optim
        optimizer, schedule = make_optimizer(self.student, optim, optim.epochs * len(self.batches), "student.optim")
        moment = Moment(stage=stage, epochs=optim.epochs)
        saver = Checkpoint(self.run, self.config.checkpoint_every, self._save)
        if checkpoint is not None and checkpoint.exists():
            state = load_state(checkpoint, self.device)
            restore(state, self.student, optimizer, schedule)
            self.weighting.load_state_dict(state["weighting"])
            moment.epoch, saver.best = state["epoch"], state["best"]
        moment.state = lambda: {
            **training_state(self.student, optimizer, schedule),
            "weighting": self.weighting.state_dict(),
            "epoch": moment.epoch,
            "best": saver.best,
        }
        parallel.spread(self.student, optimizer)
        self._visits = _Visits(len(self.dataset.train), len(self.dataset.classes), self.device)
        fit(
            self.student,
            self.batches,
            self._step_loss,
            optimizer,
            schedule,
            self.accelerator,
            Callbacks([*([] if rank() else [Recorder(self.run), saver]), self.callback]),
            moment,
            seed=self.config.seed,
            after_step=self.weighting.after_step,
            before_epoch=self._begin_epoch,
            after_epoch=self._end_epoch,
        )

    def _save(self, model: nn.Module, path: Path) -> None:
        if not rank():
            models.save_checkpoint(model, path, self._stats())

    def _step_loss(self, student: nn.Module, batch: Batch) -> Tensor:
        beside: Tensor | None = None
        teacher_logits: Tensor | None = None
        if self.hidden and self.teacher is not None:
            logits, teacher_logits, distance = pass_both(student, self.teacher.model, batch.inputs)
            beside = self.hidden * distance
        else:
            logits = student(batch.inputs)
            teacher_logits = self.teacher_logits(batch, self.batches.epoch) if self.teacher_logits else None
        self._visits.record(batch.index, logits)
        mix = self.config.distillation

        def losses(labels: Tensor) -> LossTerms:
            return self.loss(logits, teacher_logits, labels, mix.alpha, mix.temperature).with_teacher(beside)

        return self.weighting.loss(Step(batch.index, batch.labels, logits, teacher_logits, losses))

    def _begin_epoch(self, epoch: int) -> None:
        self.weighting.before_epoch(epoch)
        parallel.begin_epoch(self.weighting)

    def _end_epoch(self, moment: Moment, seconds: float) -> None:
        if rank():
            return
        train, validation, test = self.dataset.train, self.dataset.validation, self.dataset.test
        said = opinions(self._visits.logits.cpu(), train.labels)
        columns = self.weighting.columns()
        moment.values = {
            **self.teacher_says,
            **columns,
            "loss": said.loss.numpy(),
            "margin": said.margin.numpy(),
            **self._said("student", said),
        }
        test_logits = self._predict(self.student, test)
        on_test = judge(test_logits, test.labels)
        moment.metrics |= {
            "train_accuracy": judge(self._visits.logits.cpu(), train.labels).accuracy,
            "validation_accuracy": judge(self._predict(self.student, validation), validation.labels).accuracy,
            "test_accuracy": on_test.accuracy,
            "test_loss": on_test.loss,
            "class_accuracy": on_test.class_accuracy,
            "flipped_auroc": self._flipped_auroc(columns.get("influence")),
            "seconds": seconds,
            "overhead": self.weighting.seconds / seconds,
            **{f"test_{name}": FIGURES[name](test_logits, test) for name in self.dataset.figures},
        }
        self.weighting.seconds = 0.0

    def _flipped_auroc(self, influence: Any) -> float | None:
        flipped = self.dataset.train.flipped
        if influence is None or flipped is None or flipped.all() or not flipped.any():
            return None
        return auroc(-influence, flipped.numpy())

    def _result(self) -> dict[str, Any]:
        metrics = self.run.metrics()
        last, best = metrics.iloc[-1], metrics.iloc[metrics["validation_accuracy"].argmax()]
        weight = self.run.epoch(columns=["weight"])["weight"]
        teacher = self.run.provenance().get("teacher_test_accuracy")
        return {
            "run_id": self.run.id,
            "run_dir": str(self.run.path),
            "method": self.config.method,
            "seed": self.config.seed,
            "noise": self.config.noise.rate,
            "test_accuracy": float(last["test_accuracy"]),
            "validation_accuracy": float(last["validation_accuracy"]),
            "worst_class_accuracy": float(np.nanmin(last["class_accuracy"])),
            "best_epoch": int(best["epoch"]),
            "best_test_accuracy": float(best["test_accuracy"]),
            "teacher_test_accuracy": teacher,
            "flipped_auroc": None if pd.isna(last["flipped_auroc"]) else float(last["flipped_auroc"]),
            "downweighted": float((weight < 0.5).mean()),
            **{f"test_{name}": float(last[f"test_{name}"]) for name in self.dataset.figures},
            **({"truncated": self.dataset.truncated} if self.dataset.vocabulary else {}),
            **({"accuracy_is": NUMBER_ACCURACY} if self.dataset.scale else {}),
        }


class _Visits:
    """The student's logits for each training sample at its last visit: free, since the step makes them anyway."""

    def __init__(self, samples: int, classes: int, device: torch.device) -> None:
        self.logits = torch.zeros(samples, classes, device=device)

    def record(self, index: Tensor, logits: Tensor) -> None:
        self.logits[index] = logits.detach().float()
