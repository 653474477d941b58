import json
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from kdaif.config import RunConfig, UserError, load_config, lookup, parse_config, presets
from kdaif.runs import new_run

WRONG = [
    # an unknown key names its neighbours
    ({"noize": {}}, "noize: this setting does not exist; the config takes method, seed, device"),
    ({"data": {"sorce": "x"}}, "data.sorce: this setting does not exist; data takes source, columns, task, train_size"),
    ({"data": {"columns": {"img": "x"}}}, "data.columns.img: this setting does not exist; data.columns takes input"),
    ({"teacher": {"optim": {"eopchs": 3}}}, "teacher.optim.eopchs: this setting does not exist; teacher.optim takes"),
    # a wrong type
    ({"seed": "many"}, "seed: got 'many', should be a valid integer."),
    ({"precision": "fp16"}, "precision: got 'fp16', should be 'auto', 'fp32' or 'bf16'."),
    (
        {"influence": {"validation_batch": 1}},
        "influence.validation_batch: got 1, should be greater than or equal to 2.",
    ),
    ({"seed": 1.5}, "seed: got 1.5, should be a valid integer."),
    ({"method": ["kd"]}, "method: got ['kd'], should be a valid string."),
    ({"student": "resnet8"}, "student: got 'resnet8', takes a section of settings."),
    ({"data": None}, "data: got None, takes a section of settings."),
    ({"noise": {"kind": "matrix", "matrix": [[1, "a"]]}}, "noise.matrix.0.1: got 'a', should be a valid number."),
    # a value out of range
    ({"seed": -1}, "seed: got -1, should be greater than or equal to 0."),
    ({"seed": 2**32}, "seed: got 4294967296, should be less than 4294967296."),
    ({"noise": {"kind": "symmetric", "rate": 1}}, "noise.rate: got 1, should be less than 1."),
    ({"noise": {"kind": "symmetric", "rate": float("nan")}}, "noise.rate: got nan, should be a finite number."),
    ({"student": {"optim": {"lr": 0}}}, "student.optim.lr: got 0, should be greater than 0."),
    ({"student": {"optim": {"lr": float("inf")}}}, "student.optim.lr: got inf, should be a finite number."),
    (
        {"student": {"optim": {"batch_size": 1}}},
        "student.optim.batch_size: got 1, should be greater than or equal to 2.",
    ),
    ({"data": {"validation": 0}}, "data.validation: got 0, should be greater than 0."),
    ({"distillation": {"alpha": 2}}, "distillation.alpha: got 2, should be less than or equal to 1."),
    ({"distillation": {"temperature": 1e300}}, "distillation.temperature: got 1e+300, should be less than or equal to"),
    ({"influence": {"scope": "first"}}, "influence.scope: got 'first', should be 'last' or 'all'."),
    ({"precision": "int8"}, "precision: got 'int8', should be 'auto'"),
    # combinations that cannot be
    ({"noise": {"rate": 0.2}}, "noise.rate is set but noise.kind is 'none'; name a kind, for example symmetric."),
    ({"noise": {"kind": "matrix"}}, "noise.kind 'matrix' needs noise.matrix."),
    ({"noise": {"kind": "column"}}, "noise.kind 'column' needs noise.column."),
    ({"noise": {"kind": "matrix", "matrix": [[1]], "rate": 0.1}}, "noise.rate has no meaning for noise.kind 'matrix'"),
]


@pytest.mark.parametrize(("tree", "sentence"), WRONG, ids=[sentence[:30] for _, sentence in WRONG])
def test_a_mistake_is_one_sentence_that_names_the_field(tree, sentence):
    with pytest.raises(UserError) as error:
        parse_config(tree)
    assert str(error.value).startswith(sentence)
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_a_huge_wrong_value_is_not_repeated_whole():
    with pytest.raises(UserError) as error:
        parse_config({"seed": "9" * 10_000 + "x"})
    assert len(str(error.value)) < 200


def test_a_config_cannot_be_changed():
    config = RunConfig()
    with pytest.raises(ValidationError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValidationError, match="frozen"):
        config.student.optim.lr = 1.0
    assert hash(config) == hash(RunConfig())  # a sweep finds done runs by it


@pytest.mark.parametrize("name", presets())
def test_presets_load_and_say_their_name(name):
    assert load_config(name).name == name


