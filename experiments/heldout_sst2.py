"""The students of SST-2 runs on 8,000 further phrases: a test split of 872 sentences cannot tell methods a point apart.

usage: python experiments/heldout_sst2.py DATA_ROOT RUN...   (a folder with glue/sst2/*.parquet; runs of `sst2-minilm-small`)

SST-2's training split has 67,349 phrases, of which such a run takes 20,000; the 8,000 are drawn from the rest. They are cut from
the same reviews, hence easier than the test split, and the right labels of all are known. A standard error is 0.35 points.
The teacher of `trusted_sst2.py` has learnt most of them; its students have not.
"""

import sys
from pathlib import Path

import numpy as np
import torch

from kdaif.config import load_config
from kdaif.data import Batches, Split, load
from kdaif.explain import open_network
from kdaif.runs import Run, open_run

PRESET, COUNT = "sst2-minilm-small", 8000


def unused(data_root: Path) -> Split:
    """Phrases, at most 64 tokens each, that are neither trained on nor validated on, also not under another number."""
    small, every = load_config(PRESET), load_config(PRESET, ["data.train_size=null", "data.max_tokens=64"])
    taken, found = (load(config.data, config.noise, 0, data_root) for config in (small, every))
    used = np.concatenate([_phrases(taken.train), _phrases(taken.validation)])
    rows = np.flatnonzero(~np.isin(_phrases(found.train), used))
    return found.train.subset(torch.from_numpy(np.random.default_rng(0).permutation(rows)[:COUNT]))


def _phrases(split: Split) -> np.ndarray:
    assert split.texts is not None
    return split.texts[:, 0].astype(str)


@torch.inference_mode()
def accuracy(run: Run, split: Split) -> float:
    """Of the run's student, in bf16 as it was trained."""
    model, right = open_network(run, "student").model, 0
    for batch in Batches(split, (), (), 500, shuffle=False, augment="none", device="cpu", seed=0):
        with torch.autocast("cpu", torch.bfloat16):
            right += int((model(batch.inputs).argmax(1) == batch.labels).sum())
    return right / len(split)


def main(data_root: Path, names: list[str]) -> None:
    split = unused(data_root)
    for run in map(open_run, names):
        result = run.result()
        assert result is not None
        print(
            f"{run.id}: {result['method']}, noise {result['noise']}, seed {result['seed']}: "
            f"test {100 * result['test_accuracy']:.1f}, further phrases {100 * accuracy(run, split):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), sys.argv[2:])
