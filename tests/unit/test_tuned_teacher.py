"""A teacher that was fine-tuned elsewhere: a folder or hub id of transformers, used as it comes (`teacher.labels: none`)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, XLMRobertaConfig

from kdaif.audit.checkpoint import open_case
from kdaif.callbacks import Callback
from kdaif.config import UserError
from kdaif.data.text import _learnt
from kdaif.explain import open_network
from kdaif.influence.layers import head
from kdaif.runs import Run, open_run
from kdaif.train import train_new
from tests.sentences import SCORED, sentences, small_text, write_scored, write_sentences

# a wide range of weights: so that it says one thing here and another there
SIZES = {
    "initializer_range": 0.5,
    "hidden_size": 32,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
}


class Stages(Callback):
    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_stage_begin(self, moment):
        self.seen.append(moment.stage)


def tuned(folder: Path, *classes: str, whole: bool = True, config: type = BertConfig, **more: object) -> Path:
    """A BERT, or another, that was saved with these class names, and its tokenizer."""
    torch.manual_seed(5)
    tokenizer = _learnt(sentences(200)[["text"]].to_numpy(object)).tokenizer
    names = dict(enumerate(classes))
    known = {"vocab_size": len(tokenizer), "id2label": names, "label2id": {n: i for i, n in names.items()}}
    model = (AutoModelForSequenceClassification if whole else AutoModel).from_config(config(**known, **SIZES, **more))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def trained(source: Path, teacher: Path, *sets: str) -> tuple[Run, list[str]]:
    stages = Stages()
    own = (f"teacher.model={teacher}", f"data.tokenizer={teacher}", "teacher.labels=none")
    result = train_new(small_text(source, *own, "student.optim.epochs=1", *sets), None, [stages])
    return open_run(result["run_id"]), stages.seen


def says(teacher: Path, texts: list[str]) -> np.ndarray:
    """Its logits, as transformers has them."""
    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    with torch.no_grad():
        return model(**AutoTokenizer.from_pretrained(teacher)(texts, padding=True, return_tensors="pt")).logits.numpy()


@pytest.mark.parametrize(
    ("classes", "order"),
    [(("bad", "good"), [0, 1]), (("GOOD", "BAD"), [1, 0]), (("LABEL_0", "LABEL_1"), [0, 1])],
)
def test_it_teaches_as_it_comes_in_the_order_of_the_data(tmp_path: Path, classes: tuple[str, str], order: list[int]):
    teacher = tuned(tmp_path / "teacher", *classes)
    run, stages = trained(write_sentences(tmp_path / "films"), teacher)
    assert run.classes() == ("bad", "good")
    assert stages == ["student"]  # nobody trains it, and not again either
    logits = says(teacher, run.samples()["text"].tolist())[:, order]
    assert len(np.unique(logits.argmax(1))) == 2
    np.testing.assert_array_equal(run.epoch()["teacher_prediction"], logits.argmax(1))
    sure = np.exp(logits.max(1)) / np.exp(logits).sum(1)
    np.testing.assert_allclose(run.epoch()["teacher_confidence"], sure, atol=1e-5)
    kept = open_network(run, "teacher").model  # what explanations and audits open
    torch.testing.assert_close(kept.network.classifier.weight[order], _head(teacher))


def _head(folder: Path) -> torch.Tensor:
    return AutoModelForSequenceClassification.from_pretrained(folder).classifier.weight


def test_networks_that_name_their_head_first(tmp_path: Path):
    """XLM-RoBERTa registers `classifier` before the encoder."""
    teacher = tuned(tmp_path / "teacher", "good", "bad", config=XLMRobertaConfig)
    run, _ = trained(write_sentences(tmp_path / "films"), teacher, "method=kd", "student.model=distilbert-micro")
    logits = says(teacher, run.samples()["text"].tolist())[:, [1, 0]]
    np.testing.assert_array_equal(run.epoch()["teacher_prediction"], logits.argmax(1))
    assert head(open_network(run, "teacher").model)[0] == "network.classifier.out_proj"


def test_an_audit_opens_its_run_though_the_right_labels_are_not_known(tmp_path: Path):
    teacher = tuned(tmp_path / "teacher", "bad", "good")
    run, _ = trained(write_sentences(tmp_path / "films"), teacher, "noise.kind=none", "noise.rate=0")
    case = open_case(run, None)
    torch.testing.assert_close(case.teacher.network.classifier.weight, _head(teacher))


def test_it_is_kept_once_for_all_seeds_and_anew_when_it_changes(tmp_path: Path):
    films, teacher = write_sentences(tmp_path / "films"), tuned(tmp_path / "teacher", "bad", "good")
    first, second = (trained(films, teacher, f"seed={seed}", "method=kd")[0].provenance() for seed in (0, 1))
    assert first["teacher"] == second["teacher"]
    assert first["files"].keys() == {"data.source", "teacher.model"}
    tuned(teacher, "good", "bad")
    changed = trained(films, teacher, "method=kd")[0].provenance()
    assert changed["teacher"] != first["teacher"]
    assert changed["files"]["teacher.model"] != first["files"]["teacher.model"]


def test_classes_with_numbers_for_names_are_taken_one_by_one(tmp_path: Path):
    films = write_sentences(tmp_path / "films", label=np.arange(160) % 2)
    write_sentences(tmp_path / "test", train=60, label=np.arange(60) % 2)
    (tmp_path / "test" / "train.parquet").replace(films / "test.parquet")
    run, stages = trained(films, tuned(tmp_path / "teacher", "negative", "positive"), "method=kd")
    assert (run.classes(), stages) == (("0", "1"), ["student"])


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "FOLDER bad awful",
            "'.*' tells bad, awful apart and the data bad, good; takes a text model whose config.json",
        ),
        ("FOLDER a b c", "'.*' comes with no trained head for 2 classes; takes a text model that was fine-tuned"),
        ("FOLDER@0 bad good", "'.*' comes with no trained head for 2 classes"),
        ("MANY bad good", "'.*' comes with no trained head for 2 classes"),
        ("HEADLESS", "'.*' comes with no trained head for 2 classes"),
        ("bert-micro", "'bert-micro' comes with no trained head for 2 classes"),
        ("minilm", "'minilm' comes with no trained head for 2 classes"),
    ],
)
def test_a_model_that_was_not_tuned_for_these_classes_is_refused(tmp_path: Path, model: str, said: str):
    kind, *classes = model.split()
    sets = []
    if kind.isupper() or "@" in kind:
        more = {"problem_type": "multi_label_classification"} if kind == "MANY" else {}
        teacher = tuned(tmp_path / "teacher", *(classes or ("bad", "good")), whole=kind != "HEADLESS", **more)
        sets = [f"teacher.model={teacher}@0"] if "@" in kind else []
    else:
        teacher = Path(kind)
        sets = ["data.tokenizer=bpe" if kind == "bert-micro" else "data.tokenizer=minilm"]
    with pytest.raises(UserError, match=f"^teacher.labels: got 'none', but {said}"):
        trained(write_sentences(tmp_path / "films"), teacher, *sets)
    assert not (tmp_path / "cache" / "runs").exists()


def test_numbers_and_images_have_no_such_teacher(tmp_path: Path):
    teacher = tuned(tmp_path / "teacher", "score")
    with pytest.raises(UserError, match="comes with no trained head for numbers"):
        trained(write_scored(tmp_path / "scored"), teacher, *SCORED)
    with pytest.raises(UserError, match="'digits-cnn' comes with no trained head for 10 classes"):
        train_new(small_text("digits", "teacher.model=digits-cnn", "teacher.labels=none", "student.model=digits-cnn"))
