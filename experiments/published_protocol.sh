#!/usr/bin/env bash
# The published CIFAR-100 protocol (240 epochs, batch 64, x0.1 at 150, 180, 210), four pairs, 3 seeds, clean labels: for a GPU.
# Vanilla KD, as published (top-1, last epoch, %): resnet32x4 -> resnet8x4 73.33, wrn-40-2 -> wrn-16-2 74.92,
# wrn-40-2 -> wrn-40-1 73.54, resnet32x4 -> shufflenetv2 74.45. Published runs train on all 50,000 images; here a tenth of
# them is the validation split, so expect vanilla KD somewhat below. Not run by us so far: no figure of it is in docs/results.md.
#   bash experiments/published_protocol.sh > published_protocol.txt
set -euo pipefail
pairs=("resnet32x4 resnet8x4" "wrn-40-2 wrn-16-2" "wrn-40-2 wrn-40-1" "resnet32x4 shufflenetv2")
for pair in "${pairs[@]}"; do
  read -r teacher student <<< "$pair"
  echo "== $teacher -> $student"
  python -m kdaif sweep cifar100-resnet8x4 --noise "${NOISE:-0,0.4}" --methods "${METHODS:-ce,kd,kd-aif,oracle}" --seeds 0,1,2 \
    --set "teacher.model=$teacher" --set "student.model=$student" "$@" --json
done
