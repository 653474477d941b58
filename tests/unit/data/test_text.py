from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from kdaif.config import DataConfig, NoiseConfig, UserError, parse_config
from kdaif.data import Batches, Dataset, load, text
from kdaif.data.text import PAD, lengths
from tests.sentences import sentences, write_sentences


def read(source: Path, noise: NoiseConfig | None = None, **settings: object) -> Dataset:
    data = parse_config({"data": {"source": str(source), **settings}}).data
    assert isinstance(data, DataConfig)
    return load(data, noise or NoiseConfig(), 0, None)


def words(dataset: Dataset, row: int) -> str:
    ids = dataset.train.inputs[row, 0]
    return dataset.vocabulary.tokenizer.decode(ids[ids != PAD].tolist())


def pairs(folder: Path) -> Path:
    table = sentences(60).rename(columns={"text": "sentence1"})
    table["sentence2"] = sentences(60, seed=5)["text"]
    table.to_parquet(folder / "pairs.parquet")
    return folder / "pairs.parquet"


class TestTokens:
    def test_a_sentence_is_one_row_of_ids_and_pads(self, tmp_path: Path) -> None:
        dataset = read(write_sentences(tmp_path))
        train = dataset.train
        assert train.inputs.dtype == torch.int32
        assert train.inputs.shape[:2] == (144, 2)
        assert dataset.classes == ("bad", "good")
        assert words(dataset, 3) == f"[CLS] {train.texts[3, 0]}[SEP]"
        count = lengths(train.inputs)
        assert count.max() == train.inputs.shape[2]
        assert (train.inputs[3, 0, count[3] :] == PAD).all()
        assert (train.inputs[:, 1] == 0).all()
        assert dataset.truncated == 0

    def test_a_pair_shares_a_row_and_the_second_row_tells_its_parts(self, tmp_path: Path) -> None:
        dataset = read(pairs(tmp_path))
        first, second = dataset.train.texts[0]
        assert words(dataset, 0) == f"[CLS] {first}[SEP] {second}[SEP]"
        parts = dataset.train.inputs[0, 1][: lengths(dataset.train.inputs)[0]].tolist()
        assert parts == sorted(parts)
        assert words(dataset, 0).count("[SEP]") == 2
        end = dataset.train.inputs[0, 0].tolist().index(dataset.vocabulary.tokenizer.sep_token_id)
        assert parts.index(1) == end + 1

    def test_the_tokens_of_large_sets_are_kept(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = write_sentences(tmp_path / "films")
        fresh, short = (read(source, max_tokens=count) for count in (32, 9))
        kept = tmp_path / "cache" / "tokens"
        assert not kept.exists()  # a small set is tokenised in no time
        monkeypatch.setattr(text, "MANY", 10)
        for expected, count in ((fresh, 32), (short, 9)):
            assert torch.equal(read(source, max_tokens=count).train.inputs, expected.train.inputs)
        assert len(list(kept.iterdir())) == 6  # three splits, two lengths
        encode, calls = text._encode, []
        monkeypatch.setattr(text, "_encode", lambda *given: calls.append(given) or encode(*given))
        again = read(source, max_tokens=9)
        assert (torch.equal(again.train.inputs, short.train.inputs), again.truncated, calls) == (
            True,
            short.truncated,
            [],
        )
        assert short.truncated > 0
        for file in kept.iterdir():
            file.write_bytes(b"PK\x03\x04 damaged")
        assert torch.equal(read(source, max_tokens=9).test.inputs, short.test.inputs)
        assert len(calls) == 3
        frame = pd.read_parquet(source / "train.parquet")
        frame.assign(text=frame["text"].str.upper()).to_parquet(source / "train.parquet")
        assert read(source, max_tokens=9).train.texts[0, 0].isupper()
        assert len(calls) > 3

    def test_a_sentence_of_10000_words_is_cut_and_counted(self, tmp_path: Path) -> None:
        long = sentences(160)["text"].to_numpy(object)
        long[5] = "dull " * 10_000
        dataset = read(write_sentences(tmp_path, text=long), max_tokens=64, validation=0.1)
        assert dataset.train.inputs.shape[2] == 64
        assert dataset.truncated + sum("dull dull dull" in text for text in dataset.validation.texts[:, 0]) == 1

    def test_the_same_sentences_give_the_same_ids(self, tmp_path: Path) -> None:
        first, again = (read(write_sentences(tmp_path / name)) for name in "ab")
        assert first.vocabulary.tokenizer.get_vocab() == again.vocabulary.tokenizer.get_vocab()
        assert torch.equal(first.train.inputs, again.train.inputs)

    def test_words_not_seen_in_training_are_no_error(self, tmp_path: Path) -> None:
        folder = write_sentences(tmp_path)
        sentences(20).assign(text="чудесно ☃ 映画").to_parquet(folder / "test.parquet")
        dataset = read(folder)
        assert (lengths(dataset.test.inputs) >= 3).all()


class TestSplit:
    def test_labels_are_flipped_and_all_fields_go_together(self, tmp_path: Path) -> None:
        folder = write_sentences(tmp_path, mean=np.arange(160.0), std=np.arange(160.0) / 9)
        pd.read_parquet(folder / "test.parquet").assign(mean=0, std=0).to_parquet(folder / "test.parquet")
        columns = {"text": "text", "rating": "mean", "rating_spread": "std"}
        dataset = read(folder, NoiseConfig(kind="symmetric", rate=0.4), columns=columns)
        train = dataset.train
        assert train.flipped.sum() == round(0.4 * 144)
        rows = np.array([int(name[-6:]) for name in train.ids])
        assert train.texts[:, 0].tolist() == sentences(160)["text"].iloc[rows].tolist()
        np.testing.assert_array_equal(train.rating, rows.astype(np.float32))
        part = train.subset(train.flipped)
        assert part.texts.shape == (58, 1)
        np.testing.assert_array_equal(part.rating_spread, train.rating_spread[train.flipped.numpy()])
        assert len(set(part.hashes())) == len(set(part.texts[:, 0]))

    def test_noise_of_pixels_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            UserError, match=r"^noise\.kind: got 'instance', which is made for images; takes none, symmetric"
        ):
            read(write_sentences(tmp_path), NoiseConfig(kind="instance", rate=0.1))

    def test_input_noise_leaves_words_out_and_keeps_labels(self, tmp_path: Path) -> None:
        folder = write_sentences(tmp_path)
        whole, noise = read(folder), NoiseConfig(kind="input", corruption="drop", rate=0.4)
        dataset = read(folder, noise)
        for part, rate in (("train", 0.4), ("validation", 0.4), ("test", 0.0)):
            ours, theirs = getattr(dataset, part), getattr(whole, part)
            assert ours.corrupted.sum() == round(rate * len(ours))
            assert np.array_equal((ours.texts != theirs.texts).any(axis=1), ours.corrupted.numpy())
            assert torch.equal(lengths(ours.inputs) < lengths(theirs.inputs), ours.corrupted)
            assert torch.equal(ours.labels, theirs.labels)
        assert dataset.vocabulary.learnt() == whole.vocabulary.learnt()
        assert read(folder, noise).train.texts.tolist() == dataset.train.texts.tolist()
        with pytest.raises(
            UserError, match=r"^noise\.corruption: got 'gaussian', which is made for images; takes drop"
        ):
            read(folder, NoiseConfig(kind="input", rate=0.4))


