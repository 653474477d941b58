"""Transformers as plain modules: token ids in one tensor -> logits.

A name is one of `SCRATCH` (small networks with fresh weights), or pretrained: `minilm` (MiniLM-L6-H384 out of a package), a
folder or a Hugging Face hub id that `AutoModelForSequenceClassification` takes. ``NAME@1,3,5`` keeps these layers of it alone,
counted from 0: a student made of its teacher's layers, as they were before it was fine-tuned (on labels that may be wrong).
"""

import inspect
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from jaxtyping import Float, Int32
from safetensors.torch import load_file
from torch import Tensor, nn

from kdaif.config import UserError
from kdaif.outside import pretrained


class Vocabulary(NamedTuple):
    """What a network must know of the tokenizer."""

    source: str  # where it was found, or a word for one that was learnt
    tokens: dict[str, int]
    pad: int


class TextClassifier(nn.Module):
    """A `transformers` network fed with `inputs`: row 0 token ids, -1 after the last; row 1 the part of a pair, 0 or 1.

    What no member of a batch needs is cut off first, and the attention mask is made of the rest, so that padding costs nothing
    and changes nothing. `classes`: the names of those that its head was trained to tell apart; none of a head with fresh weights.
    """

    def __init__(self, network: nn.Module, pad: int, classes: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network, self.pad, self.classes = network, pad, classes
        config: Any = network.config
        taken = inspect.signature(network.forward).parameters
        self.pairs = "token_type_ids" in taken and getattr(config, "type_vocab_size", 0) > 1

    @property
    def embeddings(self) -> nn.Module:
        """What turns token ids into vectors, before positions and parts of a pair are added."""
        found: nn.Module = self.network.get_input_embeddings()  # type: ignore[operator]
        return found

    def forward(self, inputs: Int32[Tensor, "batch 2 length"]) -> Float[Tensor, "batch classes"]:
        length = int((inputs[:, 0] >= 0).sum(1).max())
        ids, parts = inputs[:, :, :length].long().unbind(1)
        there = ids >= 0
        given = {"input_ids": ids.where(there, self.pad), "attention_mask": there.long()}
        if self.pairs:
            given["token_type_ids"] = parts
        return self.network(**given).logits


class MeanPooled(nn.Module):
    """A sentence embedder with a linear head on what it was trained to embed a sentence as: the mean over its tokens.

    (MiniLM's own [CLS] pooler was not trained with it: logistic regression on 2,700 reviews with 40 % flipped labels reaches
    51 % on it and 66 % on the mean.)
    """

    def __init__(self, encoder: Any, num_classes: int) -> None:
        super().__init__()
        encoder.pooler = None
        self.config, self.encoder = encoder.config, encoder
        self.classifier = nn.Linear(encoder.config.hidden_size, num_classes)

    def get_input_embeddings(self) -> Any:
        return self.encoder.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Any:
        from transformers.modeling_outputs import SequenceClassifierOutput

        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask, **given).last_hidden_state
        there = attention_mask[..., None].to(hidden.dtype)
        return SequenceClassifierOutput(logits=self.classifier((hidden * there).sum(1) / there.sum(1)))


def _take_head(network: MeanPooled, source: str) -> tuple[str, ...]:
    """A folder's own linear layer on the mean becomes the head, where it fits; its classes, none where there is no such layer."""
    kept, head = Path(source) / DENSE, network.classifier
    if not (kept / "model.safetensors").is_file():
        return ()
    about = json.loads((kept / "config.json").read_text())
    if about.get("out_features") != head.out_features or about.get("activation_function") != NO_ACTIVATION:
        return ()
    weights = {name.removeprefix("linear."): tensor for name, tensor in load_file(kept / "model.safetensors").items()}
    if {name: tensor.shape for name, tensor in weights.items()} != {n: t.shape for n, t in head.state_dict().items()}:
        return ()
    head.load_state_dict(weights)
    return _class_names(network.config, head.out_features)


def _class_names(config: Any, count: int) -> tuple[str, ...]:
    """What a trained head tells apart; none of one whose outputs are not one class out of several."""
    if getattr(config, "problem_type", None) not in (None, "single_label_classification"):
        return ()
    return tuple(str(config.id2label.get(number, f"LABEL_{number}")) for number in range(count))


def _embeds_by_mean(source: str) -> bool:
    """Whether a folder holds a model of sentence-transformers that takes the mean over tokens."""
    pooling = Path(source) / "1_Pooling" / "config.json"
    return pooling.is_file() and bool(json.loads(pooling.read_text()).get("pooling_mode_mean_tokens"))


def _bert(size: int, pad: int, *, width: int, layers: int) -> Any:
    from transformers import BertConfig

    return BertConfig(
        vocab_size=size,
        pad_token_id=pad,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
    )


def _distilbert(size: int, pad: int, *, width: int, layers: int) -> Any:
    from transformers import DistilBertConfig

    return DistilBertConfig(
        vocab_size=size, pad_token_id=pad, dim=width, n_layers=layers, n_heads=width // 32, hidden_dim=4 * width
    )


# name -> configuration(vocabulary size, padding id): BERT's small sizes (Turc et al., arXiv 1908.08962) and smaller
SCRATCH: dict[str, Callable[[int, int], Any]] = {
    "bert-micro": partial(_bert, width=64, layers=2),
    "bert-tiny": partial(_bert, width=128, layers=2),
    "bert-mini": partial(_bert, width=256, layers=4),
    "distilbert-micro": partial(_distilbert, width=64, layers=2),
}
# a linear layer on the pooled tokens, in folders of sentence-transformers
DENSE, NO_ACTIVATION = "2_Dense", "torch.nn.modules.linear.Identity"
SHORT = {"minilm-3": "minilm@1,3,5"}


