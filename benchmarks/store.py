"""Writing an epoch and finding the 64 most harmful samples in it, at two sizes: ``python -m benchmarks.store --json``."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks._common import emit, options
from benchmarks._synthetic import synthetic_run
from kdaif.runs import Run

SIZES = {"": (50_000, 200), "_1m": (1_000_000, 30)}  # end of the figures' names -> samples, epochs
QUICK = {"": (50_000, 40), "_1m": (1_000_000, 3)}
BARS = {
    "append_ms": ("<=", 10.0),
    "top64_ms": ("<=", 300.0),
    "append_ms_1m": ("<=", 500.0),
    "top64_ms_1m": ("<=", 300.0),
}
TOP, ROUNDS = 64, 9


def measure(root: Path, samples: int, epochs: int) -> tuple[float, float]:
    """Median milliseconds of an append and of the top 64."""
    appends: list[float] = []
    run = synthetic_run(root, samples, epochs, timed=lambda append: appends.append(milliseconds(append)))
    return statistics.median(appends), statistics.median(milliseconds(lambda: top(run)) for _ in range(ROUNDS))


def top(run: Run) -> np.ndarray:
    """Rows of the most harmful samples of the newest epoch, the worst first."""
    influence = run.epoch(columns=["influence"])["influence"].to_numpy()
    worst = np.argpartition(influence, TOP)[:TOP]
    return worst[np.argsort(influence[worst])]


def milliseconds(job: Callable[[], object]) -> float:
    began = time.perf_counter()
    job()
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    arguments = options(__doc__ or "").parse_args()
    sizes = QUICK if arguments.quick else SIZES
    figures = {}
    for end, (samples, epochs) in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            figures[f"append_ms{end}"], figures[f"top64_ms{end}"] = measure(Path(folder) / "runs", samples, epochs)
    emit(figures, {"sizes": sizes, "quick": arguments.quick}, arguments.json, BARS)


if __name__ == "__main__":
    main()
