import time

import pytest
import torch
from torch import nn

from kdaif import callbacks
from kdaif.callbacks import Callback, Callbacks, Checkpoint, Clock, Heartbeat, Moment, ProgressBar, Recorder
from kdaif.train import train_new
from tests.factories import epoch_values
from tests.small import small

HOOKS = ("on_stage_begin", "on_step_end", "on_epoch_end", "on_stage_end")


class Diary(Callback):
    """Writes down every hook with the stage, epoch and step it saw."""

    def __init__(self, name: str = "", lines: list | None = None) -> None:
        self.name, self.lines = name, [] if lines is None else lines
        for hook in HOOKS:
            setattr(self, hook, lambda moment, hook=hook: self.lines.append(self.line(hook, moment)))

    def line(self, hook: str, moment: Moment) -> tuple:
        return (self.name + hook, moment.stage, moment.epoch, moment.step if hook == "on_step_end" else None)

    def close(self) -> None:
        self.lines.append((self.name + "close",))


def stage(name: str, epochs: int, steps: int) -> list[tuple]:
    lines: list[tuple] = [("on_stage_begin", name, 0, None)]
    for epoch in range(1, epochs + 1):
        lines += [("on_step_end", name, epoch, step) for step in range(1, steps + 1)]
        lines.append(("on_epoch_end", name, epoch, None))
    return [*lines, ("on_stage_end", name, epochs, None)]


def test_hooks_come_in_order_for_every_stage():
    diary = Diary()
    train_new(
        small("teacher.optim.epochs=1", "student.optim.epochs=2", "influence.update=two_phase"), callbacks=[diary]
    )
    scoring, student = stage("scoring run 1", 2, 4), stage("student", 2, 4)
    teachers = *stage("teacher", 1, 4), *stage("teacher again", 1, 4)
    assert diary.lines == [*teachers, *scoring, *student, ("close",)]


def test_several_are_called_in_order():
    lines: list = []
    both = Callbacks([Diary("a ", lines), Diary("b ", lines)])
    for hook in HOOKS:
        getattr(both, hook)(Moment())
    both.close()
    assert [line[0] for line in lines] == [f"{name} {hook}" for hook in (*HOOKS, "close") for name in "ab"]


def test_close_is_called_after_a_failure():
    class Failing(Diary):
        def __init__(self) -> None:
            super().__init__()
            self.on_step_end = self.fail

        def fail(self, moment):
            raise RuntimeError("broken")

    failing = Failing()
    with pytest.raises(RuntimeError, match="broken"):
        train_new(small("method=ce"), callbacks=[failing])
    assert failing.lines[-1] == ("close",)


# --- time left -------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A clock to be set by hand."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_time_left_is_the_mean_epoch_times_the_epochs_left(clock):
    timer = Clock()
    timer.start(Moment(epochs=10))
    clock[0] += 6
    assert timer.left(Moment(epoch=2, epochs=10)) == 3 * 8
    clock[0] += 2
    assert timer.left(Moment(epoch=8, epochs=10)) == 1 * 2
    assert timer.left(Moment(epoch=10, epochs=10)) == 0


def test_time_left_of_a_resumed_run_counts_its_own_epochs(clock):
    timer = Clock()
    timer.start(Moment(epoch=5, epochs=10))
    clock[0] += 4
    assert timer.left(Moment(epoch=7, epochs=10)) == 2 * 3


def test_heartbeat_tells_stage_epoch_and_time_left(run, clock):
    heart = Heartbeat(run)
    heart.on_stage_begin(Moment(stage="teacher", epochs=4))
    assert (run.status().stage, run.status().epoch, run.status().eta_seconds) == ("teacher", 0, None)
    clock[0] += 10
    heart.on_epoch_end(Moment(stage="teacher", epoch=1, epochs=4))
    assert run.status().epoch == 0  # epochs are the student's
    assert run.status().eta_seconds == 30
    assert run.status().message == "teacher: epoch 1 of 4"
    heart.on_stage_begin(Moment(stage="student", epoch=2, epochs=3))
    assert run.status().epoch == 2
    heart.on_epoch_end(Moment(stage="student", epoch=3, epochs=3))
    assert (run.status().epoch, run.status().eta_seconds) == (3, 0)
    heart.close()
    heart.close()


