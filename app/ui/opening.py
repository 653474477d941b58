"""How every page opens: one plain sentence in figures, and the words' meanings one click away."""

import streamlit as st

from app.ui.look import GLOSSARY


def opening(sentence: str, caption: str = "") -> None:
    """The page's sentence (Markdown) as its headline, with the glossary beside it."""
    with st.container(horizontal=True, wrap=False, vertical_alignment="top", gap="small"):
        st.header(sentence, anchor=False, width="stretch")
        with st.popover("", icon=":material/help:", type="tertiary", help="What the words mean"):
            for term, meaning in GLOSSARY.items():
                st.markdown(f"**{term}.** {meaning}")
    if caption:
        st.caption(caption)
