"""README says what the program does: its example runs, its commands and paths exist."""

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from typer.main import get_command

from kdaif.cli import app
from kdaif.data import load
from kdaif.fit import new_model
from kdaif.metrics.detection import auroc
from kdaif.models import load_checkpoint
from kdaif.runs import Run
from kdaif.train import train_new
from tests.sentences import small_text, token_rows, write_sentences

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def block(name: str) -> str:
    """The code block after the comment of that name."""
    found = re.search(rf"<!-- {name} -->\n```\w+\n(.*?)\n```", README, re.DOTALL)
    assert found, f"README has no block {name!r}"
    return found.group(1)


def test_loop_example_finds_flipped_labels() -> None:
    torch.manual_seed(0)
    centres = 3 * torch.randn(4, 8)
    clean = torch.randint(0, 4, (400,))
    x = centres[clean] + torch.randn(400, 8)
    flipped = torch.arange(400) % 10 < 3
    y = torch.where(flipped, (clean + 1) % 4, clean)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
    place = {
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), 0.1),
        "epochs": 6,
        "x_train": x[:300],
        "y_train": y[:300],
        "x_val": x[300:],
        "y_val": clean[300:],
    }
    exec(block("example: loop"), place)
    influence = place["weights"].table.influence()
    assert auroc(-influence.numpy(), flipped[:300].numpy()) > 0.9
    assert flipped[:300][place["harmful"]].float().mean() > 0.9


def test_trainer_example_finds_flipped_labels(tmp_path: Path) -> None:
    config = small_text(write_sentences(tmp_path / "films", train=400), "teacher.optim.epochs=5")
    dataset = load(config.data, config.noise, 0, None)
    result = train_new(config)  # for its teacher
    teacher, student = (new_model("bert-micro", dataset, torch.device("cpu"), "x") for _ in range(2))
    load_checkpoint(teacher, Path(Run(Path(result["run_dir"])).provenance()["teacher"]))
    train, validation = (token_rows(split) for split in (dataset.train, dataset.validation))
    place = {"student": student.network, "teacher": teacher.network, "train": train, "validation": validation}
    place |= {"tokenizer": dataset.vocabulary.tokenizer, "folder": str(tmp_path)}
    exec(block("example: trainer"), place)
    flipped = dataset.train.flipped
    assert auroc(-place["trainer"].influence(), flipped.numpy()) > 0.9
    assert flipped[place["harmful"]].float().mean() > 0.8


@pytest.mark.parametrize("name", ["command: run", "command: test"])
def test_fresh_machine_commands_install_what_is_there(name: str) -> None:
    command = block(name)
    (requirements,) = re.findall(r"-r (\S+)", command)
    assert (ROOT / requirements).is_file()
    assert "python3 -m venv" in command


def test_every_command_named_in_readme_exists() -> None:
    commands = set(get_command(app).commands)  # type: ignore[attr-defined]
    named = set(re.findall(r"^kdaif (\w+)", README, re.MULTILINE)) | set(re.findall(r"-m kdaif ([a-z]+)", README))
    assert named <= commands
    assert {"train", "samples", "detect", "sweep", "compare"} <= named


def test_every_path_of_the_tree_exists() -> None:
    tree = README[README.index("## The tree") :]
    for line in re.findall(r"^(?:  )?([\w/]+(?:\.py|/))", tree, re.MULTILINE):
        assert (ROOT / line).exists() or (ROOT / "kdaif" / line).exists(), line
