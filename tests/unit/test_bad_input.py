"""Whatever is wrong, the answer is exit status 2 and one sentence, and nothing is left behind or overwritten."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from kdaif import cli, models
from kdaif.methods import METHODS
from kdaif.runs import list_runs
from tests.factories import digits_run
from tests.small import SMALL


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A place with good and bad files and runs, made once and never to be changed by a command."""
    place = tmp_path_factory.mktemp("place")
    _files(place / "files")
    _tables(place / "tables")
    _weights(place / "weights")
    _runs(place / "cache" / "runs")
    return place


def _files(folder: Path) -> None:
    folder.mkdir()
    contents = {
        "empty.yaml": b"",
        "binary.yaml": bytes(range(256)) * 4,
        "list.yaml": b"- seed\n- method\n",
        "tab.yaml": b"data:\n\tsource: digits\n",
        "keys.yaml": b"1: 2\n",
        "cut.json": b'{"seed": 1',
        "nan.json": b'{"noise": {"kind": "symmetric", "rate": NaN}}',
        "taken.csv": b"precious",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def _tables(folder: Path) -> None:
    folder.mkdir()
    for row in range(40):
        Image.fromarray(np.full((8, 8), row, np.uint8)).save(folder / f"{row}.png")
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(folder / "tall.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    image, label = [f"{row}.png" for row in range(40)], [row % 2 for row in range(40)]
    tables = {
        "good": {"image": image, "label": label},
        "given": {"image": image, "label": label, "given": label[::-1]},
        "nolabel": {"image": image, "size": label},
        "oneclass": {"image": image, "label": [1] * 40},
        "gap": {"image": image, "label": [None, *label[1:]]},
        "fraction": {"image": image, "label": [0.5, *label[1:]]},
        "lost": {"image": ["lost.png", *image[1:]], "label": label},
        "broken": {"image": ["broken.png", *image[1:]], "label": label},
        "sizes": {"image": ["tall.png", *image[1:]], "label": label},
        "text": {"sentence": ["a word"] * 40, "label": label},
        "blank": {"sentence": [" "] * 40, "label": label},
        "rare": {"image": image, "label": [2, *label[1:]]},
        "short": {"noisy": [0, 1]},
    }
    for name, columns in tables.items():
        pd.DataFrame(columns).to_csv(folder / f"{name}.csv", index=False)
    (folder / "empty.csv").write_bytes(b"")
    (folder / "header.csv").write_text("image,label\n")
    (folder / "junk.parquet").write_bytes(b"PAR1 but not really PAR1")
    (folder / "junk.jsonl").write_bytes(b"{]")
    (folder / "table.xyz").write_bytes(b"image,label\n")
    (folder / "hollow").mkdir()


def _weights(folder: Path) -> None:
    folder.mkdir()
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "junk.th").write_bytes(b"\x80\x02}q\x00.")
    models.save_checkpoint(models.build("digits-cnn", 4, 1), folder / "classes.safetensors")
    models.save_checkpoint(models.build("resnet8", 10, 1), folder / "foreign.safetensors")
    torch.save(models.build("digits-cnn", 10, 1), folder / "pickled.pt")


def _runs(root: Path) -> None:
    def named(name: str, method: str = "kd-aif", **options) -> Path:
        return digits_run(method, root=root, **options).path.rename(root / name)

    named("good")
    named("vanilla", "kd")
    named("unknown-labels", known=False)
    named("clean", noise=0)
    named("waiting", recorded=0)
    named("stopped", recorded=2)
    (named("no-config") / "config.json").unlink()
    (named("junk-config") / "config.json").write_bytes(b"\x00\x01")
    (named("other-schema") / "config.json").write_text(json.dumps({"schema": 99, "config": {}, "provenance": {}}))
    (named("old-config") / "config.json").write_text(
        json.dumps({"schema": 1, "config": {"seed": "x"}, "provenance": {}})
    )
    (named("junk-status") / "status.json").write_text('{"state": "sleeping"}')
    (named("no-status") / "status.json").unlink()
    (named("junk-samples") / "samples.parquet").write_bytes(b"PAR1")
    (named("junk-epoch") / "epochs" / "epoch=00010.parquet").write_bytes(b"")
    (root / "empty").mkdir()


WHOLE = "data.train_size=null data.test_size=null data.augment=none"  # of a table of sentences

TRAIN: list[tuple[str, str]] = [
    # keys and types
    ("noize.rate=0.4", "noize: this setting does not exist"),
    ("teacher.optim.eopchs=3", "teacher.optim.eopchs: this setting does not exist"),
    ("seed=many", "seed: got 'many', should be a valid integer"),
    ("student=resnet8", "student: got 'resnet8', takes a section"),
    ("noise.matrix=[[a]]", "noise.matrix.0.0: got 'a'"),
    ("noise.rate", "--set: got 'noise.rate', takes key=value"),
    ("=1", "--set: got '=1', takes key=value"),
    ("seed=0 seed.x=1", "--set: 'seed' in 'seed.x' is a value"),
    ("a\nb=1", "a b: this setting does not exist"),
    # numbers
    ("seed=-1", "seed: got -1"),
    ("seed=99999999999999999999", "seed: got 99999999999999999999"),
    (f"seed={'9' * 5000}", "seed: got '999"),
    ("noise.rate=.nan", "noise.rate: got nan, should be a finite number"),
    ("noise.rate=1.0", "noise.rate: got 1.0, should be less than 1"),
    ("student.optim.lr=-0.1", "student.optim.lr: got -0.1, should be greater than 0"),
    ("student.optim.lr=.inf", "student.optim.lr: got inf"),
    ("student.optim.epochs=0", "student.optim.epochs: got 0"),
    ("student.optim.epochs=1000000", "student.optim.epochs: got 1000000"),
    ("student.optim.batch_size=1", "student.optim.batch_size: got 1"),
    ("distillation.temperature=1e300", "distillation.temperature: got '1e300'"),
    ("influence.temperature=1e300", "influence.temperature: got '1e300'"),
    ("data.image_size=1000000", "data.image_size: got 1000000"),
    ("data.train_size=3", "data.train_size: got 3, takes 10"),
    ("data.train_size=999999", "data.train_size: got 999999, takes 10"),
    ("data.test_size=1", "data.test_size: got 1, takes 10"),
    ("data.validation=0.999", "data.validation: got 0.999"),
    ("data.validation=0.0001", "data.validation: got 0.0001"),
    # names
    ("method=magic", f"method: got 'magic', takes one of {', '.join(sorted(METHODS))}"),
    ("method=../../etc", "method: got '../../etc', takes one of"),
    ("student.model=resnet9", "student.model: got 'resnet9', takes one of"),
    ("teacher.model=''", "teacher.model: got '', takes one of"),
    ("student.optim.optimizer=lion", "student.optim.optimizer: got 'lion'"),
    ("teacher.optim.schedule=poly", "teacher.optim.schedule: got 'poly'"),
    ("influence.mapping=magic", "influence.mapping: got 'magic'"),
    ("influence.update=never", "influence.update: got 'never'"),
    ("influence.scope=first", "influence.scope: got 'first'"),
    ("influence.target=group:writer=ann", "influence.target: there is no column 'writer', "),
    ("influence.target=worst", "influence.target: got 'worst', takes one of all, class:NAME, worst-class, group:"),
    ("influence.target=class:x", "influence.target: there is no class 'x'"),
    ("influence.target=ids:no-file", "influence.target: no-file cannot be read as text (FileNotFoundError)."),
    ("influence.preconditioner=shampoo", "influence.preconditioner: got 'shampoo'"),
    ("distillation.loss=mse", "distillation.loss: got 'mse'"),
    ("data.augment=mixup", "data.augment: got 'mixup'"),
    ("noise.kind=salt", "noise.kind: got 'salt'"),
    ("noise.kind=input noise.corruption=rain", "noise.corruption: got 'rain', takes one of blur, drop, gaussian, occlusion"),
    ("device=tpu", "device: got 'tpu', takes auto, cpu or cuda"),
    ("precision=int8", "precision: got 'int8'"),
    # combinations
    ("noise={kind: none, rate: 0.3}", "noise.rate is set but noise.kind is 'none'"),
    ("noise={kind: matrix}", "noise.kind 'matrix' needs noise.matrix"),
    ("noise={kind: matrix, matrix: [[0.5, 0.5], [0, 1]]}", "noise.matrix: got 2 rows of 2 entries, takes 10 x 10"),
    ("noise={kind: column}", "noise.kind 'column' needs noise.column"),
    ("noise={kind: column, column: x}", "noise.file: got None"),
    ("noise={kind: column, column: x, file: no.csv}", "noise.file: got 'no.csv'"),
    ("noise={kind: column, column: x, file: TABLES/good.csv}", "noise.column: got 'x', good.csv has the columns"),
    ("noise={kind: column, column: noisy, file: TABLES/short.csv}", "noise.key: short.csv has 2 rows and the data 1797"),
    ("method=oracle noise={kind: none}", "method: 'oracle' needs known clean labels"),
    ("teacher.labels=clean noise={kind: none}", "teacher.labels: got 'clean', but the clean labels"),
    ("student.model=vgg8 data.image_size=2", "student.model: 'vgg8' cannot take images of 2 x 2 pixels"),
    # checkpoints
    ("teacher.checkpoint=nowhere.th", "teacher.checkpoint: got 'nowhere.th', found no such file"),
    ("teacher.checkpoint=../../../etc/passwd", "teacher.checkpoint: "),
    ("teacher.checkpoint=WEIGHTS", "teacher.checkpoint: got"),
    ("teacher.checkpoint=WEIGHTS/empty.safetensors", "teacher.checkpoint: "),
    ("teacher.checkpoint=WEIGHTS/junk.th", "teacher.checkpoint: "),
    ("teacher.checkpoint=WEIGHTS/pickled.pt", "teacher.checkpoint: "),
    ("teacher.checkpoint=WEIGHTS/classes.safetensors", "teacher.checkpoint: "),
    ("teacher.checkpoint=WEIGHTS/foreign.safetensors", "teacher.checkpoint: "),
    (f"teacher.checkpoint={'x' * 300}", "File name too long"),
    # data
    ("data.source=nowhere", "data.source: got 'nowhere', takes one of digits"),
    ("data.source=", "data.source: got None"),
    ("data.source=../../../no/such", "data.source: got '../../../no/such'"),
    ("data.source=/dev/null", "data: /dev/null has the ending ''"),
    ("data.source=TABLES/hollow", "data.source: folder "),
    ("data.source=TABLES/empty.csv", "data: "),
    ("data.source=TABLES/header.csv", "data.source: the all table of header has no rows"),
    ("data.source=TABLES/junk.parquet", "data: "),
    ("data.source=TABLES/junk.jsonl", "data: "),
    ("data.source=TABLES/table.xyz", "data: "),
    ("data.source=TABLES/nolabel.csv", "data.columns.label: name the column of labels"),
    ("data.source=TABLES/good.csv data.columns.label=cls", "data.columns.label: got 'cls', takes one of image, label"),
    ("data.source=TABLES/good.csv data.columns.input=label", "data.columns.label: name the column of labels"),
    ("data.source=TABLES/oneclass.csv", "data.columns.label: every sample is of class '1'"),
    ("data.source=TABLES/gap.csv", "data.columns.label: column 'label' has 1 rows without a label"),
    ("data.source=TABLES/fraction.csv", "data.columns.label: column 'label' is"),
    ("data.source=TABLES/lost.csv", "data"),
    ("data.source=TABLES/broken.csv", "data"),
    ("data.source=TABLES/sizes.csv", "data.image_size: images differ in size"),
    (f"data.source=TABLES/text.csv {WHOLE}", "student.model: 'digits-cnn-small' takes images"),
    ("data.source=TABLES/text.csv data.columns.text=label", "data.columns.label: name the column of labels"),
    (f"data.source=TABLES/blank.csv {WHOLE}", "data.columns.text: 25 samples have no word"),
    ("data.source=TABLES/text.csv", "data.augment: got 'shift', which is made for images; takes none for text."),
    ("data.source=glue/sst2 data.tokenizer=5", "data.tokenizer: got 5, should be a valid string"),
    ("data.source=TABLES/rare.csv", "data.source: class '2' has 1 sample"),
    ("data.source=TABLES/given.csv data.columns.given=given", "noise.kind: got 'symmetric', takes none where"),
]  # fmt: skip

COMMANDS: list[tuple[list[str], str]] = [
    # config files
    (["train", "nowhere.yaml"], "config: 'nowhere.yaml' is neither a file nor a preset"),
    (["train", "../../etc"], "config: '../../etc' is neither a file nor a preset"),
    (["train", "FILES"], "config: "),
    (["train", "y" * 300], "File name too long"),
    (["train", "FILES/empty.yaml"], "must hold a mapping of settings, got NoneType"),
    (["train", "FILES/binary.yaml"], "cannot be read"),
    (["train", "FILES/list.yaml"], "must hold a mapping of settings, got list"),
    (["train", "FILES/tab.yaml"], "cannot be read"),
    (["train", "FILES/keys.yaml"], "1: "),
    (["train", "FILES/cut.json"], "cannot be read"),
    (["train", "FILES/nan.json"], "noise.rate: got nan"),
    # the command line
    (["trian", "digits"], "No such command 'trian'"),
    (["train"], "train: CONFIG is missing"),
    (["train", "digits", "again"], "Got unexpected extra argument"),
    (["train", "digits", "--sett", "seed=1"], "No such option: --sett"),
    (["train", "digits", "--set"], "Option '--set' requires an argument"),
    (["train", "digits", "--data-root", "nowhere"], "--data-root: got 'nowhere', takes a folder that exists"),
    (["train", "digits", "--data-root", "FILES/empty.yaml"], "--data-root: got"),
    (["train", "digits", "--run-dir", "good"], "train: --run-dir brings its own config"),
    (["train", "--run-dir", "nowhere"], "run: got 'nowhere'"),
    (["demo", "--no-app", "--seed", "-1"], "Invalid value for '--seed'"),
    (["sweep"], "Missing argument"),
    (["sweep", "digits", "--noise", "lots"], "--noise: got 'lots', takes numbers"),
    (["sweep", "digits", "--noise", ""], "--noise: got ''"),
    (["sweep", "digits", "--noise", "0,1.5"], "noise.rate: got 1.5"),
    (["sweep", "digits", "--noise", "nan"], "noise.rate: got nan"),
    (["sweep", "digits", "--seeds", "0.5"], "--seeds: got '0.5'"),
    (["sweep", "digits", "--seeds", "-3"], "seed: got -3"),
    (["sweep", "digits", "--methods", "kd,,ce"], "--methods: got '', takes one of"),
    (["sweep", "nowhere"], "config: 'nowhere' is neither"),
    # runs
    (["resume", "nowhere"], "run: got 'nowhere', takes the id of a run"),
    (["resume", ""], "holds no config.json, so it is not a run"),
    (["resume", ".."], "run: got '..'"),
    (["resume", "../../etc"], "run: "),
    (["resume", "/etc"], "run: /etc holds no config.json"),
    (["resume", "z" * 300], "File name too long"),
    (["resume", "good"], "run: good is done"),
    (["resume", "empty"], "holds no config.json"),
    (["resume", "no-config"], "holds no config.json"),
    (["resume", "junk-config"], "cannot be read"),
    (["resume", "other-schema"], "has schema 99, this kdaif reads 1"),
    (["resume", "old-config"], "is not a valid config: seed: got 'x', should be a valid integer"),
    (["resume", "no-status"], "holds no status.json"),
    (["resume", "junk-status"], "has a wrong state: got 'sleeping'"),
    (["samples", "good"], "samples: takes one of --harmful K or --helpful K"),
    (["samples", "good", "--harmful", "3", "--helpful", "3"], "samples: takes one of"),
    (["samples", "good", "--harmful", "0"], "Invalid value for '--harmful'"),
    (["samples", "good", "--harmful", "-5"], "Invalid value for '--harmful'"),
    (["samples", "good", "--harmful", "few"], "Invalid value for '--harmful'"),
    (["samples", "good", "--harmful", "3", "--epoch", "99"], "epoch: got 99, run good has recorded 1 to 10"),
    (["samples", "good", "--harmful", "3", "--epoch", "0"], "epoch: got 0"),
    (["samples", "good", "--harmful", "3", "--csv", "FILES/taken.csv"], "--csv: got"),
    (["samples", "good", "--harmful", "3", "--csv", "FILES"], "--csv: got"),
    (["samples", "good", "--harmful", "3", "--csv", "FILES/no/new.csv"], "--csv: got"),
    (["samples", "good", "--harmful", "3", "--csv", ""], "--csv: got"),
    (["samples", "vanilla", "--harmful", "3"], "run: vanilla is of method kd, which measures no influence"),
    (["samples", "waiting", "--harmful", "3"], "run: waiting has recorded no epoch yet"),
    (["samples", "junk-samples", "--harmful", "3"], "samples.parquet cannot be read"),
    (["samples", "junk-epoch", "--harmful", "3"], "epoch=00010.parquet cannot be read"),
    (["detect", "unknown-labels"], "detect: run unknown-labels knows of no wrong label"),
    (["detect", "clean"], "detect: run clean knows of no wrong label"),
    (["detect", "good", "--k", "0"], "Invalid value for '--k'"),
    (["detect", "junk-epoch"], "epoch=00010.parquet cannot be read"),
    (["audit", "nowhere"], "run: got 'nowhere'"),
    (["audit", "waiting"], "audit: run waiting is running, takes a run that is done"),
    (["compare", "good"], "compare: got 1 run, takes two or more"),
    (["compare", "good", "stopped"], "compare: run stopped is running, takes runs that are done"),
    (["compare", "good", "good", "nowhere"], "run: got 'nowhere'"),
    (["runs", "--all"], "No such option: --all"),
]  # fmt: skip


def refused(arguments: list[str], made: Path, monkeypatch, capsys) -> str:
    """Runs a command that must be refused, and returns its sentence."""
    monkeypatch.setenv("KDAIF_CACHE", str(made / "cache"))
    monkeypatch.chdir(made)
    before = _everything(made)
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main([_filled(argument, made) for argument in arguments])
    out, err = capsys.readouterr()
    assert end.value.code == 2, err
    assert out == ""
    assert err.startswith("kdaif: ")
    assert err.endswith(".\n")
    assert not err.endswith("..\n")
    assert err.count("\n") == 1
    assert "Traceback" not in err
    assert _everything(made) == before
    return err.removeprefix("kdaif: ")


def _filled(argument: str, made: Path) -> str:
    for word in ("FILES", "TABLES", "WEIGHTS"):
        argument = argument.replace(word, str(made / word.lower()))
    return argument


def _everything(place: Path) -> dict[str, object]:
    """What is there: names, sizes, inode and time of change."""
    stats = {path: path.stat() for path in place.rglob("*")}
    return {str(path): (stat.st_size, stat.st_ino, stat.st_mtime_ns) for path, stat in stats.items()}


@pytest.mark.parametrize(("sets", "said"), TRAIN, ids=[sets[:40] for sets, _ in TRAIN])
def test_train_refuses(sets, said, made, monkeypatch, capsys):
    parts = re.split(r" (?=[a-z_.]+=)", sets)
    parts += ["data.train_size=null", "data.test_size=null"] if "TABLES" in sets else []
    words = [word for item in (*SMALL, *parts) for word in ("--set", item)]
    assert said in refused(["train", "digits", *words], made, monkeypatch, capsys)


@pytest.mark.parametrize(("arguments", "said"), COMMANDS, ids=[" ".join(words)[:40] for words, _ in COMMANDS])
def test_commands_refuse(arguments, said, made, monkeypatch, capsys):
    assert said in refused(arguments, made, monkeypatch, capsys)


def test_runs_lists_the_bad_with_a_sentence_each(made, monkeypatch):
    monkeypatch.setenv("KDAIF_CACHE", str(made / "cache"))
    errors = {summary.id: summary.error for summary in list_runs()}
    bad = {"no-config", "junk-config", "other-schema", "old-config", "junk-status", "no-status", "empty"}
    assert {name for name, error in errors.items() if error} == bad
    assert all(error.endswith(".") and "\n" not in error for error in errors.values() if error)


def test_a_cache_that_is_a_file(made, monkeypatch, capsys, tmp_path):
    place = tmp_path / "place"
    shutil.copytree(made / "files", place / "files")
    (place / "cache").write_bytes(b"a file")
    words = [word for item in (*SMALL, "method=ce") for word in ("--set", item)]
    assert "Not a directory" in refused(["train", "digits", *words], place, monkeypatch, capsys)
    monkeypatch.setenv("KDAIF_CACHE", str(place / "cache"))
    with pytest.raises(SystemExit) as end:
        cli.main(["runs", "--json"])
    assert end.value.code == 0
