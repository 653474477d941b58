"""Scores of transformers against the per-sample loop in float32: padding, pairs, shared and tied weights, dropout off."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertForMaskedLM,
)

from kdaif.influence import SCORERS, FoldProbe, InfluenceWeights, make_probe, probes, scope_names
from kdaif.influence.layers import Rows
from kdaif.influence.scores import gradient, obstacle
from kdaif.models import TextClassifier
from tests.unit.models.test_text import sentences

SIZES = {"vocab_size": 60, "num_labels": 2}
BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
DISTILBERT = {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64}
Batch = tuple[Tensor, Tensor]


class Prompted(nn.Module):
    """Classes are words: the logits of two tokens at the first place, made by the tied embedding."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, inputs: Tensor) -> Tensor:
        ids = inputs[:, 0].long()
        logits = self.network(input_ids=ids.clamp_min(0), attention_mask=(ids >= 0).long()).logits
        return logits[:, 0, [7, 9]]


def classifier(config: object) -> Callable[[], nn.Module]:
    return lambda: TextClassifier(
        AutoModelForSequenceClassification.from_config(config, attn_implementation="eager"), 0
    )


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "bert": classifier(BertConfig(**BERT, **SIZES)),
    "distilbert": classifier(DistilBertConfig(**DISTILBERT, **SIZES)),
    "albert, layers shared": classifier(AlbertConfig(embedding_size=16, **BERT, **SIZES)),
    "bert, tied embeddings": lambda: Prompted(BertForMaskedLM(BertConfig(**BERT, **SIZES))),
    "distilbert, tied embeddings": lambda: Prompted(DistilBertForMaskedLM(DistilBertConfig(**DISTILBERT, **SIZES))),
}


def made(name: str) -> nn.Module:
    torch.manual_seed(0)
    return NETWORKS[name]().eval()


def batch(seed: int) -> Batch:
    return sentences(3, 12, 5, 9, 4, 7, seed=seed), torch.tensor([0, 1, 1, 0, 1, 0])


def cross_entropy(model: nn.Module, batch: Batch) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


# a last layer whose weight is the embedding has no score of its own
SCOPED = [(name, scope) for name in NETWORKS for scope in ("last", "all") if scope == "all" or "tied" not in name]


@pytest.mark.parametrize(("name", "scope"), SCOPED)
def test_layerwise_scores_are_the_loops(name: str, scope: str) -> None:
    model = made(name)
    names = scope_names(model, scope)
    assert not obstacle(model, cross_entropy, batch(1), names)
    directions = [gradient(model, cross_entropy, [batch(seed)], names) for seed in (1, 2)]
    scores, reference = (
        SCORERS[scorer](model, cross_entropy, batch(3), directions) for scorer in ("layerwise", "loop")
    )
    assert (scores - reference).abs().max() <= 1e-5 * reference.abs().max()


@pytest.mark.parametrize("scope", ["last", "all"])
@pytest.mark.parametrize("name", ["bert", "distilbert"])
def test_a_model_in_training_is_scored_without_dropout(name: str, scope: str) -> None:
    model = made(name)
    inputs, labels = batch(1)
    probe = make_probe(model, cross_entropy, [(inputs[:3], labels[:3]), (inputs[3:], labels[3:])], scope=scope)
    expected = probe(model, cross_entropy, batch(3)).t
    weights = InfluenceWeights(
        model.train(), (inputs, labels), 6, scope=scope, update="periodic", validation_batch=None, folds=2, seed=1
    )
    drawn = weights._validation(0)
    assert {len(part[0]) for part in drawn} == {3}
    weights._validation = lambda step: [(inputs[:3], labels[:3]), (inputs[3:], labels[3:])]
    weights.rescore([(torch.arange(6), batch(3))])
    torch.testing.assert_close(weights.table.influence() + weights.table.offset, expected, rtol=1e-4, atol=1e-4)
    assert model.training


def test_padding_has_no_part_in_a_score() -> None:
    model = made("bert")
    names = scope_names(model, "all")
    direction = [gradient(model, cross_entropy, [batch(1)], names)]
    inputs, labels = batch(3)
    together = SCORERS["layerwise"](model, cross_entropy, (inputs, labels), direction)[0]
    for row, count in enumerate((3, 12, 5, 9, 4, 7)):
        one = inputs[row : row + 1, :, :count], labels[row : row + 1]
        alone = SCORERS["layerwise"](model, cross_entropy, one, direction)[0]
        torch.testing.assert_close(alone, together[row : row + 1], rtol=1e-4, atol=1e-6)


def test_of_an_embedding_only_the_rows_that_a_validation_sample_has_are_kept() -> None:
    model = made("bert").double()
    names = scope_names(model, "all")
    validation = [batch(seed) for seed in (1, 2, 3)]
    probe = make_probe(model, cross_entropy, validation, scope="all", preconditioner="identity")
    assert isinstance(probe, FoldProbe)
    words = "network.bert.embeddings.word_embeddings.weight"
    kept = probe.directions.together[words]
    assert isinstance(kept, Rows)
    seen = [ids[:, 0].clamp_min(0).unique() for ids, _ in validation]
    assert len(kept.kept) - 1 <= sum(map(len, seen)) < 3 * 60
    directions = [gradient(model, cross_entropy, [one], names) for one in validation]
    torch.testing.assert_close(kept.dense(), torch.stack([v[words] for v in directions]))
    scores = probe(model, cross_entropy, batch(4))
    reference = SCORERS["loop"](model, cross_entropy, batch(4), directions)
    torch.testing.assert_close(scores.mean, reference.mean(0))


def test_a_tied_embedding_keeps_all_its_rows() -> None:
    model = made("bert, tied embeddings")
    looked_up = probes.looked_up(model, scope_names(model, "all"))
    assert "network.bert.embeddings.position_embeddings.weight" in looked_up
    assert "network.bert.embeddings.word_embeddings.weight" not in looked_up


@pytest.mark.parametrize("name", NETWORKS)
def test_directions_kept_in_half_the_memory_move_a_score_by_far_less_than_its_error(name: str) -> None:
    validation = [batch(seed) for seed in range(1, 9)]
    half, full = (
        make_probe(model, cross_entropy, validation, scope="all")(model, cross_entropy, batch(9))
        for model in (made(name), made(name).double())
    )
    assert ((half.mean - full.mean).abs() <= 0.02 * full.error).all()
    torch.testing.assert_close(half.error.double(), full.error, rtol=0.02, atol=0)
