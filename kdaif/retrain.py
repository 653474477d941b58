"""Acting on samples: a new run without them, or with other labels, and what that has changed. No torch.

Nothing is overwritten: the marks become a csv named by its content, the new run's config names it (`data.edits`), and the old
run remembers what was started from it and what was foretold.
"""

import hashlib
import io
import time
from pathlib import Path
from typing import Any

import pandas as pd

from kdaif.config import RunConfig, UserError, parse_config
from kdaif.edits import read_edits
from kdaif.jobs import submit
from kdaif.runs import Run, cache_root, list_runs
from kdaif.runs.files import write_atomic

RECORD = "retrained"


def edited_config(run: Run, edits: pd.DataFrame) -> RunConfig:
    """The run's config with these edits after its own ones; `edits`: columns row, label ("": leave out).

    Raises `UserError` as `check_edits`.
    """
    check_edits(run, edits)
    config = run.config()
    marked = run.samples()[["id", "hash"]].fillna("").iloc[edits["row"]]
    table = marked.assign(label=edits["label"].to_numpy())[["id", "label", "hash"]]
    if config.data.edits:
        table = pd.concat([read_edits(config.data.edits, _data_root(run)), table]).drop_duplicates("id", keep="last")
    tree = config.model_dump(mode="json")
    return parse_config({**tree, "data": {**tree["data"], "edits": str(keep_edits(table))}})


def check_edits(run: Run, edits: pd.DataFrame) -> None:
    """Raises `UserError` for no edits, and for those that leave fewer than two samples to train on."""
    if edits.empty:
        raise UserError("retrain: no sample is marked; mark those to leave out or to relabel first.")
    samples = len(run.samples())
    left = samples - int((edits["label"] == "").sum())
    if left < 2:
        raise UserError(f"retrain: the marks leave {left} of {samples:,} samples to train on, takes 2 or more.")


def keep_edits(table: pd.DataFrame) -> Path:
    """Writes edits (columns id, label, hash) to the cache folder, under a name made from their content."""
    text = io.StringIO()
    table.sort_values("id").to_csv(text, index=False)
    content = text.getvalue().encode()
    path = cache_root() / "edits" / f"{hashlib.sha1(content, usedforsecurity=False).hexdigest()[:16]}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        write_atomic(path, lambda file: file.write(content))
    return path


def retrain(run: Run, edits: pd.DataFrame, predicted: float | None) -> Run:
    """Queues the run of `edited_config`; `predicted` is the change of accuracy that was foretold (share)."""
    started = submit(edited_config(run, edits), data_root=_data_root(run))
    leave = int((edits["label"] == "").sum())
    line = {"run_id": started.id, "created": time.time(), "left_out": leave, "relabelled": len(edits) - leave}
    kept = [old for old in _lines(run) if old["run_id"] != started.id]
    run.write_notes(RECORD, {"runs": [*kept, {**line, "predicted": predicted}]})
    return started


def retrainings(run: Run) -> list[dict[str, Any]]:
    """What was started from this run, newest first: run_id, left_out, relabelled, predicted, state, `message` (why it failed,
    else ""), and `verified`, the change of test accuracy (shares; None: not known yet, or never)."""
    runs = {summary.id: summary for summary in list_runs() if summary.status is not None}
    before = (run.result() or {}).get("test_accuracy")
    lines = []
    for line in reversed(_lines(run)):
        found = runs.get(line["run_id"])
        after = (found.result or {}).get("test_accuracy") if found else None
        verified = None if before is None or after is None else after - before
        state = found.status.state if found and found.status else "gone"
        message = found.status.message if found and found.status and state == "failed" else ""
        lines.append({**line, "state": state, "message": message, "verified": verified})
    return lines


def _lines(run: Run) -> list[dict[str, Any]]:
    noted = run.read_notes(RECORD)
    return [] if noted is None else list(noted["runs"])


def _data_root(run: Run) -> Path | None:
    known = run.provenance().get("data_root")
    return Path(known) if known else None
