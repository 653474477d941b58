"""A few rounds of the fault benchmark, with real workers and trainers: `python -m benchmarks.faults` does fifty."""

import json
import subprocess
import sys
from pathlib import Path

from benchmarks.faults import BARS

ROOT = Path(__file__).parents[3]


def test_nothing_is_lost_torn_or_wrong_under_fire():
    command = [sys.executable, "-m", "benchmarks.faults", "--quick", "--epochs", "8", "--json"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900, check=False)
    assert said.returncode == 0, said.stderr
    figures = json.loads(said.stdout.splitlines()[-1])["figures"]
    assert figures["rounds"] == 3
    for name, (_, bar) in BARS.items():
        assert figures[name] <= bar, figures