def build_text(name: str, num_classes: int, vocabulary: Vocabulary, field: str = "student.model") -> TextClassifier:
    """The network of that name; torch's global seed decides fresh weights.

    Raises `UserError`, which names `field`, for one that cannot be had, or that reads other tokens than the data's.
    """
    from transformers import AutoModelForSequenceClassification

    classes: tuple[str, ...] = ()
    with quietly():
        if name in SCRATCH:
            config = SCRATCH[name](len(vocabulary.tokens), vocabulary.pad)
            config.num_labels = num_classes
            network = AutoModelForSequenceClassification.from_config(config, attn_implementation="eager")
        else:
            network, classes = _pretrained(SHORT.get(name, name), num_classes, vocabulary, field)
    if getattr(network.config, "pad_token_id", None) is None:  # without it a decoder refuses batches
        network.config.pad_token_id = vocabulary.pad
    _head_last(network)
    return TextClassifier(network.float(), vocabulary.pad, classes)


def _pretrained(name: str, num_classes: int, vocabulary: Vocabulary, field: str) -> tuple[nn.Module, tuple[str, ...]]:
    """A network, and the classes of its head where that is not made anew."""
    from transformers import AutoModel, AutoModelForSequenceClassification

    base, _, chosen = name.partition("@")
    source = pretrained(base, field)
    # eager attention is derivable twice and in forward mode, and no slower at these lengths; a pickle could run code
    options: dict[str, Any] = {"attn_implementation": "eager", "use_safetensors": True}
    classes: tuple[str, ...] = ()
    try:
        if _embeds_by_mean(source):
            network: Any = MeanPooled(AutoModel.from_pretrained(source, **options), num_classes)
            classes = _take_head(network, source)
        else:  # a head of other classes is made anew
            options |= {"ignore_mismatched_sizes": True, "output_loading_info": True}
            network, found = AutoModelForSequenceClassification.from_pretrained(
                source, num_labels=num_classes, **options
            )
            if not found["missing_keys"] and not found["mismatched_keys"]:
                classes = _class_names(network.config, num_classes)
    except Exception as error:  # hub, HTTP client and file readers have no common base
        said = " ".join(str(error).split())[:200].rstrip(".")
        raise UserError(
            f"{field}: got {name!r}, takes {', '.join([*SCRATCH, 'minilm', *SHORT])}, or the folder or Hugging Face hub id "
            f"of a text model with safetensors ({said})."
        ) from None
    _check_tokens(base, source, network, vocabulary, field)
    return (_keep_layers(network, chosen, name, field), ()) if chosen else (network, classes)


def _head_last(network: nn.Module) -> None:
    """The head becomes the last of the modules, where the influence engine looks for it; XLM-RoBERTa has it first."""
    body = getattr(network, "base_model_prefix", "")
    if body in network._modules:
        for name in [name for name in network._modules if name != body]:
            network._modules[name] = network._modules.pop(name)


def _check_tokens(name: str, source: str, network: Any, vocabulary: Vocabulary, field: str) -> None:
    """Raises `UserError` where the network learnt other tokens than the data are made of."""
    if source == vocabulary.source:
        return
    from transformers import AutoTokenizer

    try:
        same = AutoTokenizer.from_pretrained(source).get_vocab() == vocabulary.tokens
    except Exception:  # a folder may hold a network alone: then its size is all that can be compared
        same = network.config.vocab_size == len(vocabulary.tokens)
    if not same:
        raise UserError(f"{field}: {name!r} reads other tokens than data.tokenizer makes; takes data.tokenizer={name}.")


def _keep_layers(network: Any, chosen: str, name: str, field: str) -> nn.Module:
    """The network with some of its layers alone; the first list of them in it counts."""
    depth = network.config.num_hidden_layers
    if _place_of_layers(network) is None:
        raise UserError(f"{field}: {name.partition('@')[0]!r} shares its layers, takes it without a choice of layers.")
    try:
        numbers = [int(number) for number in chosen.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 <= number < depth for number in numbers):
        raise UserError(
            f"{field}: got {name!r}, takes layers from 0 to {depth - 1} with commas between, as in NAME@1,3,5."
        )
    place = _place_of_layers(network)
    assert place is not None
    layers: Any = network.get_submodule(place)
    network.set_submodule(place, nn.ModuleList([layers[number] for number in numbers]))
    network.config.num_hidden_layers = len(numbers)
    if kinds := getattr(network.config, "layer_types", None):
        network.config.layer_types = [kinds[number] for number in numbers]
    return network


def _place_of_layers(network: Any) -> str | None:
    """Where a `transformers` network has its list of layers; None where it shares or hides them."""
    depth = getattr(network.config, "num_hidden_layers", None)
    lists = (path for path, part in network.named_modules() if isinstance(part, nn.ModuleList) and len(part) == depth)
    return next(lists, None)


def hidden_layers(model: nn.Module) -> list[nn.Module]:
    """The transformer layers of a text network, first to last; none for any other network."""
    place = _place_of_layers(model.network) if isinstance(model, TextClassifier) else None
    return [] if place is None else list(model.get_submodule(f"network.{place}").children())


def hidden_width(model: nn.Module) -> int:
    """Components of a text network's hidden states."""
    assert isinstance(model, TextClassifier)
    config: Any = model.network.config
    return int(config.hidden_size)


@contextmanager
def quietly() -> Iterator[None]:
    """transformers says nothing of heads that are made anew, and draws no bars."""
    from transformers import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
