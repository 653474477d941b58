import json
from pathlib import Path

import pandas as pd
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from sklearn.datasets import load_digits

from kdaif import models
from kdaif.callbacks import Callback
from kdaif.config import UserError, load_config
from kdaif.data import load
from kdaif.runs import Run, open_run
from kdaif.teacher import find_teacher
from kdaif.train import train_new
from tests.small import small


class Stages(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_stage_begin(self, moment):
        self.seen.append(moment.stage)


def trained(*sets: str, data_root: Path | None = None) -> tuple[Run, list[str]]:
    """A run, and the stages that it trained."""
    stages = Stages()
    result = train_new(small("student.optim.epochs=1", *sets), data_root, [stages])
    return open_run(result["run_id"]), stages.seen


def kept(tmp_path: Path) -> list[Path]:
    return sorted(tmp_path.glob("cache/teachers/*/teacher.safetensors"))


def test_a_trained_teacher_is_kept_and_reused(tmp_path):
    first, stages = trained("method=kd")
    assert stages == ["teacher", "student"]
    (path,) = kept(tmp_path)
    before = path.stat()
    again, stages = trained("method=oracle", "distillation.alpha=0.2", "name=other")
    assert stages == ["student"]
    assert kept(tmp_path) == [path]
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    for column in ("teacher_prediction", "teacher_confidence", "teacher_loss"):
        assert_array_equal(first.epoch()[column], again.epoch()[column])
    recipe = json.loads((path.parent / "teacher.json").read_text())
    assert recipe["teacher"]["optim"]["epochs"] == 4


@pytest.mark.parametrize(
    "change",
    [
        "teacher.optim.lr=0.04",
        "teacher.model=digits-cnn-small",
        "teacher.labels=clean",
        "seed=1",
        "noise.rate=0.2",
        "data.train_size=240",
        "data.split_seed=1",
        "data.augment=none",
    ],
)
def test_whatever_a_teacher_depends_on_makes_another(change, tmp_path):
    trained("method=kd", "teacher.optim.epochs=1")
    _, stages = trained("method=kd", "teacher.optim.epochs=1", change)
    assert stages == ["teacher", "student"]
    assert len(kept(tmp_path)) == 2


def write_table(path: Path, wrong: bool) -> None:
    """400 digits as image files in a CSV table, one of them perhaps with a wrong label."""
    digits = load_digits()
    labels = digits.target[:400].copy()
    labels[0] = (labels[0] + wrong) % 10
    files = [path.parent / f"{row}.png" for row in range(400)]
    for file, image in zip(files, digits.images):
        Image.fromarray((image * 15).astype("uint8")).save(file)
    pd.DataFrame({"image": [file.name for file in files], "label": labels}).to_csv(path, index=False)


def test_a_table_edited_under_its_name_needs_another_teacher(tmp_path):
    """A clean list written over the old one must not meet the teacher of the dirty one."""
    table = tmp_path / "table.csv"
    whole = (f"data.source={table}", "data.train_size=null", "data.test_size=null")
    sets = ("method=kd", *whole, "noise.kind=none", "noise.rate=0", "teacher.optim.epochs=1")
    write_table(table, wrong=True)
    assert trained(*sets)[1] == ["teacher", "student"]
    assert trained(*sets)[1] == ["student"]
    write_table(table, wrong=False)
    assert trained(*sets)[1] == ["teacher", "student"]


def test_a_teacher_of_clean_labels_is_better():
    noisy = ("method=kd", "noise.rate=0.6", "teacher.optim.epochs=12")
    given, _ = trained(*noisy)
    clean, _ = trained(*noisy, "teacher.labels=clean")
    accuracy = [run.provenance()["teacher_test_accuracy"] for run in (given, clean)]
    assert accuracy[0] + 0.1 < accuracy[1]


# --- checkpoints -----------------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path):
    """The weights of a trained teacher, and what it said of the training samples."""
    run, _ = trained("method=kd")
    model = models.build("digits-cnn", 10, 1)
    models.load_checkpoint(model, kept(tmp_path)[0])
    return model, run.epoch()[["teacher_prediction", "teacher_confidence", "teacher_loss"]]


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.th"])
@pytest.mark.parametrize("under_data_root", [True, False])
def test_checkpoints_are_found_and_used(weights, tmp_path, name, under_data_root):
    model, said = weights
    folder = tmp_path / "data" / "models"
    folder.mkdir(parents=True)
    if name.endswith(".th"):
        torch.save({"state_dict": {f"module.{key}": value for key, value in model.state_dict().items()}}, folder / name)
    else:
        models.save_checkpoint(model, folder / name)
    place = f"models/{name}" if under_data_root else str(folder / name)
    run, stages = trained(
        "method=kd", f"teacher.checkpoint={place}", data_root=tmp_path / "data" if under_data_root else None
    )
    assert stages == ["student"]
    pd.testing.assert_frame_equal(run.epoch()[said.columns.tolist()], said)


def test_a_checkpoint_sees_its_own_normalisation(weights, tmp_path):
    """Weights trained with other input figures say the same of the same pixels."""
    model, _ = weights
    config = small()
    dataset = load(config.data, config.noise, 0, None)
    own = models.InputStats([0.1], [2.0])
    models.save_checkpoint(model, tmp_path / "other.safetensors", own)
    found = find_teacher(small(f"teacher.checkpoint={tmp_path}/other.safetensors"), dataset, None, torch.device("cpu"))
    pixels = dataset.train.inputs[:8] / 255
    loader = (pixels - dataset.mean[0]) / dataset.std[0]
    assert torch.allclose(found.model(loader), model.eval()((pixels - 0.1) / 2.0), atol=1e-5)


def test_a_found_teacher_is_frozen(weights):
    config = small()
    dataset = load(config.data, config.noise, config.seed, None)
    teacher = find_teacher(config, dataset, None, torch.device("cpu"))
    assert teacher.ready
    assert not teacher.model.training
    assert not any(parameter.requires_grad for parameter in teacher.model.parameters())


def test_bad_checkpoints_are_refused_before_a_run_exists(weights, tmp_path):
    model, _ = weights
    junk, foreign, whole = tmp_path / "junk.th", tmp_path / "foreign.safetensors", tmp_path / "whole.pt"
    junk.write_bytes(b"\x00" * 50)
    models.save_checkpoint(models.build("digits-cnn", 4, 1), foreign)
    torch.save(model, whole)
    before = sorted((tmp_path / "cache" / "runs").iterdir())
    for path, said in [
        (junk, "holds no plain weights"),
        (foreign, "does not fit the model: it has 4 classes, the data 10"),
        (whole, "a whole pickled model is refused"),
        (tmp_path, "found no such file"),
    ]:
        with pytest.raises(UserError, match=r"^teacher\.checkpoint: ") as error:
            trained(f"teacher.checkpoint={path}")
        assert said in str(error.value)
    assert sorted((tmp_path / "cache" / "runs").iterdir()) == before


@pytest.mark.shared
def test_a_published_network_teaches(data_root):
    """resnet20 of akamaster/pytorch_resnet_cifar10: 91.7 % on the whole test split."""
    sets = ["data.train_size=200", "data.test_size=200", "student.optim.epochs=1", "device=cpu", "method=kd"]
    config = load_config("cifar10-resnet8", [*sets, "teacher.checkpoint=models/cifar10-resnet20-12fca82f.th"])
    result = train_new(config, data_root)
    assert result["teacher_test_accuracy"] > 0.87
