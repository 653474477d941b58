"""What a run hands over is what it trained, opened without kdaif."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kdaif.cli import main
from kdaif.config import UserError
from kdaif.data.text import pieces
from kdaif.explain import normalised, open_network, open_run_vocabulary
from kdaif.export import export, program
from kdaif.models import InputStats, build
from kdaif.runs import Run, new_run
from kdaif.train import train_new
from tests.sentences import SCORED, sentences, small_text, write_scored, write_sentences
from tests.small import small


def trained(source: Path, *sets: str) -> Run:
    short = ("method=kd", "teacher.optim.epochs=1", "student.optim.epochs=1")
    return Run(Path(train_new(small_text(source, *short, *sets))["run_dir"]))


def own_logits(run: Run, texts: list[str], network: str = "student") -> np.ndarray:
    """One sentence at a time, by kdaif."""
    model, vocabulary = open_network(run, network).model, open_run_vocabulary(run)
    with torch.no_grad():
        length = run.config().data.max_tokens
        return torch.cat([model(pieces([text], vocabulary, length).inputs) for text in texts]).numpy()


def opened(folder: Path, texts: list[str]) -> np.ndarray:
    """All together, by transformers."""
    tokens = AutoTokenizer.from_pretrained(folder)(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.no_grad():
        model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
        return model(tokens["input_ids"], attention_mask=tokens["attention_mask"]).logits.numpy()


TEXTS = [*sentences(12, seed=9)["text"], "film " * 100]  # the last is longer than a run's sentences may be


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_text_networks_open_in_transformers(tmp_path: Path, network: str) -> None:
    run = trained(write_sentences(tmp_path / "films"))
    found = export(run, tmp_path / "out", network)
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= set(found.files)
    assert found.opened_by == f'AutoModelForSequenceClassification.from_pretrained("{tmp_path / "out"}")'
    np.testing.assert_allclose(opened(tmp_path / "out", TEXTS), own_logits(run, TEXTS, network), atol=1e-5)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {"0": "bad", "1": "good"}


def test_pairs_come_out_as_they_went_in(tmp_path: Path) -> None:
    films = write_sentences(tmp_path / "films", second=sentences(160, seed=3)["text"])
    test = films / "test.parquet"
    pd.read_parquet(test).assign(second="a dull story").to_parquet(test)
    columns = "data.columns={text: text, text_pair: second, label: label}"
    run = trained(films, columns, "student.model=bert-micro", "student.optim.epochs=4")
    export(run, tmp_path / "out")
    model, vocabulary = open_network(run, "student").model, open_run_vocabulary(run)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    pair = run.samples().loc[0, ["text", "text_pair"]].tolist()
    with torch.no_grad():
        expected = model(pieces(pair, vocabulary, 32).inputs)
        found = AutoModelForSequenceClassification.from_pretrained(tmp_path / "out").eval()
        torch.testing.assert_close(
            found(**tokenizer(*pair, return_tensors="pt")).logits, expected, rtol=1e-4, atol=1e-5
        )


def test_numbers_come_out_in_their_own_units(tmp_path: Path) -> None:
    run = trained(write_scored(tmp_path / "scored"), *SCORED, "noise.kind=none", "noise.rate=0")
    export(run, tmp_path / "out")
    value = run.samples()["value"]
    said = own_logits(run, TEXTS) * value.std(ddof=0) + value.mean()
    np.testing.assert_allclose(opened(tmp_path / "out", TEXTS), said, rtol=1e-4)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["problem_type"] == "regression"


def test_the_mean_of_the_tokens_opens_in_sentence_transformers_and_teaches_again(tmp_path: Path) -> None:
    films = write_sentences(tmp_path / "films", train=60, test=20)
    run = trained(films, "data.tokenizer=minilm", "teacher.model=minilm-3", "student.model=minilm-3")
    export(run, tmp_path / "out", "teacher")
    said = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(said, own_logits(run, TEXTS, "teacher"), atol=1e-4)
    tuned = (f"data.tokenizer={tmp_path / 'out'}", f"teacher.model={tmp_path / 'out'}", "teacher.labels=none")
    taught = trained(films, *tuned, "student.model=minilm-3")
    for column in ("teacher_prediction", "teacher_confidence"):
        np.testing.assert_allclose(taught.epoch()[column], run.epoch()[column], atol=1e-5)


def test_image_networks_are_programs_that_take_pixels(tmp_path: Path, trained: Run) -> None:
    found = export(trained, tmp_path / "out")
    assert found.files == ["classes.json", "model.pt2"]
    assert tuple(json.loads((tmp_path / "out" / "classes.json").read_text())) == trained.classes()
    pixels = np.asarray(trained.inputs()[:5])
    student = open_network(trained, "student")
    program = torch.export.load(tmp_path / "out" / "model.pt2").module()
    for count in (1, 5):
        images = torch.from_numpy(pixels[:count].copy()).permute(0, 3, 1, 2) / 255
        with torch.no_grad():
            expected = student.model(normalised(pixels[:count], student.stats))
            torch.testing.assert_close(program(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["resnet8", "wrn-16-1", "vgg8", "mobilenetv2", "shufflenetv2"])
def test_every_family_of_image_networks_is_exported(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, 7, 3).eval()
    stats = InputStats([0.5, 0.4, 0.3], [0.2, 0.3, 0.4])
    images = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        mean, std = (torch.tensor(figures)[:, None, None] for figures in stats)
        expected = model((images - mean) / std)
        torch.testing.assert_close(program(model, stats, 3, 32, 32).module()(images), expected, rtol=1e-4, atol=1e-4)


def test_nothing_is_overwritten_or_left_half_way(tmp_path: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    (taken / "thesis.txt").write_text("mine")
    for folder in (taken, taken / "thesis.txt"):
        with pytest.raises(UserError, match="is there already, takes a new folder"):
            export(trained, folder)
    with pytest.raises(UserError, match="is queued, takes a run that is done"):
        export(new_run(small()), tmp_path / "out")
    monkeypatch.chdir(taken)
    with pytest.raises(UserError, match="is there already, takes a new folder"):
        export(trained, Path())
    with pytest.raises(UserError, match="takes one of student, teacher"):
        export(trained, tmp_path / "out", "head")
    monkeypatch.setattr("kdaif.export._write_program", lambda *parts: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        export(trained, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["taken"]
    assert [path.name for path in taken.iterdir()] == ["thesis.txt"]


def test_the_command_says_how_to_open_it(tmp_path: Path, trained: Run, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["export", str(trained.path), str(tmp_path / "out"), "--json"])
    assert end.value.code == 0
    said = capsys.readouterr().out
    assert "opens it" in said
    assert json.loads(said.splitlines()[-1])["files"] == ["classes.json", "model.pt2"]
