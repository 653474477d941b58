"""A look at the data behind the form: a detached `kdaif preview` reads them as a run would, so this process needs no torch."""

import base64
import hashlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import streamlit as st
from PIL import Image

from app.ui.gallery import png
from app.ui.look import percent
from app.ui.plan import Plan
from kdaif.config import RunConfig, UserError
from kdaif.jobs import find_job, launch
from kdaif.jobs.detached import same_program
from kdaif.runs import cache_root
from kdaif.runs.files import read_json, write_json

TILE = 64  # pixels
FIELDS = ("data.source", "noise.kind", "noise.rate", "noise.corruption", "noise.matrix")  # that the form has


def preview_panel(plan: Plan) -> None:
    """Samples and wrong labels of the plan's highest rate and first seed."""
    config = _looked_at(plan)
    name = _job_name(config, plan.data_root)
    job = find_job(name)
    if job is None:
        st.button(
            "Look at the data",
            key="look",
            icon=":material/visibility:",
            on_click=_start,
            args=(name, config, plan.data_root),
            help="Reads the data as a run would: some samples, some wrong labels, the networks' sizes.",
        )
    elif job.alive():
        st.session_state["reading"] = name
        st.fragment(_wait, run_every=0.5)()
    else:
        try:
            _show(_result(name), config)
        except UserError as error:
            st.error(f"{error}{_hint(str(error))}", icon=":material/error:")
            st.button("Look again", key="look", on_click=_start, args=(name, config, plan.data_root))


def unreadable(plan: Plan) -> bool:
    """Whether the last look at the plan's very data, with this noise and seed, failed."""
    config = _looked_at(plan)
    job = find_job(_job_name(config, plan.data_root))
    if job is None or job.alive():
        return False
    try:
        _result(job.name)
    except UserError as error:
        networks = {"student.model": config.student.model, "teacher.model": config.teacher.model}
        # what is said of a network holds until another is chosen
        return all(repr(name) in str(error) for field, name in networks.items() if field in str(error))
    return False


def model_sizes(source: str) -> dict[str, int] | None:
    """Parameters of every network for a source that was looked at; None before."""
    path = _folder() / f"sizes-{_digest(source)}.json"
    return read_json(path) if path.exists() else None


def _looked_at(plan: Plan) -> RunConfig:
    """Of the plan's highest rate and first seed."""
    noisy = max(plan.cells(), key=lambda cell: cell.noise.rate)
    return noisy.model_copy(update={"method": "ce", "seed": plan.seeds[0]})


def _hint(said: str) -> str:
    """Where the form takes the setting that is at fault, if it has no field of its own."""
    setting = said.partition(":")[0]
    if setting in FIELDS or not setting.startswith(("data.", "noise.")):
        return ""
    if said.endswith("takes none for text."):
        return " Start from the recipe `sst2-minilm`, or write `data.augment=none` under More settings."
    return f" Write `{setting}=...` under More settings."


def _start(name: str, config: RunConfig, data_root: Path | None) -> None:
    _folder().mkdir(parents=True, exist_ok=True)
    path = _folder() / f"{name}.json"
    write_json(path, config.model_dump(mode="json"))
    command = [sys.executable, "-m", "kdaif", "preview", str(path), "--json"]
    launch(name, command + (["--data-root", str(data_root)] if data_root else []), same_program())


def _wait() -> None:
    job = find_job(st.session_state["reading"])
    if job is None or not job.alive():
        st.rerun()
    st.caption(":shimmer[The data are being read]")


def _result(name: str) -> dict[str, Any]:
    """What the command printed; `UserError` with its last line where that is no result."""
    job = find_job(name)
    last = job.log_tail(1) if job else ""
    try:
        found = json.loads(last)
    except json.JSONDecodeError:
        raise UserError(last.removeprefix("kdaif: ") or "The data could not be read.") from None
    return dict(found)


def _show(found: dict[str, Any], config: RunConfig) -> None:
    sizes = found["sizes"]
    path = _folder() / f"sizes-{_digest(config.data.source)}.json"
    if not path.exists():
        write_json(path, found["models"])
        st.rerun()  # the form above tells the networks' sizes now
    wrong = "" if found["wrong"] is None else f"; {percent(found['wrong'])} of the training samples are made wrong"
    st.caption(
        f"{sizes['train']:,} training, {sizes['validation']:,} validation and {sizes['test']:,} test samples of "
        f"{len(found['classes'])} classes{wrong}."
        if len(found["classes"]) > 1
        else f"{sizes['train']:,} training, {sizes['validation']:,} validation and {sizes['test']:,} test samples with numbers "
        f"({found['classes'][0]}) to predict{wrong}."
    )
    _tiles("Some samples", found["samples"])
    if found["flipped"]:
        _tiles(
            "Made wrong on purpose" if config.noise.kind == "input" else "Wrong labels, given → true", found["flipped"]
        )


def _tiles(title: str, samples: list[dict[str, Any]]) -> None:
    st.markdown(f"**{title}**")
    captions = [s["given"] if s["true"] in (None, s["given"]) else f"{s['given']} → {s['true']}" for s in samples]
    if all(sample.get("image") for sample in samples):
        st.image([_enlarged(sample["image"]) for sample in samples], captions, width=TILE)
    else:
        for sample, caption in zip(samples, captions, strict=True):
            st.text(f"{caption}: {sample.get('text', sample['id'])}")


def _enlarged(image: str) -> bytes:
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image))))
    return png(pixels if pixels.ndim == 3 else pixels[..., None], TILE)


def _job_name(config: RunConfig, data_root: Path | None) -> str:
    what = config.model_dump_json(include={"data", "noise", "seed"})
    return f"preview-{_digest(f'{what} {data_root}')}"


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:12]


def _folder() -> Path:
    return cache_root() / "previews"
