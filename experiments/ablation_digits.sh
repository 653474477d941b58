#!/usr/bin/env bash
# What each part of the default does: digits, 5 seeds, 0 and 40 % symmetric noise, one part changed at a time.
# About 10 minutes on 2 cores. Teachers are trained once and shared; the last line of each block is JSON.
#   bash experiments/ablation_digits.sh > ablation_digits.txt
set -euo pipefail
variants=(
  ""
  "influence.validation=given"
  "influence.corroborate=none"
  "influence.apply_to=both"
  "influence.apply_to=label"
  "influence.source=teacher"
  "influence.source=student"
  "influence.mapping=sigmoid"
  "influence.mapping=hard"
  "influence.mapping=relu"
  "influence.preconditioner=identity"
  "influence.preconditioner=kfac"
  "influence.scope=all"
  "influence.update=online"
  "influence.update=periodic"
  "influence.update=two_phase"
)
python -m kdaif sweep digits --noise 0,0.4 --methods kd,oracle --seeds 0,1,2,3,4 --json
for variant in "${variants[@]}"; do
  echo "== ${variant:-default}"
  python -m kdaif sweep digits --noise 0,0.4 --methods kd-aif --seeds 0,1,2,3,4 ${variant:+--set "$variant"} --json
done
