"""``python -m kdaif COMMAND``: everything that the dashboard shows, from the shell.

With ``--json`` the last line on stdout is one JSON object; progress goes to stderr. Bad input ends with exit status 2 and
one sentence.
"""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import pandas as pd
import typer
from rich.console import Console

from kdaif import cli_queue, jobs, report
from kdaif.cli_queue import say_queued
from kdaif.config import RunConfig, UserError, load_config, lookup, presets
from kdaif.jobs.grid import numbers
from kdaif.jobs.launchers import LAUNCHERS
from kdaif.outside import rank, world
from kdaif.runs import Run, open_run
from kdaif.terminal import AsJson, Detach, Priority, RunId, emit, figure, percent, say, show

if TYPE_CHECKING:
    from kdaif.callbacks import ProgressBar

app = typer.Typer(
    help="Knowledge distillation with adaptive influence weights.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
STOPPED = 130  # exit status after Ctrl-C, as shells have it

Config = Annotated[str, typer.Argument(help=f"A YAML or JSON file, or a preset: {', '.join(presets())}.")]
Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Change a setting, e.g. noise.rate=0.4.")]
DataRoot = Annotated[Path | None, typer.Option(help="Folder of data sets, searched before the network.")]


@app.command()
def demo(
    app: Annotated[bool, typer.Option(help="Open the dashboard at the end.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of noise, networks and order.")] = 0,
    json_: AsJson = False,
) -> None:
    """Vanilla KD, KD-AIF and the oracle on digits with 40 % flipped labels: under two minutes, no network."""
    from kdaif.sweep import sweep

    noisy = load_config("digits", ["noise.kind=symmetric", "noise.rate=0.4", "name=demo"])
    result = sweep(noisy, methods=["kd", "kd-aif", "oracle"], noise=[0.4], seeds=[seed])
    _show_rows(result.rows)
    aif = next(row for row in result.rows if row["method"] == "kd-aif")
    gap = next(line["oracle_gap_recovered"] for line in result.summary if line["method"] == "kd-aif")
    say(f"KD-AIF found the flipped labels with AUROC {aif['flipped_auroc']:.3f}" + _gap_words(gap))
    emit(
        json_,
        {
            "runs": [row["run_id"] for row in result.rows],
            "oracle_gap_recovered": gap,
            "flipped_auroc": aif["flipped_auroc"],
            "seconds": result.seconds,
        },
    )
    if app:
        _open_dashboard()


@app.command()
def train(
    config: Config = "",
    set_: Sets = [],  # noqa: B006 (typer reads it, nobody changes it)
    data_root: DataRoot = None,
    detach: Detach = False,
    priority: Priority = 0,
    run_dir: Annotated[Path | None, typer.Option(help="An existing run folder to train or go on with.")] = None,
    json_: AsJson = False,
) -> None:
    """Train one run."""
    signal.signal(signal.SIGTERM, _terminated)
    if run_dir is not None and (config or set_):
        raise UserError("train: --run-dir brings its own config; leave CONFIG and --set away.")
    if run_dir is None and not config:
        raise UserError(f"train: CONFIG is missing, takes a YAML or JSON file or a preset ({', '.join(presets())}).")
    if run_dir is not None:
        _go_on(open_run(run_dir), data_root, json_)
    elif detach:
        say_queued([jobs.submit(load_config(config, set_), data_root=data_root, priority=priority)], json_)
    else:
        from kdaif.train import train_new

        settings = load_config(config, set_)
        _finish(train_new(settings, data_root, [_progress(settings)]), json_)


@app.command()
def preview(config: Config, set_: Sets = [], data_root: DataRoot = None, json_: AsJson = False) -> None:  # noqa: B006
    """What a config would train on: sizes, classes, a few samples and wrong labels, networks with their parameters."""
    from kdaif.preview import preview as look

    found = look(load_config(config, set_), data_root)
    show(["split", "samples"], [[name, size] for name, size in found["sizes"].items()])
    say(f"classes: {', '.join(found['classes'])}; labels known to be wrong: {percent(found['wrong']) or 'none known'}")
    show(["sample", "given", "true"], [[s["id"], s["given"], s["true"]] for s in found["samples"] + found["flipped"]])
    show(["network", "parameters"], [[name, f"{size:,}"] for name, size in found["models"].items()])
    emit(json_, found)


@app.command()
def resume(
    run: RunId, data_root: DataRoot = None, detach: Detach = False, priority: Priority = 0, json_: AsJson = False
) -> None:
    """Go on with a run that was stopped, from its last checkpoint."""
    signal.signal(signal.SIGTERM, _terminated)
    stopped = open_run(run)
    if detach:
        jobs.resume(stopped, priority=priority)
        say_queued([stopped], json_)
    else:
        if stopped.status().state not in ("running", "done"):  # there a cancel may be under way
            stopped.withdraw_cancel()
        _go_on(stopped, data_root, json_)


@app.command()
def sweep(
    config: Config,
    noise: Annotated[str, typer.Option(help="Noise rates, e.g. 0,0.2,0.4.")] = "0,0.4",
    methods: Annotated[
        str,
        typer.Option(help="ce, kd, kd-aif, oracle, small-loss, aum, confident-learning, l2rw, meta-weight-net."),
    ] = "kd,kd-aif,oracle",
    seeds: Annotated[str, typer.Option(help="Seeds, e.g. 0,1,2.")] = "0",
    set_: Sets = [],  # noqa: B006
    data_root: DataRoot = None,
    detach: Detach = False,
    priority: Priority = 0,
    launcher: Annotated[
        str | None, typer.Option(help="Have the runs trained by the queue (local) or a Ray cluster (ray), and wait.")
    ] = None,
    gpus: Annotated[float | None, typer.Option(min=0, help="With --launcher ray: share of a GPU for a run.")] = None,
    json_: AsJson = False,
) -> None:
    """Every method at every noise rate with every seed; runs that were done before are reused."""
    grid: dict[str, Any] = {
        "methods": [name.strip() for name in methods.split(",")],
        "noise": numbers("--noise", noise, float),
        "seeds": numbers("--seeds", seeds, int),
        "data_root": data_root,
    }
    if detach and launcher:
        raise UserError(f"--detach: got it with --launcher {launcher}, which is waited for; takes one of the two.")
    if detach:
        record = jobs.submit_sweep(load_config(config, set_), **grid, priority=priority)
        say_queued([open_run(run) for run in record.runs], json_, sweep=record.id)
        return
    signal.signal(signal.SIGTERM, _terminated)
    from kdaif.sweep import sweep as run_sweep

    chosen = lookup(LAUNCHERS, launcher, "--launcher")(gpus) if launcher else None
    result = run_sweep(load_config(config, set_), **grid, launcher=chosen)
    _show_rows(result.rows)
    show(
        ["method", "noise", "runs", "test accuracy, mean", "std", "oracle gap recovered"],
        [
            [
                s["method"],
                s["noise"],
                s["runs"],
                percent(s["mean"]),
                percent(s["std"]),
                figure(s["oracle_gap_recovered"]),
            ]
            for s in result.summary
        ],
    )
    emit(json_, {"rows": result.rows, "summary": result.summary})


@app.command()
def samples(
    run: RunId,
    harmful: Annotated[int | None, typer.Option(min=1, metavar="K", help="The K most harmful samples.")] = None,
    helpful: Annotated[int | None, typer.Option(min=1, metavar="K", help="The K most helpful samples.")] = None,
    epoch: Annotated[int | None, typer.Option(help="Epoch; the last by default.")] = None,
    csv: Annotated[Path | None, typer.Option(help="Write the list to a new CSV file.")] = None,
    json_: AsJson = False,
) -> None:
    """The samples that harm or help most, by influence."""
    count = harmful or helpful
    if count is None or (harmful and helpful):
        raise UserError("samples: takes one of --harmful K or --helpful K.")
    frame = report.ranked(open_run(run), epoch, count, helpful=helpful is not None)
    if csv is not None:
        _write_csv(csv, frame)
        say(f"wrote {len(frame)} samples to {csv}")
    show(list(frame.columns), frame.round(3).astype(str).to_numpy().tolist())
    emit(json_, {"samples": json.loads(frame.to_json(orient="records"))})


@app.command()
def detect(
    run: RunId,
    k: Annotated[int, typer.Option(min=1, help="Precision among the K samples scored worst.")] = 100,
    json_: AsJson = False,
) -> None:
    """How well influence and the other detectors find the labels known to be wrong, or else the corrupted inputs; and how they go
    with the disagreement of people who rated the samples."""
    result = report.detection(open_run(run), k)
    if result["sought"]:
        rows = [
            [name, *(f"{result[key][name]:.3f}" for key in ("auroc", "precision_at_k", "recall_at_10_percent"))]
            for name in result["auroc"]
        ]
        show([f"detector of {result['sought']}", "AUROC", f"precision at {k}", "recall at 10 %"], rows)
    if result["raters"]:
        show(
            ["detector", "Spearman with the raters' disagreement"],
            [[name, f"{value:+.3f}"] for name, value in result["raters"].items()],
        )
    emit(json_, result)


@app.command()
def audit(
    run: RunId,
    network: Annotated[str, typer.Option(help="Whose checkpoint: teacher or student.")] = "teacher",
    k: Annotated[int, typer.Option(min=1, help="Precision among the K samples scored worst.")] = 100,
    quick: Annotated[bool, typer.Option("--quick", help="Small subsets and few retrainings.")] = False,
    lds: Annotated[bool, typer.Option("--lds", help="Also retrain without some samples: the truth; minutes.")] = False,
    data_root: DataRoot = None,
    json_: AsJson = False,
) -> None:
    """How good the scores are: against every other detector and, with --lds, against retraining."""
    from kdaif.audit import FULL, QUICK
    from kdaif.audit import audit as audit_run
    from kdaif.audit.tables import tables

    with Console(stderr=True).status("opening the run") as status:
        options: dict[str, Any] = {"network": network, "k": k, "retrain": lds, "effort": QUICK if quick else FULL}
        result = audit_run(open_run(run), data_root, **options, say=status.update)
    for title, columns, rows in tables(result):
        say(f"\n{title}")
        show(columns, rows)
    if result["missing"]:
        say(f"\nnot installed, so not compared: {', '.join(result['missing'])} (pip install 'kdaif[audit]')")
    emit(json_, result)


@app.command()
def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN RUN...", help="Ids or folders of two runs or more.")],
    json_: AsJson = False,
) -> None:
    """Runs side by side: accuracy, classes, ranks of the same samples; the first is the reference."""
    if len(runs) < 2:
        raise UserError(f"compare: got {len(runs)} run, takes two or more.")
    result = report.comparison([open_run(run) for run in runs])
    show(
        ["run", "method", "noise", "seed", "test accuracy"],
        [[r["run_id"], r["method"], r["noise"], r["seed"], percent(r["test_accuracy"])] for r in result["runs"]],
    )
    names = list(result["per_class"])
    show(
        ["class", *(f"{i + 1}" for i in range(len(runs)))], [[n, *map(percent, result["per_class"][n])] for n in names]
    )
    show(
        ["ranks against the first run", "shared", "RGR (chance 0.5)", "of weights", "Spearman (0)", "top 100 (chance)"],
        [
            [
                r["run_id"],
                r["shared"],
                *map(figure, (r["rgr"], r["rgr_weight"], r["spearman"])),
                f"{percent(r['overlap'])} ({percent(r['chance'])})",
            ]
            for r in result["robustness"]
        ],
    )
    emit(json_, result)


