"""How long runs will take, from runs that are done on this machine. No torch.

A run's time is its start, its teacher where no other run trains that one, what its method does once, and its epochs. Each part is
taken from done runs of the same data, networks and batch size, so nothing is said of what was never measured.
"""

from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any, NamedTuple

from kdaif.config import RunConfig
from kdaif.runs import Run, RunSummary


class Estimate(NamedTuple):
    seconds: float  # of all runs that could be estimated, one after the other
    measured: int  # done runs that it rests on
    unknown: int  # runs for which no run of their method on these data and networks was measured here


class _Pace(NamedTuple):
    epoch: float  # seconds
    once: float  # data, scores before the first epoch, the teacher's opinions
    start: float  # of the process; more where it had trained other runs before
    teacher_epoch: float | None  # None: its teacher was there already


def estimate(configs: Sequence[RunConfig], done: Iterable[RunSummary]) -> Estimate:
    """Seconds that these runs take on one device, going by the done ones among `done`."""
    paces: dict[Any, list[_Pace]] = {}
    for summary in done:
        if summary.config and (pace := _pace(summary)):
            paces.setdefault(_kind(summary.config), []).append(pace)
    start = min((pace.start for known in paces.values() for pace in known), default=0.0)
    seconds, used, unknown, teachers = 0.0, set(), 0, set()
    for config in configs:
        kind = _kind(config)
        if kind not in paces:
            unknown += 1
            continue
        used.add(kind)
        known = paces[kind]
        seconds += (
            start + median(pace.once for pace in known) + config.student.optim.epochs * median(p.epoch for p in known)
        )
        teacher = (config.teacher, config.noise, config.seed, config.data)
        if config.method != "ce" and config.teacher.trained and teacher not in teachers:
            teachers.add(teacher)
            seconds += config.teacher.optim.epochs * _teacher_epoch(kind, paces)
    return Estimate(seconds, sum(len(paces[kind]) for kind in used), unknown)


def _kind(config: RunConfig) -> tuple[Any, ...]:
    """What decides the time an epoch takes; the method comes last."""
    student, teacher = config.student, config.teacher
    sizes = config.data.model_dump(exclude={"split_seed"})
    networks = student.model, student.optim.batch_size, teacher.model, teacher.optim.batch_size
    return repr(sizes), *networks, config.device, config.precision, config.influence, config.method


def _pace(summary: RunSummary) -> _Pace | None:
    """None for a run that is not done, or that another machine made."""
    status, result, config = summary.status, summary.result, summary.config
    if config is None or status is None or result is None or status.state != "done" or not status.here:
        return None
    run = Run(summary.path)
    epochs = run.metrics()["seconds"].dropna()
    if epochs.empty or result.get("seconds") is None:
        return None
    teacher = run.provenance().get("teacher_seconds")
    once = float(result["seconds"]) - float(epochs.sum()) - (teacher or 0.0)
    start = status.heartbeat - (status.pid_started or status.heartbeat) - float(result["seconds"])
    teacher_epoch = teacher / config.teacher.optim.epochs if teacher else None
    return _Pace(float(epochs.median()), max(once, 0.0), max(start, 0.0), teacher_epoch)


def _teacher_epoch(kind: tuple[Any, ...], paces: dict[Any, list[_Pace]]) -> float:
    """Of the runs that differ in method only; 0 where none of them trained its teacher."""
    alike = [pace.teacher_epoch for other, known in paces.items() if other[:-2] == kind[:-2] for pace in known]
    return median([seconds for seconds in alike if seconds] or [0.0])
