import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kdaif.jobs import worker
from kdaif.jobs.detached import detach
from kdaif.runs import Run

TRAINER = Path(__file__).with_name("trainer.py")


def wait(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """No test starts a worker unawares: the calls are counted."""
    calls: list[str] = []
    monkeypatch.setattr(worker, "ensure_worker", lambda: calls.append("worker"))
    return calls


@pytest.fixture
def behave(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have the worker start the trainer that learns nothing, which then does these things, the last one again and again."""

    def choose(*deeds: str) -> None:
        left = list(deeds)

        def start(run: Run, cwd: str, device: str = "") -> object:
            environment = {**worker.same_program(), "CUDA_VISIBLE_DEVICES": device}
            deed = left.pop(0) if len(left) > 1 else left[0]
            return detach([sys.executable, str(TRAINER), str(run.path), deed], run.log_path, environment=environment)

        monkeypatch.setattr(worker, "start_trainer", start)

    return choose


@pytest.fixture
def in_background() -> Iterator[Callable[..., threading.Thread]]:
    threads = []

    def start(function: Callable[..., object], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        threads.append(thread)
        return thread

    yield start
    for thread in threads:
        thread.join(60)
