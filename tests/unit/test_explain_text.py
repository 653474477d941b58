"""Attributions of sentences: captum's, whole, and shown by words."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from captum.attr import LayerIntegratedGradients

import kdaif.explain as module
from kdaif.card import measure_card
from kdaif.config import UserError
from kdaif.data.text import open_vocabulary, pieces
from kdaif.explain import explain, open_network
from kdaif.neighbours import measure
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import sentences, small_text, write_sentences
from tests.small import small

BY = "integrated-gradients"
LEARN = ("teacher.optim.epochs=4", "student.optim.epochs=3")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on sentences, trained in the module's own cache."""
    folder = tmp_path_factory.mktemp("films")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(folder / "cache"))
        source = write_sentences(folder / "data", train=200)
        return Run(Path(train_new(small_text(source, *LEARN, "data.max_tokens=12"))["run_dir"]))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The same on pairs, with BERT's part embeddings."""
    folder = tmp_path_factory.mktemp("pairs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDAIF_CACHE", str(folder / "cache"))
        source = write_sentences(folder / "data", train=120, second=sentences(120, seed=3)["text"])
        test = pd.read_parquet(source / "test.parquet")
        test.assign(second=test["text"]).to_parquet(source / "test.parquet")
        columns = "data.columns={text: text, text_pair: second, label: label}"
        config = small_text(source, *LEARN, columns, "student.model=bert-micro", "data.max_tokens=64")
        return Run(Path(train_new(config)["run_dir"]))


def direct(run: Run, row: int, name: str, target: int) -> np.ndarray:
    """captum as its BERT tutorial has it: tensors of `transformers`, padding in place of the words, special tokens kept."""
    network = open_network(run, name).model.network
    vocabulary = open_vocabulary(run.config().data.tokenizer, run.tokenizer_path).tokenizer
    texts = [text for text in run.samples().loc[row, ["text", "text_pair"]] if isinstance(text, str)]
    found = vocabulary(
        *texts,
        truncation=True,
        max_length=run.config().data.max_tokens,
        return_tensors="pt",
        return_token_type_ids=True,
    )
    ids, parts = found["input_ids"], found["token_type_ids"]
    special = torch.isin(ids, torch.tensor(vocabulary.all_special_ids))
    empty = ids.where(special, vocabulary.pad_token_id)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        given = {"token_type_ids": parts.expand(len(ids), -1)} if "Distil" not in type(network).__name__ else {}
        return network(input_ids=ids, attention_mask=torch.ones_like(ids), **given).logits

    captum = LayerIntegratedGradients(logits, network.get_input_embeddings())
    return captum.attribute(ids, baselines=empty, target=target, n_steps=50)[0].sum(-1).detach().numpy()


@pytest.mark.parametrize("network", ["student", "teacher"])
@pytest.mark.parametrize("kind", ["films", "pairs"])
def test_attributions_are_captums_and_add_up(request: pytest.FixtureRequest, kind: str, network: str) -> None:
    run: Run = request.getfixturevalue(kind)
    for row in (0, 7):
        found = explain(run, row, network, BY, 1)
        np.testing.assert_allclose(found.values, direct(run, row, network, 1), rtol=1e-4, atol=1e-6)
        assert np.abs(found.values).max() > 0
        assert len(found.values) == len(found.tokens)
        distance = found.total() + found.residual
        assert abs(found.residual) < 0.05 * max(abs(distance), 0.1)


