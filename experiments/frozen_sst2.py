"""What the last layer alone can tell on two classes: MiniLM frozen, a linear head on the mean of the tokens, 40 % flipped labels.

usage: python experiments/frozen_sst2.py DATA_ROOT   (a folder with glue/sst2/*.parquet; half a minute on one core with bf16)

For each number of sentences and each draw of the noise: test accuracy of the head trained on the given labels, on the right ones
of them alone (oracle), and on labels that the head's own took over where influence calls the given one harmful, whether the gate
is open or not; AUROC for flipped labels of influence (K-FAC, target at T = 4, samples at 2: the defaults) and of the head's loss.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from transformers import AutoModel

from kdaif.adaptive import criterion_at
from kdaif.config import DataConfig, NoiseConfig
from kdaif.data import Batches, Split, load
from kdaif.influence import make_probe, two_groups
from kdaif.metrics.detection import auroc
from kdaif.outside import pretrained

WIDTH, FEW = 384, 300  # width of MiniLM; validation samples at least


def embedded(encoder: nn.Module, split: Split) -> Tensor:
    """The mean over the tokens of each sentence."""
    means = torch.zeros(len(split), WIDTH)
    options = {"shuffle": False, "augment": "none", "device": "cpu", "seed": 0}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        for batch in Batches(split, (), (), 128, **options):
            ids = batch.inputs[:, 0].long()
            ids = ids[:, : int((ids >= 0).sum(1).max())]
            there = ids >= 0
            hidden = encoder(input_ids=ids.clamp_min(0), attention_mask=there.long()).last_hidden_state.float()
            means[batch.index] = (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    return means


def fitted(inputs: Tensor, labels: Tensor) -> nn.Module:
    """A linear layer of two outputs by logistic regression."""
    found = LogisticRegression(C=0.01, max_iter=300).fit(inputs.numpy(), labels.numpy())
    head = nn.Linear(WIDTH, 2)
    half = torch.tensor(np.append(found.coef_[0], found.intercept_[0]) / 2, dtype=torch.float32)
    with torch.no_grad():
        head.weight.copy_(torch.stack([-half[:-1], half[:-1]]))
        head.bias.copy_(torch.stack([-half[-1], half[-1]]))
    return head


def main(data_root: Path) -> None:
    source = DataConfig(source="glue/sst2", tokenizer="minilm", max_tokens=32, train_size=20000)
    data = load(source, NoiseConfig(), 0, data_root)
    encoder = AutoModel.from_pretrained(pretrained("minilm", "teacher.model")).eval()
    train, validation, test = (embedded(encoder, split) for split in (data.train, data.validation, data.test))

    def accuracy(head: nn.Module) -> float:
        return float((head(test).argmax(1) == data.test.labels).float().mean())

    for count in (2700, 5400, 18000):
        for seed in range(3):
            rng = np.random.default_rng(seed)
            rows = torch.from_numpy(rng.permutation(len(train))[:count])
            judges = validation[torch.from_numpy(rng.permutation(len(validation))[: max(FEW, count // 9)])]
            flipped = torch.zeros(count, dtype=torch.bool)
            flipped[torch.from_numpy(rng.permutation(count)[: round(0.4 * count)])] = True
            inputs, clean = train[rows], data.train.labels[rows]
            given = torch.where(flipped, 1 - clean, clean)
            head = fitted(inputs, given)
            probe = make_probe(head, criterion_at(4.0), [(judges, head(judges).argmax(1))], preconditioner="kfac")
            t = probe(head, criterion_at(2.0), (inputs, given)).t.detach()
            for label in (0, 1):
                t[given == label] -= t[given == label].median()
            t += probe(head, criterion_at(2.0), (inputs, given)).t.detach().median()
            groups, says = two_groups(t), head(inputs).argmax(1)
            harmful = (groups.posterior(t) > 0.5) & (says != given)
            loss = F.cross_entropy(head(inputs), given, reduction="none").detach()
            print(
                f"{count:6d} sentences, {len(judges)} validation, seed {seed}: given {accuracy(head):.3f}"
                f" relabelled {accuracy(fitted(inputs, torch.where(harmful, says, given))):.3f}"
                f" oracle {accuracy(fitted(inputs[~flipped], given[~flipped])):.3f}"
                f" | AUROC influence {auroc(-t.numpy(), flipped.numpy()):.3f} loss {auroc(loss.numpy(), flipped.numpy()):.3f}"
                f" | lower mean t {float(groups.means[0]):+.1f}, gate {'open' if groups.harmful else 'shut'}"
            )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
