"""The form of the Experiments page: data, noise, networks, methods; what it will take; and the button that queues it."""

from typing import Any

import streamlit as st

from app.ui.data_preview import model_sizes, preview_panel, unreadable
from app.ui.look import duration, percent
from app.ui.plan import DAMAGES, FIRST, NOISE_KINDS, OWN_RATE, Plan, known_models, plan_of, preset_values, read_matrix
from kdaif import jobs
from kdaif.config import UserError, presets
from kdaif.estimate import Estimate, estimate
from kdaif.jobs.calibrate import calibrating, start_calibration
from kdaif.runs import list_runs, runs_root
from kdaif.runs.tables import METHODS

PREFIX = "plan "  # of the form's keys in the session
UNREADABLE = "these data could not be read, for the reason below: change them, or look again."
KEEP: dict[str, Any] = {"persist_state": "session"}  # what was typed stays while other pages are looked at


def fill(values: dict[str, Any]) -> None:
    """Write these values into the form, before it is drawn."""
    for name, value in values.items():
        st.session_state[PREFIX + name] = value


def launcher() -> None:
    """The form with the data behind it."""
    if PREFIX + "base" not in st.session_state:
        fill(preset_values(FIRST))
    with st.container(border=True, key="launcher"):
        _fields()
        try:
            plan = plan_of(_values())
        except UserError as error:
            st.error(str(error), icon=":material/error:")
            return
        _launch(plan)
    preview_panel(plan)


def _values() -> dict[str, Any]:
    names = ("base", "source", "kind", "rates", "seeds", "methods", "student", "teacher", "epochs", "teacher_epochs")
    return {name: st.session_state[PREFIX + name] for name in (*names, "corruption", "matrix", "root", "more")}


def _fields() -> None:
    first, second = st.columns(2, gap="small")
    with first, st.container(horizontal=True, wrap=False, vertical_alignment="bottom", gap="xsmall"):
        st.selectbox(
            "Start from",
            presets(),
            key="start",
            index=presets().index(FIRST),
            on_change=_start_from_recipe,
            help="A shipped recipe; every setting that has no field here is the recipe's, or the cloned run's.",
            **KEEP,
        )
        meaning = "Fills the form with the recipe again."
        st.button("Reset", key="reset", type="tertiary", on_click=_start_from_recipe, help=meaning)
    with second:
        text = "A named source (digits, cifar10, ...), a folder or table of your own, or a Hugging Face hub id."
        st.text_input("Data", key=PREFIX + "source", help=text, **KEEP)
    kind, rates, seeds = st.columns([3, 2, 2], gap="small")
    with kind:
        meaning = "How labels (or images) of the training and validation splits are made wrong on purpose."
        st.selectbox(
            "Noise", list(NOISE_KINDS), format_func=NOISE_KINDS.__getitem__, key=PREFIX + "kind", help=meaning, **KEEP
        )
    made = st.session_state[PREFIX + "kind"]
    with rates:
        meaning = "Shares of wrong labels (0.4 or 40 %), with commas between; a class matrix or a column of labels has its own."
        st.text_input("Rates", key=PREFIX + "rates", help=meaning, disabled=made in OWN_RATE, **KEEP)
    with seeds:
        st.text_input("Seeds", key=PREFIX + "seeds", help="Whole numbers, with commas between.", **KEEP)
    if made == "input":
        meaning = "What happens to the chosen samples' inputs; their labels stay."
        st.selectbox(
            "Damage", list(DAMAGES), format_func=DAMAGES.__getitem__, key=PREFIX + "corruption", help=meaning, **KEEP
        )
    if made == "matrix":
        _matrix()
    st.pills(
        "Methods",
        list(METHODS),
        selection_mode="multi",
        format_func=METHODS.__getitem__,
        key=PREFIX + "methods",
        help="Every method is trained at every rate with every seed; vanilla KD and the oracle make gains comparable.",
        **KEEP,
    )
    _network("Student", "student", "epochs")
    _network("Teacher", "teacher", "teacher_epochs")
    with st.expander("More settings"):
        st.text_input("Folder of data sets", key=PREFIX + "root", help="Searched before the network.", **KEEP)
        st.text_area(
            "Settings",
            key=PREFIX + "more",
            height=80,
            placeholder="influence.update=online\nstudent.optim.lr=0.1",
            help="One key=value a line, as for `--set` on the command line.",
            **KEEP,
        )


