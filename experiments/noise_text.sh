#!/usr/bin/env bash
# Film reviews and SST-2 with 40 % flipped labels, MiniLM-L6 -> three of its layers, on two CPU cores with bf16.
# Two classes: symmetric noise of 40 % turns exactly 40 % of the labels into the other class.
# SST-2: 20,000 sentences; a seed takes about twenty minutes on one core of a Zen 5. Reviews: 3,000; there the gate stays shut (docs/lab.md).
# usage: bash experiments/noise_text.sh DATA_ROOT   (a folder with glue/sst2/*.parquet)
set -euo pipefail
for preset in reviews-minilm-small sst2-minilm-small; do
    python -m kdaif sweep "$preset" --noise 0.4 --methods kd,kd-aif,oracle --seeds 0,1,2 --set precision=bf16 --data-root "$1" --json
done
