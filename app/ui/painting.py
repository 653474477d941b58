"""Sentences with their words coloured by what they do to a network's opinion, in words too. Pure functions."""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

from app.ui.look import HARMFUL, HELPFUL
from kdaif.words import Word

FAINT, FULL = 0.08, 0.55  # share of the strongest word below which nothing is painted; opacity of the strongest
NAMED = 3  # words that are named for the class, and against it


class Span(NamedTuple):
    """A stretch of a sentence that is written in one way."""

    text: str
    sign: int = 0  # 1: speaks for the class, -1: against it, 0: neither to speak of
    color: str = ""  # css, of the background
    value: str = ""  # of the word, as shown
    cut: bool = False  # past what the network read


def painted(texts: Sequence[str], words: Sequence[Word], values: Sequence[float]) -> list[list[Span]]:
    """Every sentence in spans that give it back letter by letter; the deeper a word's colour, the more it counts."""
    top = max(map(abs, values), default=0.0) or 1.0
    sentences = []
    for part, text in enumerate(texts):
        spans, at = [], 0
        for word, value in zip(words, values, strict=True):
            if word.part != part or word.start < at:
                continue
            if word.start > at:
                spans.append(Span(text[at : word.start]))
            spans.append(_span(text[word.start : word.end], value, abs(value) / top))
            at = word.end
        rest = text[at:]
        sentences.append([*spans, Span(rest, cut=bool(rest.strip()))] if rest else spans)
    return sentences


def _span(text: str, value: float, share: float) -> Span:
    shown = signed(value)
    if share < FAINT:
        return Span(text, value=shown)
    color, sign = (HELPFUL, 1) if value > 0 else (HARMFUL, -1)
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return Span(text, sign, f"rgba({red}, {green}, {blue}, {FULL * share:.2f})", shown)


def to_html(sentences: Sequence[Sequence[Span]], alt: str) -> str:
    """The sentences as html, each of a pair in a paragraph; underlined for, dotted against, grey what was cut off."""
    lines = "".join(f"<p>{''.join(map(_html, spans))}</p>" for spans in sentences)
    return f'<div role="group" aria-label="{escape(alt)}" style="line-height:1.9">{lines}</div>'


def _html(span: Span) -> str:
    text = escape(span.text)
    if span.cut:
        return f'<span style="opacity:0.5" title="cut off: the networks do not read it">{text}</span>'
    if not span.value:
        return text
    line = {1: "solid", -1: "dotted", 0: "none"}[span.sign]
    style = f"background:{span.color or 'none'};border-bottom:2px {line} currentColor;border-radius:3px;padding:0 1px"
    return f'<span title="{span.value}" style="{style}">{text}</span>'


def to_plain(sentences: Sequence[Sequence[Span]]) -> list[list[dict[str, Any]]]:
    """The spans as the gallery takes them."""
    return [[span._asdict() for span in spans] for spans in sentences]


def strongest_words(texts: Sequence[str], words: Sequence[Word], values: Sequence[float]) -> str:
    """The words that count most in Markdown, with their values: for the class, and against it."""
    ordered = sorted(zip(values, words, strict=True), key=lambda pair: -abs(pair[0]))
    parts = []
    for title, sign in (("for", 1), ("against", -1)):
        chosen = [(value, word) for value, word in ordered if value * sign > 0][:NAMED]
        named = [f"**{_plain(texts[word.part][word.start : word.end])}** {signed(value)}" for value, word in chosen]
        parts.append(f"{title}: {', '.join(named) or 'no word'}")
    return " · ".join(parts)


def signed(value: float) -> str:
    """-0.251 -> '−0.25'."""
    return f"{round(value, 2) + 0.0:+.2f}".replace("-", "−")


def _plain(text: str) -> str:
    """Free of what Markdown would take for markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]:$<>~" else letter for letter in text)
