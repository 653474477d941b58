#!/usr/bin/env bash
# CIFAR-10, 20,000 images, 3 seeds: the effect on the student at 0, 20, 40 and 60 % symmetric noise, and detection at 10 to 60 %.
# Hours on 2 cores: 39 students of 4 to 7 minutes, 15 teachers of 5 to 7, as many more trained again where samples are harmful, and the audits. The argument is the folder of data sets.
#   bash experiments/noise_cifar10.sh DATA > noise_cifar10.txt
set -euo pipefail
data=$1
python -m kdaif sweep cifar10-resnet8 --noise 0,0.2,0.4,0.6 --methods kd,kd-aif,oracle --seeds 0,1,2 --data-root "$data" --json
python -m kdaif sweep cifar10-resnet8 --noise 0.1 --methods kd-aif --seeds 0,1,2 --data-root "$data" --json
for run in $(python -m kdaif runs --json | tail -n 1 | python -c '
import json, sys
runs = json.load(sys.stdin)["runs"]
print(*[r["run_id"] for r in runs if r.get("method") == "kd-aif" and r.get("data") == "cifar10" and r.get("state") == "done"])'); do
  python -m kdaif audit "$run" --data-root "$data" --json
done