def _start_from_recipe() -> None:
    fill(preset_values(st.session_state["start"]))


def _matrix() -> None:
    """The class matrix in use, and a field for the file of another."""
    meaning = "A row for each true class: how likely each class is given in its place. Rows sum to 1; names around it may stay."
    st.file_uploader("Class matrix", ["csv"], key="matrix_file", on_change=_take_matrix, help=meaning)
    if error := st.session_state.get("matrix_error"):
        st.error(error, icon=":material/error:")
    if (matrix := st.session_state[PREFIX + "matrix"]) is not None:
        wrong = 1 - sum(row[place] for place, row in enumerate(matrix)) / len(matrix)
        st.caption(f"{len(matrix)} classes; {percent(wrong)} of the labels become wrong where all are as frequent.")


def _take_matrix() -> None:
    """Of the file that was just chosen; one that does not fit changes nothing."""
    st.session_state["matrix_error"] = None
    if (upload := st.session_state["matrix_file"]) is not None:
        try:
            st.session_state[PREFIX + "matrix"] = read_matrix(upload.name, upload.getvalue())
        except UserError as error:
            st.session_state["matrix_error"] = str(error)


def _network(label: str, key: str, epochs: str) -> None:
    sizes = model_sizes(st.session_state[PREFIX + "source"])
    chosen = st.session_state[PREFIX + key]
    options = sorted({*known_models(sizes), chosen})
    left, right = st.columns([4, 1], gap="small")
    with left:
        st.selectbox(
            label,
            options,
            format_func=lambda name: f"{name} · {sizes[name]:,} parameters" if sizes and name in sizes else name,
            key=PREFIX + key,
            help="With the number of trainable parameters for these data, once they were looked at.",
            **KEEP,
        )
    with right:
        st.number_input("Epochs", 1, 10**5 - 1, key=PREFIX + epochs, **KEEP)


def _launch(plan: Plan) -> None:
    cells = plan.cells()
    done = jobs.tickets.standing_runs(plan.data_root)
    missing = [cell for cell in cells if cell not in done or done[cell].status().state != "done"]
    known = [*list_runs(), *list_runs(runs_root(jobs.calibrate.folder() / "runs"))]
    found = estimate(missing, known)
    failed = unreadable(plan)
    with st.container(horizontal=True, vertical_alignment="center"):
        name = "1 run" if len(cells) == 1 else f"{len(cells)} runs"
        off = failed or not missing
        if st.button(f"Queue {name}", type="primary", icon=":material/play_arrow:", key="queue", disabled=off):
            record = jobs.submit_sweep(plan.config, **plan.grid(), data_root=plan.data_root)
            st.session_state["sweep"] = record.id
            st.rerun()
        if found.unknown and not failed and not calibrating():
            st.button(
                "Measure the time",
                key="calibrate",
                type="tertiary",
                icon=":material/timer:",
                on_click=start_calibration,
                args=(plan.config, plan.methods, max(plan.noise), plan.data_root),
                help="Trains each method for a moment, in a folder of its own, to know how long an epoch takes here.",
            )
        words = UNREADABLE if failed else time_words(found, len(cells), len(missing))
        st.caption(words[0].upper() + words[1:])


def time_words(found: Estimate, cells: int, missing: int) -> str:
    """What queueing will take."""
    if not missing:
        return "All of these runs are done already."
    done = f"{cells - missing} of them are done already; " if missing < cells else ""
    if calibrating():
        return f"{done}:shimmer[the time is being measured]"
    if found.unknown == missing:
        return f"{done}how long it takes is not known before such a run was measured here."
    least = "at least " if found.unknown else "about "
    basis = f"going by {found.measured} done {'run' if found.measured == 1 else 'runs'}"
    return f"{done}{least}{duration(found.seconds)} on one device, {basis}."
