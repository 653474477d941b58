"""Server time and message size of every page of the dashboard: ``python -m benchmarks.app --json``.

The script of a page is run as the server runs it (Streamlit's AppTest). A page's first view makes what is derived once a run and
is told apart; an interaction is a change of one control to a value that was not seen before. Beside the time on the clock stands
the processor's time, which tells the same on a machine that others use too.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from streamlit.testing.v1 import AppTest

from benchmarks._common import emit, options, print_table
from benchmarks._synthetic import CLASSES, synthetic_run

SIZES = {"": (50_000, 200), "_1m": (1_000_000, 30)}  # end of the figures' names -> samples, epochs
QUICK = {"": (50_000, 20)}
BARS = {
    "slowest_interaction_ms": ("<=", 300.0),
    "largest_message_mb": ("<=", 5.0),
    "slowest_interaction_ms_1m": ("<=", 1000.0),
    "largest_message_mb_1m": ("<=", 5.0),
}
MAIN = str(Path(__file__).parents[1] / "app" / "main.py")
Change = Callable[[AppTest, int], Any]  # sets a control to its n-th value

# page -> control -> change
PAGES: dict[str, dict[str, Change]] = {
    "overview": {"again": lambda app, n: None},
    "samples": {
        "class": lambda app, n: app.selectbox(key="class").select(CLASSES[n]),
        "mark": lambda app, n: app.button(key="mark_all").click(),
        "range": lambda app, n: app.number_input(key="to").set_value(0.9 - 0.1 * n),
        "sample": lambda app, n: app.number_input(key="sample").set_value(1000 + n),
        "sort": lambda app, n: app.selectbox(key="sort").select(("Loss", "Weight", "Disagreement")[n]),
        "epoch": lambda app, n: app.select_slider(key="epoch").set_value(2 + n),
        "words": lambda app, n: app.text_input(key="words").set_value(f"{n + 1}00"),
        "page": lambda app, n: keep(app, "page", n + 2),
        "pair": lambda app, n: app.selectbox(key="rather").select(CLASSES[n + 3]),
        "show": lambda app, n: app.selectbox(key="show").select(("Flipped", "Looks harmful", "Looks helpful")[n]),
        "act": lambda app, n: choose(app, "room", ("act", "course", "act")[n]),
    },
    "dynamics": {
        "class": lambda app, n: app.selectbox(key="class").select(CLASSES[n]),
        "sample": lambda app, n: app.number_input(key="sample").set_value(2000 + n),
        "epoch": lambda app, n: app.select_slider(key="epoch").set_value(3 + n),
        "range": lambda app, n: app.number_input(key="to").set_value(0.9 - 0.1 * n),
        "field": lambda app, n: choose(app, "field", ("influence", "weight", "influence")[n]),
    },
    "robustness": {
        "tab": lambda app, n: keep(app, "ranked", ("Stability over seeds", "Figures", "Ranks between two runs")[n]),
    },
    "compare": {
        "tab": lambda app, n: keep(app, "compared", ("Confusions", "Ranks", "Size and speed")[n]),
        "runs": lambda app, n: app.multiselect(key="runs").set_value(app.multiselect(key="runs").value[::-1]),
    },
    "experiments": {"rates": lambda app, n: app.text_input(key="plan rates").set_value(f"0, 0.{n + 1}")},
    "card": {"watts": lambda app, n: app.number_input(key="watts").set_value(100 + n)},
}
ROUNDS = 3


def choose(app: AppTest, key: str, value: str) -> None:
    """A value of a segmented control, which AppTest finds by its key alone."""
    control: Any = app.get_by_key(key)
    control.set_value(value)


def keep(app: AppTest, key: str, value: Any) -> None:
    """A value of a control that AppTest has no element for."""
    app.session_state[key] = value


class Measured(NamedTuple):
    """A first view, or the median over the values of a control."""

    page: str
    control: str
    milliseconds: float
    processor: float  # milliseconds of the processor
    message: float  # the largest, MB


def measure() -> Iterator[Measured]:
    """Every page and control on the runs of the cache folder."""
    for page, controls in PAGES.items():
        app = AppTest.from_file(MAIN, default_timeout=600)
        app.run()
        app.switch_page(f"views/{page}.py")
        yield Measured(page, "first view", *run(app), largest(app))
        for control, change in controls.items():
            times, sizes = [], []
            for number in range(ROUNDS):
                change(app, number)
                times.append(run(app))
                sizes.append(largest(app))
            clock, processor = (statistics.median(part) for part in zip(*times, strict=True))
            yield Measured(page, control, clock, processor, max(sizes))


def run(app: AppTest) -> tuple[float, float]:
    """Milliseconds of a run of the page's script, on the clock and of the processor."""
    began = time.perf_counter(), time.process_time()
    app.run()
    ended = time.perf_counter(), time.process_time()
    if app.exception:
        raise RuntimeError(app.exception[0].value)
    return 1000 * (ended[0] - began[0]), 1000 * (ended[1] - began[1])


def largest(app: AppTest) -> float:
    """Size of the page's largest element on the wire, in MB."""
    return max(element.proto.ByteSize() for element in elements(app.main) if hasattr(element, "proto")) / 1e6


def elements(block: Any) -> Iterator[Any]:
    """All elements below a block."""
    for child in block.children.values():
        yield child
        if hasattr(child, "children"):
            yield from elements(child)


def main() -> None:
    arguments = options(__doc__ or "").parse_args()
    sizes = QUICK if arguments.quick else SIZES
    figures: dict[str, float] = {}
    for end, (samples, epochs) in sizes.items():
        with tempfile.TemporaryDirectory() as folder:
            os.environ["KDAIF_CACHE"] = folder
            for method, seed, recorded in (("kd", 0, 2), ("kd-aif", 1, 2), ("kd-aif", 0, epochs)):
                synthetic_run(Path(folder) / "runs", samples, recorded, method=method, seed=seed)
            found = list(measure())
        print_table(
            (f"{samples:,} x {epochs}", "control", "ms", "processor, ms", "largest message, MB"),
            [(m.page, m.control, f"{m.milliseconds:.0f}", f"{m.processor:.0f}", f"{m.message:.2f}") for m in found],
        )
        changes = [m for m in found if m.control != "first view"]
        figures[f"first_view_ms{end}"] = max(m.milliseconds for m in found if m.control == "first view")
        figures[f"slowest_interaction_ms{end}"] = max(m.milliseconds for m in changes)
        figures[f"slowest_interaction_processor_ms{end}"] = max(m.processor for m in changes)
        figures[f"largest_message_mb{end}"] = max(m.message for m in found)
    emit(figures, {"sizes": sizes, "quick": arguments.quick}, arguments.json, BARS)


if __name__ == "__main__":
    main()
