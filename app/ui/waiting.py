"""A bar for work that takes seconds: what is being done, and how long it still takes."""

import time
from collections.abc import Callable

import streamlit as st

from app.ui.look import duration

KNOWN = 0.1  # share done from which the time left can be told


def waiting_bar(first: str) -> tuple[Callable[[float, str], None], Callable[[], None]]:
    """Draws a bar with the words `first`; returns how to say the share done (0..1) and what is being done, and how to end it."""
    bar, began = st.progress(0.0, f"{first} …"), time.monotonic()

    def say(share: float, what: str) -> None:
        bar.progress(share, words(share, what, time.monotonic() - began))

    def end() -> None:
        bar.empty()

    return say, end


def words(share: float, what: str, seconds: float) -> str:
    """What is being done, and the time left as far as the `seconds` so far tell."""
    if share < KNOWN:
        return f"{what} …"
    return f"{what} … about {duration(max(1.0, seconds * (1 - share) / share))} left"