@app.command()
def export(
    run: RunId,
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A new folder.")],
    network: Annotated[str, typer.Option(help="student or teacher.")] = "student",
    json_: AsJson = False,
) -> None:
    """The student as files that need no kdaif: a folder of transformers (of minilm: sentence-transformers), or a torch.export
    program of images."""
    from kdaif.export import export as export_run

    opened = open_run(run)
    found = export_run(opened, folder, network)
    say(f"{folder} holds {', '.join(found.files)}; {found.opened_by} opens it")
    emit(json_, {"run_id": opened.id, "network": network, "folder": str(found.folder.absolute()), "files": found.files})


app.add_typer(cli_queue.app)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs a command and exits: 0 done, 2 bad input (one sentence on stderr), 130 stopped by the user."""
    words = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if rank():
        sys.stdout = io.StringIO()  # one process speaks for all
    try:
        if world() > 1 and (words[0] not in ("train", "resume") or "--detach" in words):
            raise UserError(f"torchrun: got `{' '.join(words[:1])}`, takes train or resume, without --detach.")
        status = app(words, standalone_mode=False)
    except UserError as error:
        _leave(str(error), 2)
    except typer.TyperException as error:
        _leave(error.format_message(), 2)
    except OSError as error:
        _leave(f"{error.strerror}: {error.filename}" if error.filename else str(error), 2)
    if status == STOPPED:
        _leave("stopped; `resume RUN` goes on from the last checkpoint.", STOPPED)
    sys.exit(0)


def _leave(sentence: str, status: int) -> NoReturn:
    print(f"kdaif: {' '.join(sentence.split()).rstrip('.')}.", file=sys.stderr)
    sys.exit(status)


def _go_on(run: Run, data_root: Path | None, as_json: bool) -> None:
    from kdaif.train import train as train_run

    _finish(train_run(run, data_root, [_progress(run.config())]), as_json)


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _progress(config: RunConfig) -> "ProgressBar":
    from kdaif.callbacks import ProgressBar

    return ProgressBar(f"{config.method}, seed {config.seed}")


def _finish(result: dict[str, Any], as_json: bool) -> None:
    _show_rows([result])
    if cut := result.get("truncated"):
        say(f"{cut:,} training sentences were longer than data.max_tokens and lost their ends")
    emit(as_json, result)


def _write_csv(path: Path, frame: pd.DataFrame) -> None:
    try:
        with open(path, "x", newline="") as file:
            frame.to_csv(file, index=False)
    except OSError as error:
        raise UserError(f"--csv: got {str(path)!r} ({error.strerror}), takes a new file in a folder.") from None


def _open_dashboard() -> None:
    main_page = Path(__file__).parents[1] / "app" / "main.py"
    if not main_page.is_file():
        raise UserError("demo: the dashboard is not beside this installation; start it from the project's folder.")
    subprocess.run([sys.executable, "-m", "streamlit", "run", str(main_page)], check=False, stdout=sys.stderr)


def _gap_words(gap: float | None) -> str:
    return "." if gap is None else f" and recovered {100 * gap:.0f} % of what perfect label cleaning would gain."


def _show_rows(rows: Iterable[dict[str, Any]]) -> None:
    show(
        ["method", "noise", "seed", "test accuracy", "AUROC of flipped", "seconds", "run"],
        [
            [
                r["method"],
                r["noise"],
                r["seed"],
                percent(r["test_accuracy"]),
                figure(r["flipped_auroc"]),
                f"{r['seconds']:.0f}",
                r["run_id"],
            ]
            for r in rows
        ],
    )
