#!/usr/bin/env bash
# KD-AIF, vanilla KD and the oracle on digits, 5 seeds: symmetric noise, pair noise, and a teacher that saw clean labels.
# About 5 minutes on one core; the last line of each block is JSON.
#   bash experiments/noise_digits.sh > noise_digits.txt
set -euo pipefail
grid() { python -m kdaif sweep digits --methods kd,kd-aif,oracle --seeds 0,1,2,3,4 --json "$@"; }
echo "== symmetric"
grid --noise 0,0.2,0.4,0.6
echo "== pair"
grid --noise 0.4 --set noise.kind=pair
echo "== symmetric, teacher trained on clean labels"
grid --noise 0,0.4 --set teacher.labels=clean
