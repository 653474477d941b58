"""The csv of what people decided about single training samples (`data.edits`): read without torch."""

from pathlib import Path

import pandas as pd

from kdaif.config import UserError


def read_edits(file: str, data_root: Path | None = None) -> pd.DataFrame:
    """Columns id, label ("": leave out) and hash of the sample ("": not known), as text; the file may have others.

    `UserError` for anything else.
    """
    places = [Path(file), *([data_root / file] if data_root else [])]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        raise UserError(f"data.edits: got {file!r}, found no such file (looked at {', '.join(map(str, places))}).")
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise UserError(f"data.edits: {path} cannot be read as csv ({' '.join(str(error).split())}).") from None
    if "id" not in table:
        raise UserError(f"data.edits: {path} has the columns {', '.join(table.columns)}, takes id and label.")
    table["label"] = table["label"].str.strip() if "label" in table else ""
    table["hash"] = table["hash"].str.strip() if "hash" in table else ""
    if (twice := table["id"].duplicated()).any():
        raise UserError(f"data.edits: {path} names {table['id'][twice].iloc[0]!r} twice, takes every id once.")
    return table[["id", "label", "hash"]]
