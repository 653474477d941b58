import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import f1_score, matthews_corrcoef
from torch import nn

from kdaif.data import Batch, Split
from kdaif.data.corpora import GLUE
from kdaif.evaluate import FIGURES, evaluate, opinions, predict


class Fixed(nn.Module):
    """Says its inputs' first pixels; in train mode something else."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(1)

    def forward(self, x):
        return x[:, 0, 0] if not self.training else x[:, 0, 0] * 0 + self.norm(x).sum()


LOGITS = torch.tensor([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0], [3.0, 0.0, 2.0], [0.0, 1.0, 0.0], [5.0, 0.0, 0.0]])
LABELS = torch.tensor([0, 1, 1, 1, 0])


def batches(size: int = 2):
    for start in range(0, len(LOGITS), size):
        rows = torch.arange(start, min(start + size, len(LOGITS)))
        yield Batch(rows, LOGITS[rows][:, None, None, :], LABELS[rows])


@pytest.mark.parametrize("training", [True, False])
def test_predict_gives_logits_in_order_and_leaves_the_mode(training):
    model = Fixed().train(training)
    assert torch.equal(predict(model, batches()), LOGITS)
    assert model.training is training
    assert model.norm.num_batches_tracked == 0


def test_figures():
    said = evaluate(Fixed(), batches(), LABELS)
    assert said.accuracy == 0.8
    assert said.class_accuracy[:2] == [1.0, pytest.approx(2 / 3)]
    assert math.isnan(said.class_accuracy[2])  # no sample of it
    assert said.loss == pytest.approx(float(nn.functional.cross_entropy(LOGITS, LABELS)))


def test_figures_do_not_depend_on_the_batch_size():
    assert evaluate(Fixed(), batches(1), LABELS)[:2] == evaluate(Fixed(), batches(5), LABELS)[:2]


def test_opinions_of_single_samples():
    said = opinions(LOGITS, LABELS)
    assert said.prediction.tolist() == [0, 1, 0, 1, 0]
    assert said.margin.tolist() == [3, 1, -3, 1, 5]  # the given label less the best other
    assert torch.allclose(said.confidence, LOGITS.softmax(1).amax(1))
    assert torch.allclose(said.loss, -LOGITS.log_softmax(1)[range(5), LABELS])


def split(labels: torch.Tensor) -> Split:
    names = np.array([f"s{row}" for row in range(len(labels))])
    return Split(torch.zeros(len(labels), 2, 4, dtype=torch.int32), labels, None, names, names)


@pytest.mark.parametrize("task", [name for name in GLUE if GLUE[name].figures])
def test_figures_of_glue_are_those_of_other_libraries(task: str) -> None:
    """Matthews for CoLA, F1 for MRPC and QQP, Pearson and Spearman for STS-B."""
    rng = np.random.default_rng(0)
    if task == "stsb":
        labels = torch.from_numpy(rng.normal(size=200).astype(np.float32))
        outputs = (labels + torch.from_numpy(rng.normal(size=200).astype(np.float32)))[:, None]
        said = outputs[:, 0].exp().numpy()  # another scale: ranks stay, correlation does not
        expected = {"pearson": stats.pearsonr(outputs[:, 0], labels), "spearman": stats.spearmanr(said, labels)}
        expected = {name: found.statistic for name, found in expected.items()}
    else:
        labels = torch.from_numpy(rng.integers(0, 2, 200))
        outputs = torch.from_numpy(rng.normal(size=(200, 2)).astype(np.float32))
        outputs[torch.arange(200), labels] += 0.7
        expected = {"matthews": matthews_corrcoef(labels, outputs.argmax(1)), "f1": f1_score(labels, outputs.argmax(1))}
    for name in GLUE[task].figures:
        assert FIGURES[name](outputs, split(labels)) == pytest.approx(expected[name], abs=1e-5)
