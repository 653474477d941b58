"""The commands of the queue: what runs and waits, what stops, and the worker."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from kdaif import jobs
from kdaif.config import UserError
from kdaif.runs import Run, list_runs, open_run
from kdaif.terminal import AsJson, emit, percent, say, show

app = typer.Typer()


@app.command()
def runs(json_: AsJson = False) -> None:
    """All runs, newest first."""
    summaries = list_runs()
    lines: list[dict[str, Any]] = []
    for summary in summaries:
        line: dict[str, Any] = {"run_id": summary.id, "error": summary.error or None}
        if summary.config is not None and summary.status is not None:
            line |= {
                "method": summary.config.method,
                "data": summary.config.data.source,
                "noise": summary.config.noise.rate,
            }
            line |= {"seed": summary.config.seed, "state": summary.status.state, "epoch": summary.status.epoch}
            line |= {"epochs": summary.status.epochs, "eta_seconds": summary.status.eta_seconds}
            line["test_accuracy"] = (summary.result or {}).get("test_accuracy")
        lines.append(line)
    show(
        ["run", "state", "epoch", "method", "noise", "test accuracy"],
        [
            [
                n["run_id"],
                n["error"] or n["state"],
                f"{n.get('epoch')}/{n.get('epochs')}",
                n.get("method"),
                n.get("noise"),
                percent(n.get("test_accuracy")),
            ]
            for n in lines
        ],
    )
    emit(json_, {"runs": lines})


@app.command()
def cancel(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Ids or folders of runs that wait or run.")],
    json_: AsJson = False,
) -> None:
    """Stop runs, in the queue or in training; what they recorded stays, and `resume` goes on."""
    chosen = [open_run(run) for run in runs]
    refused = []
    for run in chosen:
        try:
            jobs.cancel(run)
        except UserError as error:
            refused.append(str(error))
    stopped = [jobs.wait_until_stopped(run) for run in chosen]
    for run, ended in zip(chosen, stopped):
        say(f"{run.id} is {run.status().state}" + ("" if ended else " still: its host has not answered yet"))
    emit(json_, {"runs": [{"run_id": run.id, "state": run.status().state} for run in chosen]})
    if refused:
        raise UserError(" ".join(refused))


@app.command()
def worker(
    slots: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; one on each GPU, or one on the CPU, by default.")
    ] = None,
    idle: Annotated[
        float | None,
        typer.Option(min=0, metavar="SECONDS", help="Go home after so long without work; never by default."),
    ] = None,
) -> None:
    """Train the queued runs of this cache folder; one worker a machine, started by itself where runs are queued."""
    if not jobs.work(slots, idle):
        say("another worker serves this machine")


def say_queued(runs: Sequence[Run], as_json: bool, **more: str) -> None:
    states = [run.status().state for run in runs]
    words = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    say(f"{len(runs)} {'run' if len(runs) == 1 else 'runs'}: {words}; `kdaif runs` and the dashboard follow them")
    emit(as_json, {"runs": [{"run_id": run.id, "state": state} for run, state in zip(runs, states)], **more})
