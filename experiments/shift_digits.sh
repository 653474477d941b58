#!/usr/bin/env bash
# Training data unlike the validation data: a long tail in train alone, damaged images in train alone; digits, 5 seeds.
# Worst-class accuracies are in the summaries.
#   bash experiments/shift_digits.sh > shift_digits.txt
set -euo pipefail
seeds=0,1,2,3,4
for imbalance in 10 50; do
  echo "== the first class $imbalance times as frequent as the last, 0 and 40 % wrong labels"
  python -m kdaif sweep digits --noise 0,0.4 --methods kd,kd-aif,oracle --seeds $seeds --set data.imbalance=$imbalance --json
  echo "== the same, the teacher's worst class as target"
  python -m kdaif sweep digits --noise 0,0.4 --methods kd-aif --seeds $seeds --set data.imbalance=$imbalance \
    --set influence.target=worst-class --json
done
for corruption in gaussian blur occlusion; do
  echo "== $corruption on 40 % of the training images, none on validation and test"
  python -m kdaif sweep digits --noise 0.4 --methods kd,kd-aif --seeds $seeds --set noise.kind=input \
    --set noise.corruption=$corruption --set noise.validation=false --json
done
