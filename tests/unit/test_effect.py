"""The promise itself, in small: on noisy labels KD-AIF ends above vanilla KD, and on clean ones it costs nothing."""

import json
import os
import subprocess
import sys


def test_kd_aif_beats_vanilla_kd_on_noisy_digits_and_costs_nothing_on_clean_ones(tmp_path):
    command = [sys.executable, "-m", "benchmarks.effect", "--quick", "--json"]
    environment = {"KDAIF_CACHE": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env={**os.environ, **environment})
    assert done.returncode == 0, done.stderr[-2000:]
    figures = json.loads(done.stdout.splitlines()[-1])["figures"]
    assert figures["oracle_gap_recovered"] >= 0.5
    assert figures["smallest_gain_of_a_seed"] > 0
    assert figures["delta_clean"] >= -0.3
    assert figures["flipped_auroc"] >= 0.95
