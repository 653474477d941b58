"""Sentences -> one tensor of token ids.

A sample stays one tensor, so that everything which takes inputs takes sentences too: row 0 holds the token ids and `PAD` after
the last of them, row 1 the part (0 or 1) of a pair that each token belongs to. A network tells by `PAD` where a sentence ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int32, Int64, Shaped
from torch import Tensor

from kdaif.config import UserError
from kdaif.data.columns import Found, holds_strings
from kdaif.data.tables import Table, reason
from kdaif.outside import pretrained
from kdaif.words import Word, words_of

PAD = -1  # no token has this id, whatever the tokenizer's own padding
OWN = "bpe"  # the tokenizer that is learnt from the training sentences
OWN_SIZE = 8000  # its tokens, at most
Tokens = Int32[Tensor, "n 2 length"]
Texts = Shaped[np.ndarray, "n parts"]  # str; parts: 1, or 2 for pairs


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """What made the token ids."""

    source: str  # as transformers finds it; `OWN`: learnt from the data
    tokenizer: Any  # a fast tokenizer of transformers

    @property
    def size(self) -> int:
        return len(self.tokenizer)

    @property
    def pad(self) -> int:
        """The id that networks were trained to take for no token."""
        return int(self.tokenizer.pad_token_id)

    def learnt(self) -> str | None:
        """A tokenizer that was learnt from the data, as JSON for `open_vocabulary`; None for one that has a name."""
        text: str = self.tokenizer.backend_tokenizer.to_str()
        return text if self.source == OWN else None


class Sentences(NamedTuple):
    """All splits' sentences, one entry a split."""

    tokens: list[Tokens]
    texts: list[Texts]
    vocabulary: Vocabulary
    truncated: int  # training sentences (or pairs) that lost tokens


class Pieces(NamedTuple):
    """The tokens of one sample, and where they stand in its sentences."""

    inputs: Tokens  # (1, 2, length), without padding
    names: tuple[str, ...]  # as the tokenizer writes them
    words: tuple[Word, ...]
    special: tuple[int, ...]  # positions of tokens that stand for no word, such as [CLS]


def read_sentences(
    places: Sequence[tuple[Table, Int64[np.ndarray, "_"]]], columns: Found, tokenizer: str, max_tokens: int
) -> Sentences:
    """The sentences at these rows of these tables, the first place being train, cut to `max_tokens` tokens.

    Raises `UserError` for a column that holds no words, a sample without a word, and a tokenizer that cannot be had.
    """
    texts = [_texts(table, columns.texts, rows) for table, rows in places]
    return tokenised(texts, _learnt(texts[0]) if tokenizer == OWN else _found(tokenizer), max_tokens)


def tokenised(texts: Sequence[np.ndarray], vocabulary: Vocabulary, max_tokens: int) -> Sentences:
    """These sentences, each split (n, parts) and the first of them train, cut to `max_tokens` tokens."""
    encoded = [_encode(part, vocabulary, max_tokens) for part in texts]
    return Sentences([tokens for tokens, _ in encoded], list(texts), vocabulary, encoded[0][1])


def lengths(tokens: Tokens) -> Int64[Tensor, "n"]:
    """How many tokens each sample has."""
    return (tokens[:, 0] != PAD).sum(1)


def open_vocabulary(name: str, kept: Path) -> Vocabulary:
    """The tokenizer of that name; of `OWN`, the one that `Vocabulary.learnt` gave and the file `kept` holds.

    Raises `UserError` where it cannot be had.
    """
    if name != OWN:
        return _found(name)
    from tokenizers import Tokenizer

    try:
        return _own(Tokenizer.from_file(str(kept)))
    except Exception as error:  # the library raises nothing finer
        raise UserError(f"data.tokenizer: {kept} holds no tokenizer ({reason(error)}).") from None


def pieces(texts: Sequence[str], vocabulary: Vocabulary, max_tokens: int) -> Pieces:
    """One sample (a sentence, or both of a pair), cut into the same tokens that `read_sentences` makes of it."""
    options = {"truncation": True, "max_length": max_tokens, "return_token_type_ids": True}
    found = vocabulary.tokenizer([texts[0]], *([text] for text in texts[1:]), **options)
    encoding = found.encodings[0]
    tokens = torch.tensor([[found["input_ids"][0], found["token_type_ids"][0]]], dtype=torch.int32)
    words = words_of(texts, encoding.sequence_ids, encoding.word_ids, encoding.offsets)
    special = sorted(set(range(len(encoding.tokens))) - {token for word in words for token in word.tokens})
    return Pieces(tokens, tuple(encoding.tokens), words, tuple(special))


def _texts(table: Table, columns: Sequence[str], rows: Int64[np.ndarray, "n"]) -> Texts:
    parts = []
    for column in columns:
        kind = table.rows.data.schema.field(column).type
        if not holds_strings(kind):
            raise UserError(f"data.columns.text: column {column!r} is {kind}, takes sentences.")
        values = table.rows.data.column(column).to_pandas().iloc[rows]
        parts.append(values.fillna("").to_numpy(object))
    texts = np.stack(parts, axis=1)
    blank = np.array([not "".join(row).strip() for row in texts], dtype=bool)
    if blank.any():
        first = table.refs[rows[blank.argmax()]]
        raise UserError(
            f"data.columns.text: {blank.sum()} samples have no word in {' or '.join(map(repr, columns))} (first {first}); "
            "takes a sentence for every sample."
        )
    return texts


def _encode(texts: Texts, vocabulary: Vocabulary, max_tokens: int) -> tuple[Tokens, int]:
    """Token ids, and how many samples lost tokens."""
    parts = [part.tolist() for part in texts.T]
    found = vocabulary.tokenizer(*parts, truncation=True, max_length=max_tokens, return_token_type_ids=True)
    ids, types = found["input_ids"], found["token_type_ids"]
    tokens = torch.zeros(len(ids), 2, max(map(len, ids)), dtype=torch.int32)
    tokens[:, 0] = PAD
    for row, (one, kind) in enumerate(zip(ids, types, strict=True)):
        tokens[row, :, : len(one)] = torch.tensor([one, kind], dtype=torch.int32)
    return tokens, sum(bool(encoding.overflowing) for encoding in found.encodings)


def _found(name: str) -> Vocabulary:
    """A tokenizer by the name of its model."""
    from transformers import AutoTokenizer  # slow to import, and no matter of images

    source = pretrained(name, "data.tokenizer")
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except Exception as error:  # hub, HTTP client and file readers have no common base
        raise UserError(
            f"data.tokenizer: got {name!r}, takes {OWN}, minilm, or the folder or Hugging Face hub id of a model "
            f"({reason(error)})."
        ) from None
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise UserError(f"data.tokenizer: {name!r} has no padding or no fast version, takes a tokenizer that has.")
    return Vocabulary(source, tokenizer)


def _learnt(texts: Texts) -> Vocabulary:
    """A byte-level BPE tokenizer, lower case, learnt from these sentences: needs no network and no download.

    The same sentences give the same tokens. (The library's WordPiece trainer gives others each time.)
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=OWN_SIZE,
        min_frequency=2,
        special_tokens=["[PAD]", "[CLS]", "[SEP]"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts.ravel().tolist(), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return _own(tokenizer)


def _own(tokenizer: Any) -> Vocabulary:
    """A tokenizer of the tokenizers library that was learnt here."""
    from transformers import PreTrainedTokenizerFast

    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return Vocabulary(OWN, PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names))
