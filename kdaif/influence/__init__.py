"""Influence of training samples on a validation loss, exact and nearly free; usable in any training loop (torch alone)."""

from kdaif.influence.direction import PRECONDITIONERS as PRECONDITIONERS
from kdaif.influence.direction import scope_names as scope_names
from kdaif.influence.direction import validation_direction as validation_direction
from kdaif.influence.loop import InfluenceWeights as InfluenceWeights
from kdaif.influence.loop import squared_error as squared_error
from kdaif.influence.probes import FoldProbe as FoldProbe
from kdaif.influence.probes import HeadProbe as HeadProbe
from kdaif.influence.probes import Scores as Scores
from kdaif.influence.probes import make_probe as make_probe
from kdaif.influence.scores import SCORERS as SCORERS
from kdaif.influence.scores import contributions as contributions
from kdaif.influence.statistics import two_groups as two_groups
from kdaif.influence.weights import MAPPINGS as MAPPINGS
from kdaif.influence.weights import SOURCES as SOURCES
from kdaif.influence.weights import UPDATES as UPDATES
from kdaif.influence.weights import Table as Table
