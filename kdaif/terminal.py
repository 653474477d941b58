"""What commands print: tables and sentences for people, one JSON object for programs; and the options they share."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

# ids stay whole in a pipe, and users' own words are no markup
console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)

AsJson = Annotated[bool, typer.Option("--json", help="End stdout with one JSON object.")]
RunId = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run, or its folder.")]
Detach = Annotated[bool, typer.Option("--detach", help="Queue it for the worker, which is started, and return.")]
Priority = Annotated[int, typer.Option(help="With --detach: higher is sooner.")]


def emit(as_json: bool, result: dict[str, Any]) -> None:
    if as_json:
        print(json.dumps(_plain(result)), flush=True)


def _plain(value: Any) -> Any:
    """JSON knows no NaN: a figure that does not exist is null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def say(sentence: str) -> None:
    console.print(sentence, highlight=False)


def show(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
