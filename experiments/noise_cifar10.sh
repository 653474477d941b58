#!/usr/bin/env bash
# CIFAR-10, 20,000 images, 3 seeds: the effect on the student at 40 % symmetric noise, and detection at 10 and 40 %.
# About 2 hours on 2 cores without the audits, which take ten minutes and more each. The argument is the folder of data sets.
#   bash experiments/noise_cifar10.sh DATA > noise_cifar10.txt
set -euo pipefail
data=$1
python -m kdaif sweep cifar10-resnet8 --noise 0.4 --methods kd,kd-aif,oracle --seeds 0,1,2 --data-root "$data" --json
python -m kdaif sweep cifar10-resnet8 --noise 0.1 --methods kd-aif --seeds 0,1,2 --data-root "$data" --json
for run in $(python -m kdaif runs --json | tail -n 1 | python -c '
import json, sys
runs = json.load(sys.stdin)["runs"]
print(*[r["run_id"] for r in runs if r.get("method") == "kd-aif" and r.get("data") == "cifar10" and r.get("state") == "done"])'); do
  python -m kdaif audit "$run" --data-root "$data" --json
done
