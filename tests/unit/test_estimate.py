import time

import pytest

from kdaif.estimate import estimate
from kdaif.runs import list_runs, new_run
from tests.small import small

EPOCH, TEACHER, ONCE, START = 2.0, 12.0, 3.0, 1.5


def done(*sets: str, teacher: float | None = None, **status: object) -> None:
    """A done run whose parts took what they should."""
    run = new_run(small(*sets))
    for number in (1, 2, 3):
        run.append_metrics({"epoch": number, "seconds": EPOCH, "overhead": 0.0})
    if teacher:
        run.add_provenance(teacher_seconds=teacher)
    seconds = 3 * EPOCH + ONCE + (teacher or 0.0)
    run.write_result({"seconds": seconds})
    run.write_status(state="running")
    run.write_status(state="done", pid_started=time.time() - seconds - START, **status)


def test_nothing_is_said_of_what_was_never_measured():
    assert estimate([small(), small("method=kd")], list_runs()) == (0.0, 0, 2)
    done("method=kd")
    assert estimate([small(), small("method=kd", "data.train_size=300")], list_runs()).unknown == 2


def test_the_parts_add_up_and_a_teacher_is_trained_once():
    done("method=kd", teacher=TEACHER)
    done("method=oracle", "seed=3")
    alike = ["student.optim.epochs=10", "teacher.optim.epochs=8", "noise.rate=0.1"]
    runs = [small(f"method={method}", f"seed={seed}", *alike) for seed in (0, 1) for method in ("kd", "oracle")]
    found = estimate(runs, list_runs())
    assert found.seconds == pytest.approx(4 * (START + ONCE + 10 * EPOCH) + 2 * 8 * TEACHER / 4, abs=0.3)
    assert (found.measured, found.unknown) == (2, 0)


def test_runs_of_other_machines_and_unfinished_ones_do_not_count():
    done("method=kd", host="elsewhere")
    new_run(small("method=kd")).write_status(state="running")
    assert estimate([small("method=kd")], list_runs()).unknown == 1
