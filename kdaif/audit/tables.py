"""An audit's figures as tables for people."""

from collections.abc import Iterator
from typing import Any, NamedTuple


class Table(NamedTuple):
    title: str
    columns: list[str]
    rows: list[list[str]]


def tables(result: dict[str, Any]) -> Iterator[Table]:
    """What is in the result of `audit`, best first."""
    if "auroc" in result:
        yield _detection(result)
    if "lds" in result:
        yield from (_lds(model, lines) for model, lines in result["lds"].items())
        yield _leave_one_out(result["leave_one_out"])
        yield from (_removal(result["removal"], key) for key in ("validation_loss", "test_accuracy"))


def _detection(result: dict[str, Any]) -> Table:
    keys = ["auroc", "average_precision", "precision_at_k", "recall_at_10_percent"]
    rows = []
    for name in _best_first(result["auroc"]):
        seconds = result["seconds"].get(name)
        cost = "recorded" if seconds is None else f"{seconds:.2f}"
        rows.append([name, *(_figure(result[key][name]) for key in keys), cost])
    title = f"{result['flipped']} wrong labels among {result['samples']}, {result['network']}"
    if result["compared"] < result["samples"]:
        title += f"; compared on {result['compared']} of them, drawn at random"
    heads = ["AUROC", "average precision", f"precision at {result['k']}", "recall at 10 %", "seconds"]
    return Table(title, ["detector", *heads], rows)


def _lds(model: str, lines: dict[str, dict[str, float]]) -> Table:
    rows = [
        [
            name,
            *(
                _with_error(lines[name][key], lines[name][f"{key}_error"])
                for key in ("lds", "lds_over_identity", "mean_loss_lds", "mean_loss_lds_over_identity")
            ),
        ]
        for name in _best_first({name: line["lds"] for name, line in lines.items()})
    ]
    columns = ["score", "LDS", "over identity", "LDS of the mean loss", "over identity"]
    return Table(f"Linear datamodelling score, {model} (mean ± standard error)", columns, rows)


def _leave_one_out(correlations: dict[str, float]) -> Table:
    rows = [[name, _figure(correlations[name])] for name in _best_first(correlations)]
    return Table("Leave-one-out, convex", ["score", "correlation"], rows)


def _removal(removal: dict[str, Any], key: str) -> Table:
    names = [name for name in removal if name != "shares"]
    rows = [
        [name, *(_with_error(*pair) for pair in zip(removal[name][key], removal[name][f"{key}_error"]))]
        for name in sorted(names, key=lambda name: removal[name][key][-1], reverse=key == "test_accuracy")
    ]
    columns = ["removed by", *(f"{100 * share:.0f} %" for share in removal["shares"])]
    return Table(f"{key.replace('_', ' ').capitalize()} without the most harmful", columns, rows)


def _best_first(values: dict[str, float]) -> list[str]:
    return sorted(values, key=lambda name: -1.0 if values[name] != values[name] else values[name], reverse=True)


def _with_error(value: float | None, error: float | None) -> str:
    return _figure(value) + ("" if error is None else f" ± {error:.3f}")


def _figure(value: float | None) -> str:
    return "" if value is None or value != value else f"{value:.3f}"
