"""The dashboard's entry: ``streamlit run app/main.py``. Navigation only; the rooms are in views/."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
if str(HERE.parent) not in sys.path:  # the plain command puts only app/ there
    sys.path.insert(0, str(HERE.parent))

import streamlit as st  # noqa: E402

st.set_page_config(page_title="kdaif", page_icon=str(HERE / "ui" / "icon.svg"), layout="wide")
st.logo(str(HERE / "ui" / "logo.svg"), size="large")
page = st.navigation(
    [
        st.Page(
            "views/overview.py",
            title="Overview",
            icon=":material/home:",
            default=True,
            help="What acting on the samples' influence gained, and where every run stands.",
        ),
        st.Page(
            "views/samples.py",
            title="Samples",
            icon=":material/grid_view:",
            help="Which training samples help the student and which harm it: look, select, export.",
        ),
        st.Page(
            "views/dynamics.py",
            title="Dynamics",
            icon=":material/timeline:",
            help="How the weights move while the student learns, and which samples are easy, ambiguous or hard.",
        ),
        st.Page(
            "views/robustness.py",
            title="Robustness",
            icon=":material/shield:",
            help="How accuracy holds under wrong labels, how well they are found, and whether two runs rank alike.",
        ),
        st.Page(
            "views/compare.py",
            title="Compare",
            icon=":material/stacked_line_chart:",
            help="KD-AIF beside vanilla KD and the oracle: accuracy, curves, classes, settings.",
        ),
        st.Page(
            "views/experiments.py",
            title="Experiments",
            icon=":material/experiment:",
            help="Plan a sweep, queue it and walk away: progress, logs, cancel, resume, summary.",
        ),
    ],
    position="top",
)

from app.ui.controls import carry_selection  # noqa: E402
from kdaif.config import UserError  # noqa: E402 - below the navigation, which is painted while this loads

try:
    carry_selection(page.url_path)
    page.run()
except UserError as error:
    st.error(str(error), icon=":material/error:")
