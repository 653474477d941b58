"""Sentences -> one tensor of token ids.

A sample stays one tensor, so that everything which takes inputs takes sentences too: row 0 holds the token ids and `PAD` after
the last of them, row 1 the part (0 or 1) of a pair that each token belongs to. A network tells by `PAD` where a sentence ends.
"""

import hashlib
import json
import os
import zipfile
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
from kdaif.outside import cache_root, pretrained
from kdaif.words import Word, words_of

PAD = -1  # no token has this id, whatever the tokenizer's own padding
OWN = "bpe"  # the tokenizer that is learnt from the training sentences
OWN_SIZE = 8000  # its tokens, at most
MANY = 5000  # samples of which the tokens are kept on disk
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

    def digest(self) -> str:
        """Of all that decides the tokens of a sentence, but for their number."""
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        rules = {name: part for name, part in backend.items() if name not in ("truncation", "padding")}
        rules["side"] = self.tokenizer.truncation_side
        return hashlib.sha1(json.dumps(rules, sort_keys=True).encode(), usedforsecurity=False).hexdigest()

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


class _Encoded(NamedTuple):
    """A split's tokens, one sample after the other."""

    ids: Int32[np.ndarray, "tokens"]
    kinds: Int32[np.ndarray, "tokens"]  # the part (0 or 1) of a pair
    counts: Int32[np.ndarray, "n"]  # tokens of each sample
    truncated: int  # samples that lost tokens


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
    recipe = f"{vocabulary.digest()} {max_tokens}"
    encoded = [
        _encode(part, vocabulary, max_tokens) if len(part) < MANY else _kept(part, vocabulary, max_tokens, recipe)
        for part in texts
    ]
    return Sentences([_padded(part) for part in encoded], list(texts), vocabulary, encoded[0].truncated)


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


def _encode(texts: Texts, vocabulary: Vocabulary, max_tokens: int) -> _Encoded:
    parts = [part.tolist() for part in texts.T]
    found = vocabulary.tokenizer(*parts, truncation=True, max_length=max_tokens, return_token_type_ids=True)
    return _Encoded(
        ids=np.concatenate(found["input_ids"], dtype=np.int32),
        kinds=np.concatenate(found["token_type_ids"], dtype=np.int32),
        counts=np.array([len(one) for one in found["input_ids"]], dtype=np.int32),
        truncated=sum(bool(encoding.overflowing) for encoding in found.encodings),
    )


def _kept(texts: Texts, vocabulary: Vocabulary, max_tokens: int, recipe: str) -> _Encoded:
    """The same from ``data_cache/tokens``, or put there: a large set takes seconds, and every run of a sweep asks for it.

    Derived, safe to delete.
    """
    digest = hashlib.sha1(recipe.encode(), usedforsecurity=False)
    for row in texts:
        digest.update("\x1f".join(row).encode(errors="surrogatepass") + b"\x1e")
    path = cache_root() / "tokens" / f"{digest.hexdigest()[:20]}.npz"
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as found:
            return _Encoded(found["ids"], found["kinds"], found["counts"], int(found["truncated"]))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there yet, or damaged: made again
        encoded = _encode(texts, vocabulary, max_tokens)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    with temporary.open("wb") as written:
        np.savez(written, **encoded._asdict())
    temporary.replace(path)
    return encoded


def _padded(encoded: _Encoded) -> Tokens:
    counts = torch.from_numpy(encoded.counts).long()
    there = torch.arange(int(counts.max())) < counts[:, None]
    tokens = torch.zeros(len(counts), 2, there.shape[1], dtype=torch.int32)
    tokens[:, 0] = PAD
    tokens[:, 0][there] = torch.from_numpy(encoded.ids)
    tokens[:, 1][there] = torch.from_numpy(encoded.kinds)
    return tokens


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
    inputs = ["input_ids", "token_type_ids", "attention_mask"]  # so that it gives the parts of a pair outside kdaif too
    return Vocabulary(OWN, PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_input_names=inputs, **names))
