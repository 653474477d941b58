#!/usr/bin/env bash
# CIFAR-100, its 20 coarse classes, 20,000 of the 50,000 training images, 3 seeds, 40 % symmetric noise.
# On one core of a Zen 5 with bf16 a seed takes 15 to 25 minutes. The argument is the folder of data sets.
#   bash experiments/noise_cifar100.sh DATA > noise_cifar100.txt
set -euo pipefail
python -m kdaif sweep cifar10-resnet8 --noise 0.4 --methods kd,kd-aif,oracle --seeds 0,1,2 --data-root "$1" --json \
  --set data.source=cifar100 --set data.columns.label=coarse_label --set data.train_size=20000 --set precision=bf16
