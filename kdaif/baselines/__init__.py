"""What KD-AIF is compared with: published ways to train on doubtful labels, as methods in the same harness.

`selection.py` leaves samples out by their losses or margins; `meta.py` learns weights from the validation target that KD-AIF
uses by default. In all of them a weight acts on a sample's whole loss, label and teacher term, as the oracle's does.
Definitions are the papers', the code is ours; what had to differ is said where it does.
"""

from kdaif.baselines.meta import L2RW, MetaWeightNet, check_meta
from kdaif.baselines.selection import SmallLoss, aum, confident_learning

__all__ = ["L2RW", "MetaWeightNet", "SmallLoss", "aum", "check_meta", "confident_learning"]
