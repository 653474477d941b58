"""A teacher that can be trusted, a student whose labels cannot: SST-2, MiniLM-L6 -> three of its layers, 0, 20 and 40 % noise.

usage: python experiments/trusted_sst2.py DATA_ROOT FOLDER   (a folder with glue/sst2/*.parquet; one for the teacher's files)

The teacher learns the right labels of those sentences that the student's data (the 20,000 of `sst2-minilm-small`) do not contain,
so what it says of these it has not seen. (SST-2's training split is cut from the parse trees of 6,920 reviews: phrases of one
review stand on both sides.) Then vanilla KD, KD-AIF and the oracle with two epochs of the student, the length that suits vanilla
KD better, and 3 seeds; their sweep prints its summary as JSON.
"""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd

from kdaif.config import load_config
from kdaif.data import load

PRESET, SEEDS, TOKENS, EPOCHS = "sst2-minilm-small", "0,1,2", 64, 2


def kdaif(command: str, *options: str, data_root: Path, **settings: object) -> dict[str, object]:
    """What a command of kdaif answers."""
    settings |= {"data__max_tokens": TOKENS, "student__optim__epochs": EPOCHS, "precision": "bf16"}
    changes = [part for key, value in settings.items() for part in ("--set", f"{key.replace('__', '.')}={value}")]
    words = [
        sys.executable,
        "-m",
        "kdaif",
        command,
        PRESET,
        *options,
        *changes,
        "--data-root",
        str(data_root),
        "--json",
    ]
    answer = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(answer.splitlines()[-1])


def leave_out(file: Path, data_root: Path) -> None:
    """Writes the edits that take the student's sentences from the teacher's."""
    small, every = load_config(PRESET), load_config(PRESET, ["data.train_size=null"])
    student, teacher = (load(config.data, config.noise, 0, data_root) for config in (small, every))
    held = set(student.train.ids) | set(student.validation.ids)
    pd.DataFrame({"id": [name for name in teacher.train.ids if name in held], "label": ""}).to_csv(file, index=False)


def main(data_root: Path, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    edits = folder / "student_sentences.csv"
    leave_out(edits, data_root)
    settings = {"student__model": "minilm", "student__optim__lr": 5e-5}
    trained = kdaif(
        *("train", "--set", "data.train_size=null", "--set", f"data.edits={edits.resolve()}"),
        data_root=data_root,
        method="ce",
        **settings,
    )
    print("the teacher", json.dumps(trained), flush=True)
    teacher = Path(str(trained["run_dir"])) / "student.safetensors"
    found = kdaif(
        *("sweep", "--noise", "0,0.2,0.4", "--methods", "kd,kd-aif,oracle", "--seeds", SEEDS),
        data_root=data_root,
        teacher__checkpoint=teacher.resolve(),
    )
    print(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2]))