def test_unknown_preset_lists_the_known():
    with pytest.raises(
        UserError, match=r"config: 'digitz' is neither a file nor a preset \(.*cifar10-resnet8.*digits.*\)\."
    ):
        load_config("digitz")


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "write"), [("run.yaml", yaml.safe_dump), ("run.json", json.dumps)])
def test_files_round_trip(tmp_path, name, write):
    config = load_config("cifar10-resnet8", ["noise.kind=symmetric", "noise.rate=0.4", "seed=7"])
    path = tmp_path / name
    path.write_text(write(config.model_dump(mode="json")))
    assert load_config(path) == config


def test_json_round_trip():
    matrix = {"noise": {"kind": "matrix", "matrix": [[0.9, 0.1], [0.2, 0.8]]}, "data": {"columns": {"label": "y"}}}
    config = parse_config(matrix)
    assert RunConfig.model_validate_json(config.to_json()) == config
    assert parse_config(json.loads(config.to_json())) == config


def test_a_runs_own_config_file_starts_the_same_run(tmp_path):
    config = load_config("digits", ["seed=3", "influence.update=online"])
    path = new_run(config, tmp_path / "runs").path / "config.json"
    assert load_config(path) == config
    assert load_config(path, ["seed=4"]) == load_config("digits", ["seed=4", "influence.update=online"])


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.yaml", b"", "must hold a mapping of settings, got NoneType"),
        ("list.yaml", b"- a\n- b\n", "must hold a mapping of settings, got list"),
        ("word.yaml", b"digits", "must hold a mapping of settings, got str"),
        ("tab.yaml", b"data:\n\tsource: digits\n", "cannot be read: while scanning"),
        ("binary.yaml", bytes(range(256)), "cannot be read"),
        ("date.yaml", b"seed: 2024-13-45\n", "cannot be read: month must be in 1..12"),
        ("deep.yaml", b"[" * 5000, "cannot be read"),
        ("cut.json", b'{"seed": 1', "cannot be read: Expecting"),
        ("deep.json", b"[" * 200_000, "cannot be read"),
    ],
)
def test_a_file_that_holds_no_config(tmp_path, name, content, said):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        load_config(path)
    assert str(error.value).startswith(f"config: {path} ")
    assert said in str(error.value)
    assert "\n" not in str(error.value)


# --- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_dotted_keys_with_yaml_values():
    config = load_config(
        "digits",
        [
            "noise={kind: symmetric, rate: 0.25}",
            "noise.rate=0.5",  # the later wins
            " student.optim.lr =1e-2",
            "noise.validation=false",
            "data.train_size=null",
            "teacher.checkpoint=a=b.th",
        ],
    )
    assert (config.noise.kind, config.noise.rate, config.noise.validation) == ("symmetric", 0.5, False)
    assert config.student.optim.lr == 0.01
    assert config.data.train_size is None
    assert config.teacher.checkpoint == "a=b.th"
    assert config.student.optim.epochs == load_config("digits").student.optim.epochs  # its neighbours stay


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("noise.rate", "--set: got 'noise.rate', takes key=value, for example noise.rate=0.4."),
        ("=3", "--set: got '=3', takes key=value"),
        ("seed.x=1", "--set: 'seed' in 'seed.x' is a value, not a section."),
        ("a..b=1", "a: this setting does not exist"),
        ("name=", "name: got None, should be a valid string."),
    ],
)
def test_overrides_that_are_none(override, said):
    with pytest.raises(UserError) as error:
        load_config("digits", ["seed=0", override])
    assert str(error.value).startswith(said)


def test_an_override_that_is_no_yaml_is_taken_as_it_is():
    assert load_config("digits", ["name=[draft"]).name == "[draft"


def test_overrides_leave_the_preset_alone():
    before = load_config("digits")
    load_config("digits", ["student.optim.epochs=1"])
    assert load_config("digits") == before


@given(st.text(max_size=30), st.text(max_size=30))
def test_any_override_gives_a_config_or_one_sentence(key, value):
    try:
        config = load_config("digits", [f"{key}={value}"])
    except UserError:
        return
    assert isinstance(config, RunConfig)


def test_lookup_names_field_and_choices():
    assert lookup({"b": 1, "a": 2}, "a", "x.y") == 2
    with pytest.raises(UserError, match=r"^x\.y: got 'c', takes one of a, b\.$"):
        lookup({"b": 1, "a": 2}, "c", "x.y")


def test_paths_are_taken_as_paths_or_words(tmp_path: Path):
    path = tmp_path / "my run.yaml"
    path.write_text("seed: 5\n")
    assert load_config(path).seed == load_config(str(path)).seed == 5