class TestBatches:
    def stream(self, dataset: Dataset, shuffle: bool, size: int = 16) -> Batches:
        return Batches(dataset.train, (), (), size, shuffle=shuffle, augment="none", device="cpu", seed=0)

    @pytest.mark.parametrize("shuffle", [True, False])
    def test_each_sentence_comes_once_beside_others_of_its_length(self, tmp_path: Path, shuffle: bool) -> None:
        dataset = read(write_sentences(tmp_path))
        batches = list(self.stream(dataset, shuffle))
        index = torch.cat([batch.index for batch in batches])
        assert sorted(index.tolist()) == list(range(144))
        assert torch.equal(torch.cat([batch.inputs for batch in batches]), dataset.train.inputs[index])
        spans = [(int(count.min()), int(count.max())) for count in (lengths(batch.inputs) for batch in batches)]
        assert np.mean([high - low for low, high in spans]) <= 2
        if shuffle:
            assert spans != sorted(spans)

    def test_the_order_depends_on_seed_and_epoch_alone(self, tmp_path: Path) -> None:
        dataset = read(write_sentences(tmp_path))
        orders = []
        for epoch in (1, 1, 2):
            stream = self.stream(dataset, shuffle=True)
            stream.set_epoch(epoch)
            orders.append(torch.cat([batch.index for batch in stream]).tolist())
        assert orders[0] == orders[1] != orders[2]

    def test_the_whole_comes_in_the_splits_order(self, tmp_path: Path) -> None:
        dataset = read(write_sentences(tmp_path))
        whole = self.stream(dataset, shuffle=True).whole()
        assert torch.equal(whole.inputs, dataset.train.inputs)
        assert torch.equal(whole.labels, dataset.train.labels)


@pytest.mark.parametrize(
    ("changed", "settings", "said"),
    [
        ({"text": "   "}, {}, r"data.columns.text: 144 samples have no word in 'text' \(first train.parquet#\d+\)"),
        ({"text": [None] * 80 + ["a word"] * 80}, {}, r"data.columns.text: \d+ samples have no word"),
        ({"text": ""}, {}, "data.columns.text: 144 samples have no word"),
        ({"label": None}, {}, "data.columns.label: column 'label' has 160 rows without a label"),
        (
            {"label": ["good", "fine"] * 80},
            {},
            "data.columns.label: column 'label' has the label 'bad', takes the train",
        ),
        ({"text": 1.5}, {"columns": {"text": "text"}}, "data.columns.text: column 'text' is double, takes sentences"),
        (
            {},
            {"columns": {"text": "text", "rating": "text"}},
            "data.columns.rating: column 'text' is .*string",
        ),
        ({}, {"tokenizer": "EMPTY"}, "data.tokenizer: got '.*empty', takes bpe, minilm, or the folder or Hugging"),
        ({}, {"max_tokens": 4}, "data.max_tokens: got 4, should be greater than or equal to 8"),
    ],
)
def test_bad_text_gets_one_sentence(
    tmp_path: Path, changed: dict[str, object], settings: dict[str, object], said: str
) -> None:
    (tmp_path / "empty").mkdir()
    settings = {key: str(tmp_path / "empty") if value == "EMPTY" else value for key, value in settings.items()}
    folder = write_sentences(tmp_path / "films", **changed)
    with pytest.raises(UserError, match=f"^{said}"):
        read(folder, **settings)
