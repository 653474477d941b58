"""Measures, once a run, how its student sees every training and validation sample; `kdaif.relations` reads it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kdaif.audit.checkpoint import open_case, open_network
from kdaif.data import Split
from kdaif.influence import HeadProbe, make_probe, scope_names
from kdaif.influence.probes import PAIRWISE, head_rows
from kdaif.relations import Relations
from kdaif.runs import Run, cache_root, save_inputs

CHUNK = 1024  # samples between two words of progress
Say = Callable[[float, str], object]  # share done 0..1, what is being done


def measure(run: Run, data_root: Path | None = None, say: Say = lambda share, what: None) -> Relations:
    """The relations of a finished run, kept in its folder; seconds, most of them a pass of the student over the data.

    Raises `UserError` for a run that is not done, has no teacher, or whose data are gone.
    """
    say(0.0, "reading the data")
    case = open_case(run, data_root)
    student = open_network(case, "student").eval().requires_grad_(True)
    names = scope_names(student, "last")

    say(0.2, "looking at the validation samples")
    targets = case.targets()
    held_pairs = [case.pair(part) for part in _parts(targets)]
    influence = case.config.influence
    # one with pairwise products, as a run with scope `last` has it
    kind = influence.preconditioner if influence.preconditioner in PAIRWISE else "whiten"
    held = make_probe(student, case.criterion, held_pairs, preconditioner=kind, damping=case.damping)
    assert isinstance(held, HeadProbe)
    train, scale, features, gradients = case.dataset.train, case.dataset.scale, [], []
    for place, chunk in enumerate(_parts(train)):
        say(0.3 + 0.7 * place * CHUNK / len(train), "looking at the training samples")
        a, g = head_rows(student, case.scored_criterion, [case.pair(chunk)], names)
        features.append(_plain(a))
        gradients.append(_plain(g))
    found = Relations(
        features=np.concatenate(features),
        gradients=np.concatenate(gradients),
        held_features=_plain(held.inputs),
        held_plain=_plain(head_rows(student, case.criterion, held_pairs, names)[0]),
        held_gradients=_plain(held.gradients),
        held_labels=targets.labels.numpy() if scale is None else scale.own(targets.labels.numpy()),
        held_ids=targets.ids.astype(str),
        held_words=np.array(targets.refs if targets.texts is None else [" / ".join(parts) for parts in targets.texts]),
        held_inputs=save_inputs(targets.images(), cache_root()) if targets.texts is None else "",
    )
    run.write_derived("relations", found._asdict())
    return found


def _parts(split: Split) -> Iterator[Split]:
    """The split in its order, a few samples at a time."""
    for start in range(0, len(split), CHUNK):
        yield split.subset(torch.arange(start, min(start + CHUNK, len(split))))


def _plain(tensor: Tensor) -> np.ndarray:
    return np.asarray(tensor.detach().cpu().float().numpy())