def test_the_sum_is_the_logits_distance_from_the_empty_sentence(films: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEPS", 300)
    found = explain(films, 4, "student", BY, 0)
    network = open_network(films, "student").model
    vocabulary = open_vocabulary("bpe", films.tokenizer_path)
    sample = pieces([films.samples()["text"][4]], vocabulary, 12)
    empty = sample.inputs.clone()
    empty[0, 0, 1:-1] = vocabulary.pad
    with torch.no_grad():
        here, there = (float(network(x)[0, 0]) for x in (sample.inputs, empty))
    assert found.total() + found.residual == pytest.approx(here - there, abs=1e-5)
    assert found.residual == pytest.approx(0, abs=0.01 * abs(here - there) + 1e-4)
    values = np.asarray(found.values)
    assert list(values[[0, -1]]) == [0, 0]  # [CLS] and [SEP] stand in the empty sentence too


def test_a_words_value_is_the_sum_of_its_pieces(films: Run) -> None:
    vocabulary = open_vocabulary("bpe", films.tokenizer_path)
    text = "Tediously witty, the unfilmable film."
    sample = pieces([text], vocabulary, 64)
    spoken = [text[word.start : word.end] for word in sample.words]
    assert spoken == ["Tediously", "witty", ",", "the", "unfilmable", "film", "."]
    assert len(sample.words[0].tokens) > 1
    assert sorted(token for word in sample.words for token in word.tokens) == list(range(1, len(sample.names) - 1))
    assert sample.special == (0, len(sample.names) - 1)
    found = explain(films, 2, "student", BY, 1)
    values = np.asarray(found.values)
    by_hand = [values[list(word.tokens)].sum() for word in found.words]
    assert found.of_words() == pytest.approx(by_hand)
    assert sum(found.of_words()) == pytest.approx(found.total(), abs=1e-6)


def test_the_tokens_are_those_that_were_trained_on(films: Run, pairs: Run) -> None:
    from kdaif.data import load

    for run in (films, pairs):
        config = run.config()
        dataset = load(config.data, config.noise, config.seed, None)
        vocabulary = open_vocabulary("bpe", run.tokenizer_path)
        for row in (0, 5, 11):
            sample = pieces(list(dataset.train.texts[row]), vocabulary, config.data.max_tokens)
            length = sample.inputs.shape[2]
            assert torch.equal(dataset.train.inputs[row, :, :length], sample.inputs[0])
            assert (dataset.train.inputs[row, 0, length:] == -1).all()


def test_padding_changes_nothing(films: Run) -> None:
    """The teacher's recorded opinions were made in padded batches."""
    last = films.epoch()
    for row in (1, 6):
        said = [explain(films, row, "teacher", BY, target).probability for target in (0, 1)]
        assert sum(said) == pytest.approx(1.0)
        assert int(np.argmax(said)) == last["teacher_prediction"][row]
        assert max(said) == pytest.approx(last["teacher_confidence"][row], abs=1e-4)


def test_what_was_cut_off_has_no_word(films: Run) -> None:
    text = films.samples()["text"]
    row = int(text.str.len().idxmax())
    found = explain(films, row, "student", BY, 0)
    assert len(found.tokens) == 12
    assert found.words[-1].end < len(text[row])


def test_pairs_have_words_in_both_sentences(pairs: Run) -> None:
    found = explain(pairs, 3, "teacher", BY, 1)
    samples = pairs.samples()
    for part, column in enumerate(("text", "text_pair")):
        spoken = [samples[column][3][word.start : word.end] for word in found.words if word.part == part]
        assert spoken == samples[column][3].split()
    assert found.tokens.count("[SEP]") == 2


def test_what_sentences_cannot_have_is_refused(films: Run) -> None:
    with pytest.raises(UserError, match=r"explain.method: got 'saliency', takes integrated-gradients for sentences\."):
        explain(films, 0, "student", "saliency", 0)
    kept = films.tokenizer_path.read_bytes()
    films.tokenizer_path.unlink()
    try:
        with pytest.raises(UserError, match=r"data.tokenizer: .*tokenizer.json holds no tokenizer"):
            explain(films, 0, "student", BY, 0)
    finally:
        films.tokenizer_path.write_bytes(kept)


def test_neighbours_and_card_take_sentences(films: Run) -> None:
    found = measure(films)
    assert found.held_inputs == ""
    assert len(found.on_validation(3)) == len(found.held_words)
    assert set(found.held_words[0].split()) <= set(" ".join(sentences(400)["text"]).split())
    card = measure_card(films)
    assert set(card["robustness"]) == {"drop"}
    assert len(card["parts"]) == 3
    assert 0.5 < card["rga"] <= 1


def test_a_run_on_images_keeps_no_tokenizer() -> None:
    run = Run(Path(train_new(small("student.optim.epochs=1"))["run_dir"]))
    assert not run.tokenizer_path.exists()
