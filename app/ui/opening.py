"""How every page opens: one plain sentence in figures, and the words' meanings one click away."""

from typing import NoReturn

import streamlit as st

from app.ui.look import GLOSSARY


def opening(sentence: str, caption: str = "") -> None:
    """The page's sentence (Markdown) as its headline, with the glossary beside it."""
    with st.container(horizontal=True, wrap=False, vertical_alignment="center", gap="small"):
        st.header(sentence, anchor=False, width="stretch")
        with st.popover("Terms", icon=":material/help:", type="tertiary"):
            for term, meaning in GLOSSARY.items():
                st.markdown(f"**{term}.** {meaning}")
    if caption:
        st.caption(caption)


def nothing_yet(sentence: str) -> NoReturn:
    """An empty room: what is missing, and the way to where it can be had."""
    opening(sentence)
    st.page_link("views/overview.py", label="To the overview, where the demo can be run", icon=":material/arrow_back:")
    st.stop()