def test_the_heart_beats_while_a_long_step_runs(run, monkeypatch):
    monkeypatch.setattr(callbacks, "HEARTBEAT_SECONDS", 0.02)
    before = run.status().heartbeat
    heart = Heartbeat(run)
    deadline = time.monotonic() + 5
    while run.status().heartbeat == before and time.monotonic() < deadline:
        time.sleep(0.02)
    heart.close()
    stopped = run.status().heartbeat
    assert stopped > before
    time.sleep(0.1)
    assert run.status().heartbeat == stopped


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.fixture
def run():
    """A run with the made-up samples of the factories."""
    from kdaif.runs import new_run
    from tests.factories import sample_frame

    run = new_run(small())
    run.write_samples(sample_frame(), ["cat", "dog", "eel"])
    return run


def epoch_end(number: int, stage: str = "student", accuracy: float = 0.5, epochs: int = 5) -> Moment:
    metrics = {"epoch": number, "train_loss": 1.0, "validation_accuracy": accuracy}
    return Moment(
        stage=stage,
        epoch=number,
        epochs=epochs,
        model=nn.Linear(1, 1),
        metrics=metrics,
        values=epoch_values(number),
        state=lambda: {"epoch": number},
    )


def test_the_recorder_writes_the_student_alone(run):
    recorder = Recorder(run)
    recorder.on_epoch_end(epoch_end(1, "teacher"))
    recorder.on_epoch_end(epoch_end(1, "scoring run 1"))
    assert run.epochs() == []
    recorder.on_epoch_end(epoch_end(1))
    assert run.epochs() == [1]
    assert run.metrics()["epoch"].tolist() == [1]


def test_checkpoints_come_every_few_epochs_and_at_the_end_and_keep_the_best(run):
    saved = []
    saver = Checkpoint(run, 2, lambda model, path: saved.append(path.name))
    states = []
    for number, accuracy in enumerate([0.3, 0.5, 0.4, 0.5, 0.6], 1):
        saver.on_epoch_end(epoch_end(number, "teacher", 1.0))
        saver.on_epoch_end(epoch_end(number, accuracy=accuracy))
        last = run.checkpoint_dir / "last.pt"
        states.append(torch.load(last, weights_only=True)["epoch"] if last.exists() else None)
    assert states == [None, 2, 2, 4, 5]
    assert saved == ["best.safetensors"] * 3  # epochs 1, 2 and 5; a tie keeps the earlier
    assert saver.best == 0.6
    assert [path.name for path in run.checkpoint_dir.iterdir()] == ["last.pt"]


# --- the bar ---------------------------------------------------------------------------------------------------------


def shown(bar: ProgressBar, epochs: int, first: int = 0) -> None:
    moment = Moment(stage="student", epoch=first, epochs=epochs, steps=2)
    bar.on_stage_begin(moment)
    for epoch in range(first + 1, epochs + 1):
        moment.epoch = epoch
        for moment.step in (1, 2):
            bar.on_step_end(moment)
        moment.metrics = {"validation_accuracy": epoch / 100}
        bar.on_epoch_end(moment)
    bar.on_stage_end(moment)


def test_on_no_terminal_a_line_four_times_a_stage_on_stderr(capsys):
    label = "a label as long as the lines of a terminal are wide, which must not break into two of them"
    bar = ProgressBar(label)
    shown(bar, 12)
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{label} · student: epoch {epoch} of 12  validation accuracy {epoch}.0 %" for epoch in (3, 6, 9, 12)
    ]


def test_on_a_terminal_the_bar_counts_steps(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    bar = ProgressBar("kd")
    moment = Moment(stage="student", epoch=3, epochs=6, steps=2)
    bar.on_stage_begin(moment)
    (task,) = bar.bar.tasks
    assert (task.completed, task.total) == (6, 12)  # a resumed run does not start at nothing
    bar.on_step_end(moment)
    assert bar.bar.tasks[0].completed == 7
    bar.on_stage_end(moment)
    assert bar.bar.tasks == []
    bar.close()
    out, err = capsys.readouterr()
    assert out == ""
    assert "kd · student" in err


def test_a_run_that_was_asked_to_stop_leaves_after_its_step(run, monkeypatch):
    monkeypatch.setattr(callbacks, "HEARTBEAT_SECONDS", 0.02)
    heart = Heartbeat(run)
    heart.on_step_end(Moment())
    run.ask_cancel()
    heart._asked.wait(5)
    with pytest.raises(SystemExit, match="asked to stop"):
        heart.on_step_end(Moment())
    heart.close()
