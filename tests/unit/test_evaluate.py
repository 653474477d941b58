import math

import pytest
import torch
from torch import nn

from kdaif.data import Batch
from kdaif.evaluate import evaluate, opinions, predict


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
