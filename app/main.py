"""The dashboard's entry: ``streamlit run app/main.py``. Navigation only; the rooms are in views/."""

import sys
from pathlib import Path

HERE = Path(__file__).parent
if str(HERE.parent) not in sys.path:  # the plain command puts only app/ there
    sys.path.insert(0, str(HERE.parent))

import streamlit as st  # noqa: E402

ROOMS = {  # script in views/ -> title, icon, what it is for
    "overview": ("Overview", "home", "What acting on the samples' influence gained, and where every run stands."),
    "samples": (
        "Samples",
        "grid_view",
        "Which training samples help the student and which harm it: look, select, act.",
    ),
    "dynamics": (
        "Dynamics",
        "timeline",
        "How the weights move while the student learns, and which samples are easy, ambiguous or hard.",
    ),
    "robustness": (
        "Robustness",
        "shield",
        "How accuracy holds under wrong labels, how well they are found, and whether two runs rank alike.",
    ),
    "compare": (
        "Compare",
        "stacked_line_chart",
        "Runs side by side: accuracy, curves, classes, confusions, ranks, size and settings.",
    ),
    "experiments": (
        "Experiments",
        "experiment",
        "Plan a sweep, queue it and walk away: progress, logs, cancel, resume, summary.",
    ),
    "card": ("SAFE card", "badge", "Accuracy, robustness, explainability, fairness and cost of one run."),
}

st.set_page_config(page_title="kdaif", page_icon=str(HERE / "ui" / "icon.svg"), layout="wide")
st.logo(str(HERE / "ui" / "logo.svg"), size="large")
pages = [
    st.Page(f"views/{name}.py", title=title, icon=f":material/{icon}:", default=name == "overview", help=meaning)
    for name, (title, icon, meaning) in ROOMS.items()
]
page = st.navigation(pages, position="top")

from app.ui.controls import carry_selection  # noqa: E402
from kdaif.config import UserError  # noqa: E402 - below the navigation, which is painted while this loads

try:
    carry_selection(page.url_path)
    page.run()
except UserError as error:
    st.error(str(error), icon=":material/error:")
