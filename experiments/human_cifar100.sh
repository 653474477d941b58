#!/usr/bin/env bash
# CIFAR-100 with human labels (CIFAR-100N: 40 % of the given labels are wrong), 10,000 images: what finds the wrong ones?
# About 15 minutes on 2 cores. The argument is the folder of data sets, with label_noise/cifar100n.parquet in it.
#   bash experiments/human_cifar100.sh DATA > human_cifar100.txt
set -euo pipefail
data=$1
run=$(python -m kdaif train cifar100-resnet8 --set method=kd-aif --set noise.kind=column \
  --set noise.file=label_noise/cifar100n.parquet --set noise.column=noisy_label --set noise.key=official_index \
  --data-root "$data" --json | tail -n 1 | python -c 'import json, sys; print(json.load(sys.stdin)["run_id"])')
python -m kdaif audit "$run" --data-root "$data" --json
