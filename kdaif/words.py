"""Which tokens make up which word of a sentence, so that what is measured token by token is shown word by word."""

from collections.abc import Sequence
from typing import NamedTuple


class Word(NamedTuple):
    """A word as the tokenizer parts words (punctuation is a word of its own), and the tokens it was cut into."""

    part: int  # 0, or 1 in the second sentence of a pair
    start: int  # of its characters in that sentence; the spaces around it are left out
    end: int
    tokens: tuple[int, ...]  # positions among all tokens of the sample, ascending


def words_of(
    texts: Sequence[str],
    parts: Sequence[int | None],
    numbers: Sequence[int | None],
    offsets: Sequence[tuple[int, int]],
) -> tuple[Word, ...]:
    """The words in the order of their tokens. One entry a token: the sentence it belongs to and the number of its word there
    (None: a special token, which belongs to no word), and where its characters begin and end in that sentence."""
    of_word: dict[tuple[int, int], list[int]] = {}
    for token, (part, number) in enumerate(zip(parts, numbers, strict=True)):
        if part is not None and number is not None:
            of_word.setdefault((part, number), []).append(token)
    words = []
    for (part, _), tokens in of_word.items():
        start, end = min(offsets[token][0] for token in tokens), max(offsets[token][1] for token in tokens)
        text = texts[part][start:end]
        if text.strip():
            start, end = start + len(text) - len(text.lstrip()), end - (len(text) - len(text.rstrip()))
        words.append(Word(part, start, end, tuple(tokens)))
    return tuple(words)
