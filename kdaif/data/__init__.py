"""Data sources, splits, label noise and batches: from a config's data section to tensors on the device."""

from kdaif.data.augment import AUGMENTATIONS
from kdaif.data.batches import Batch, Batches
from kdaif.data.loading import load
from kdaif.data.noise import NOISE
from kdaif.data.sources import SOURCES
from kdaif.data.split import Dataset, Scale, Split

__all__ = ["AUGMENTATIONS", "NOISE", "SOURCES", "Batch", "Batches", "Dataset", "Scale", "Split", "load"]
