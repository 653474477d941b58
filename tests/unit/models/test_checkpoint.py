"""Weights survive the disk; whatever is no fitting file of plain weights is refused with one sentence and changes nothing."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import BartConfig, BartForSequenceClassification

from kdaif.config import UserError
from kdaif.models import InputStats, build, load_checkpoint, save_checkpoint


def small(num_classes: int = 10, channels: int = 1, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("digits-cnn-small", num_classes, channels)


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def refusal(path: Path, model: nn.Module | None = None) -> str:
    model = model or small(seed=1)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(UserError) as caught:
        load_checkpoint(model, path, "teacher.checkpoint")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    sentence = str(caught.value)
    assert sentence.startswith("teacher.checkpoint: ")
    assert str(path) in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("stats", [None, InputStats([0.1], [0.3])])
def test_safetensors_round_trip_carries_weights_and_input_statistics(tmp_path: Path, stats: InputStats | None) -> None:
    model = small().to(memory_format=torch.channels_last)
    model(torch.randn(8, 1, 8, 8))  # moves the BatchNorm statistics
    save_checkpoint(model, tmp_path / "student.safetensors", stats)
    loaded = small(seed=1)
    assert load_checkpoint(loaded, tmp_path / "student.safetensors") == stats
    assert same_weights(model, loaded)
    assert [file.name for file in tmp_path.iterdir()] == ["student.safetensors"]


def test_saving_replaces_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    save_checkpoint(small(seed=1), path)
    save_checkpoint(small(seed=2), path)
    loaded = small()
    load_checkpoint(loaded, path)
    assert same_weights(loaded, small(seed=2))


def as_is(state: dict[str, Tensor]) -> Any:
    return state


def data_parallel(state: dict[str, Tensor]) -> Any:
    return {"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}, "best_prec1": 91.7}


def under_model(state: dict[str, Tensor]) -> Any:
    return {"model": state, "epoch": 240, "best_acc": torch.tensor(74.6)}


def without_batch_counter(state: dict[str, Tensor]) -> Any:
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}


@pytest.mark.parametrize("wrap", [as_is, data_parallel, under_model, without_batch_counter])
def test_torch_state_dicts_load_in_their_usual_wrappings(
    tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]
) -> None:
    model = small()
    torch.save(wrap(model.state_dict()), tmp_path / "weights.pt")
    loaded = small(seed=1)
    assert load_checkpoint(loaded, tmp_path / "weights.pt") is None
    assert same_weights(model, loaded)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert "is no file" in refusal(tmp_path / "nowhere.pt")
    assert "is no file" in refusal(tmp_path)


class Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.trace,)


def test_code_in_a_pickle_never_runs(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    torch.save({"state_dict": Bomb(trace)}, tmp_path / "torch.pt")
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(Bomb(trace)))
    for name in ("torch.pt", "plain.pkl"):
        assert "holds no plain weights" in refusal(tmp_path / name)
    assert not trace.exists()


@pytest.mark.parametrize(
    "content", [[1, 2], {"state_dict": [1]}, {"epoch": 3, "lr": 0.1}, {"model": {"a": "b"}}, None, 7]
)
def test_content_that_is_no_mapping_of_tensors(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "weights.pt")
    assert "holds no plain weights" in refusal(tmp_path / "weights.pt")


def test_a_whole_pickled_model(tmp_path: Path) -> None:
    torch.save(small(), tmp_path / "model.pt")
    assert "a whole pickled model is refused" in refusal(tmp_path / "model.pt")


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_damaged_bytes(tmp_path: Path, suffix: str) -> None:
    good = tmp_path / f"good{suffix}"
    if suffix == ".pt":
        torch.save(small().state_dict(), good)
    else:
        save_checkpoint(small(), good)
    whole, bad = good.read_bytes(), tmp_path / f"bad{suffix}"
    random = torch.Generator().manual_seed(0)
    noise = bytes(torch.randint(0, 256, (500,), generator=random).tolist())
    cut = [whole[:length] for length in (0, 1, 7, 9, 100, 1000, len(whole) // 2, len(whole) - 1)]
    for damaged in [*cut, noise, b"not weights", noise + whole[500:], b"\x80\x02" + noise]:
        bad.write_bytes(damaged)
        assert "holds no plain weights" in refusal(bad)


def test_weights_of_another_number_of_classes(tmp_path: Path) -> None:
    save_checkpoint(small(num_classes=100), tmp_path / "a.safetensors")
    assert "it has 100 classes, the data 10." in refusal(tmp_path / "a.safetensors")


def test_weights_of_another_number_of_channels(tmp_path: Path) -> None:
    save_checkpoint(small(channels=3), tmp_path / "a.safetensors")
    assert "blocks.0.0.weight is of shape (8, 3, 3, 3), takes (8, 1, 3, 3)" in refusal(tmp_path / "a.safetensors")


def test_weights_of_a_deeper_and_a_shallower_network(tmp_path: Path) -> None:
    deep, shallow = build("resnet14", 10, 3), build("resnet8", 10, 3)
    save_checkpoint(deep, tmp_path / "deep.safetensors")
    save_checkpoint(shallow, tmp_path / "shallow.safetensors")
    assert "it also holds layer1.1." in refusal(tmp_path / "deep.safetensors", shallow)
    assert "it lacks layer1.1." in refusal(tmp_path / "shallow.safetensors", deep)


def test_a_missing_bias_is_named(tmp_path: Path) -> None:
    state = small().state_dict()
    del state["linear.bias"]
    torch.save(state, tmp_path / "a.pt")
    assert refusal(tmp_path / "a.pt").endswith("it lacks linear.bias.")


def tied(seed: int = 0) -> BartForSequenceClassification:
    """Encoder, decoder and model share one table of embeddings."""
    torch.manual_seed(seed)
    layers = {"encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
    sizes = {"d_model": 16, "encoder_ffn_dim": 32, "decoder_ffn_dim": 32, "max_position_embeddings": 40}
    return BartForSequenceClassification(BartConfig(vocab_size=60, num_labels=3, **layers, **sizes))


def test_tied_weights_are_written_once_and_stay_tied(tmp_path: Path) -> None:
    model, loaded = tied(), tied(seed=1)
    save_checkpoint(model, tmp_path / "tied.safetensors")
    assert sum("shared" in name or "embed_tokens" in name for name in load_file(tmp_path / "tied.safetensors")) == 1
    load_checkpoint(loaded, tmp_path / "tied.safetensors")
    assert same_weights(model, loaded)
    assert loaded.model.shared.weight is loaded.model.encoder.embed_tokens.weight
    assert loaded.model.shared.weight is loaded.model.decoder.embed_tokens.weight


def test_tied_weights_load_under_any_of_their_names(tmp_path: Path) -> None:
    model = tied()
    torch.save(model.state_dict(), tmp_path / "all.pt")
    torch.save({n: t for n, t in model.state_dict().items() if "shared" not in n}, tmp_path / "some.pt")
    for name in ("all.pt", "some.pt"):
        loaded = tied(seed=1)
        load_checkpoint(loaded, tmp_path / name)
        assert same_weights(model, loaded)


def test_weights_apart_do_not_load_into_tied_ones(tmp_path: Path) -> None:
    state = tied().state_dict()
    state["model.decoder.embed_tokens.weight"] = torch.zeros(60, 16)
    torch.save(state, tmp_path / "apart.pt")
    assert "shared.weight and model.decoder.embed_tokens.weight apart, which the model ties" in refusal(
        tmp_path / "apart.pt", tied(seed=1)
    )
    del state["model.decoder.embed_tokens.weight"], state["model.encoder.embed_tokens.weight"]
    del state["model.shared.weight"]
    torch.save(state, tmp_path / "none.pt")
    assert "it lacks model.shared.weight and 2 more" in refusal(tmp_path / "none.pt", tied(seed=1))
