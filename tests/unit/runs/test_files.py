import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from kdaif.config import UserError
from kdaif.runs.files import EPOCH_FIELDS, build_table, read_json, read_table, write_json, write_table


def test_a_failed_replace_keeps_the_old_file_and_leaves_no_rest(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"n": 1})

    def broken(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(OSError, match="disk full"):
        write_json(tmp_path / "a.json", {"n": 2})
    assert read_json(tmp_path / "a.json") == {"n": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_killed_writer_leaves_only_whole_files(tmp_path):
    script = (
        "import sys, numpy as np, pathlib\n"
        "from kdaif.runs.files import *\n"
        "root = pathlib.Path(sys.argv[1])\n"
        "for n in range(10**6):\n"
        "    write_json(root / 'a.json', {'n': n, 'pad': 'x' * 100_000})\n"
        "    write_table(root / 'a.parquet', build_table({'weight': np.ones(100_000)}, EPOCH_FIELDS))\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], cwd=Path(__file__).parents[3])
    try:
        deadline = time.monotonic() + 30
        while not (tmp_path / "a.parquet").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(read_json(tmp_path / "a.json")["pad"]) == 100_000
    assert read_table(tmp_path / "a.parquet", "weights are").num_rows == 100_000


def test_schema_version_and_units_are_in_the_metadata(tmp_path):
    write_table(tmp_path / "a.parquet", build_table({"influence": [0.5, -0.5]}, EPOCH_FIELDS, {"extra": "1"}))
    metadata = pq.read_schema(tmp_path / "a.parquet").metadata
    assert metadata[b"kdaif.schema"] == b"1"
    assert metadata[b"extra"] == b"1"
    assert json.loads(metadata[b"kdaif.units"])["weight"] == "as applied; 1 = neutral"


def test_floats_are_stored_split_and_compressed_without_a_dictionary(tmp_path):
    write_table(tmp_path / "a.parquet", build_table({"influence": np.ones(100, np.float32)}, EPOCH_FIELDS))
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert not column.has_dictionary_page


def test_missing_columns_are_filled_and_unknown_ones_refused():
    table = build_table({"influence": [1.0, float("nan")]}, EPOCH_FIELDS)
    assert table.column_names == list(EPOCH_FIELDS)
    assert_array_equal(table["student_prediction"].to_numpy(), [-1, -1])
    assert np.isnan(table["weight"].to_numpy()).all()
    assert table["influence"].null_count == 0  # NaN stays a number
    with pytest.raises(ValueError, match="unknown columns influenze; takes influence"):
        build_table({"influenze": [1.0]}, EPOCH_FIELDS)
    with pytest.raises(ValueError, match=r"different lengths \[1, 2\]"):
        build_table({"influence": [1.0], "weight": [1.0, 2.0]}, EPOCH_FIELDS)


@pytest.mark.parametrize(
    ("content", "sentence"), [(b"{", r"a.json cannot be read \(Expecting"), (b"[1]", "holds a list, not a mapping")]
)
def test_damaged_json_is_one_sentence(tmp_path, content, sentence):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(UserError, match=sentence):
        read_json(tmp_path / "a.json")


def test_damaged_and_missing_tables_are_one_sentence(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no, this is not")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read") as caught:
        read_table(tmp_path / "a.parquet", "samples are")
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="samples are not recorded yet"):
        read_table(tmp_path / "b.parquet", "samples are")
