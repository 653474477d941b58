"""What happens around training besides training: hooks that do nothing by default, and the few that a run uses.

A run passes one `Moment` to every hook. A callback keeps what it needs of it; the loop knows no callback by name.
"""

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import nn

from kdaif.runs import Run
from kdaif.runs.files import write_atomic

HEARTBEAT_SECONDS = 5.0


@dataclass
class Moment:
    """Where a run stands."""

    stage: str = ""  # teacher, teacher again, scoring run 1, student
    epoch: int = 0  # of this stage, 1 = first
    epochs: int = 0
    step: int = 0  # of this epoch
    steps: int = 0
    model: nn.Module | None = None
    metrics: dict[str, Any] = field(default_factory=dict)  # one row of metrics.parquet, at an epoch's end
    values: dict[str, Any] = field(default_factory=dict)  # one epoch file: arrays of a value a training sample
    state: Callable[[], dict[str, Any]] = dict  # all that a resumed run needs


class Callback:
    """Override the hooks you need."""

    def on_stage_begin(self, moment: Moment) -> None:
        """A stage (teacher, student, ...) starts."""

    def on_step_end(self, moment: Moment) -> None:
        """An optimiser step was done."""

    def on_epoch_end(self, moment: Moment) -> None:
        """An epoch was trained and evaluated."""

    def on_stage_end(self, moment: Moment) -> None:
        """A stage is over."""

    def close(self) -> None:
        """The run is over, well or not."""


class Callbacks(Callback):
    """Several as one, called in order."""

    def __init__(self, callbacks: Sequence[Callback]) -> None:
        self.callbacks = list(callbacks)

    def on_stage_begin(self, moment: Moment) -> None:
        for callback in self.callbacks:
            callback.on_stage_begin(moment)

    def on_step_end(self, moment: Moment) -> None:
        for callback in self.callbacks:
            callback.on_step_end(moment)

    def on_epoch_end(self, moment: Moment) -> None:
        for callback in self.callbacks:
            callback.on_epoch_end(moment)

    def on_stage_end(self, moment: Moment) -> None:
        for callback in self.callbacks:
            callback.on_stage_end(moment)

    def close(self) -> None:
        for callback in self.callbacks:
            callback.close()


class Recorder(Callback):
    """Writes each epoch of the student into the run folder."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_epoch_end(self, moment: Moment) -> None:
        if moment.stage == "student":
            self.run.write_epoch(moment.epoch, moment.values)
            self.run.append_metrics(moment.metrics)  # after the samples: an epoch with metrics is whole


class Checkpoint(Callback):
    """Saves what a resumed run needs every few epochs and at the end, and the student of the best validation accuracy."""

    def __init__(self, run: Run, every: int, save: Callable[[nn.Module, Any], None]) -> None:
        self.run, self.every, self.save = run, every, save
        self.best = -1.0

    def on_epoch_end(self, moment: Moment) -> None:
        if moment.stage != "student" or moment.model is None:
            return
        if moment.metrics["validation_accuracy"] > self.best:
            self.best = moment.metrics["validation_accuracy"]
            self.save(moment.model, self.run.checkpoint_dir / "best.safetensors")
        if moment.epoch % self.every == 0 or moment.epoch == moment.epochs:
            write_atomic(self.run.checkpoint_dir / "last.pt", lambda file: torch.save(moment.state(), file))


class Heartbeat(Callback):
    """Keeps status.json true: stage, epoch, time left, and a heartbeat from a thread while a long step runs.

    A run that was asked to stop leaves through SystemExit after its step.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.clock = Clock()
        self._stop, self._asked = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            if self.run.cancel_asked:
                self._asked.set()
            with suppress(OSError):  # a full disk: the heart goes on when there is room again
                self.run.write_status()

    def on_stage_begin(self, moment: Moment) -> None:
        self.clock.start(moment)
        epoch = moment.epoch if moment.stage == "student" else 0
        self.run.write_status(stage=moment.stage, epoch=epoch, eta_seconds=None)

    def on_step_end(self, moment: Moment) -> None:
        if self._asked.is_set():
            raise SystemExit("asked to stop")

    def on_epoch_end(self, moment: Moment) -> None:
        epoch = moment.epoch if moment.stage == "student" else 0
        message = f"{moment.stage}: epoch {moment.epoch} of {moment.epochs}"
        self.run.write_status(epoch=epoch, eta_seconds=self.clock.left(moment), message=message)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


class Clock:
    """Time left of a stage, from its mean time an epoch."""

    def start(self, moment: Moment) -> None:
        """A stage begins after `moment.epoch` epochs."""
        self.began, self.done = time.monotonic(), moment.epoch

    def left(self, moment: Moment) -> float:
        """Seconds until the stage's end, at an epoch's end."""
        return (time.monotonic() - self.began) / (moment.epoch - self.done) * (moment.epochs - moment.epoch)


class ProgressBar(Callback):
    """A bar on stderr with the time left; on something that is no terminal a line a few times a stage."""

    def __init__(self, label: str) -> None:
        self.console = Console(stderr=True)
        self.label = label
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=self.console,
            transient=True,
        )
        self.task: TaskID | None = None

    def on_stage_begin(self, moment: Moment) -> None:
        total = moment.epochs * moment.steps
        self.task = self.bar.add_task(
            f"{self.label} · {moment.stage}", total=total, completed=moment.epoch * moment.steps, figures=""
        )
        if self.console.is_terminal:
            self.bar.start()

    def on_step_end(self, moment: Moment) -> None:
        if self.task is not None:
            self.bar.advance(self.task)

    def on_epoch_end(self, moment: Moment) -> None:
        accuracy = moment.metrics.get("validation_accuracy")
        figures = "" if accuracy is None else f"validation accuracy {100 * accuracy:.1f} %"
        if self.task is not None:
            self.bar.update(self.task, figures=figures)
        if not self.console.is_terminal and (moment.epoch % max(1, moment.epochs // 4) == 0):
            line = f"{self.label} · {moment.stage}: epoch {moment.epoch} of {moment.epochs}  {figures}"
            self.console.print(line.rstrip(), highlight=False, soft_wrap=True)

    def on_stage_end(self, moment: Moment) -> None:
        if self.task is not None:
            self.bar.remove_task(self.task)
            self.task = None

    def close(self) -> None:
        if self.console.is_terminal:
            self.bar.stop()
