"""The teacher trained again, on the weights that its own influence gives: it is wrong first of all where the labels are.

A teacher that learnt from wrong labels believes many of them, and hands them on. Once it has said which samples are harmful, a
second one of the same recipe learns without these: from its predecessor's label in their place, as far as that is sure of it. It
then takes over, as teacher and as source of influence. Harmful means for all classes here, however narrow the run's own target.
Where no sample is harmful the first one stays, at no cost.
(Self-training on one's own filtered labels: Lee 2013, "Pseudo-label"; Xie et al., arXiv 1911.04252.)
"""

from dataclasses import replace

from kdaif.adaptive import AdaptiveWeights
from kdaif.teacher import Lesson
from kdaif.weighting import Setting


def lesson(setting: Setting) -> Lesson | None:
    """What the teacher should have learnt; None where it did, or where it was not trained here on given labels."""
    config = setting.config
    if config.influence.teacher == "frozen" or config.teacher.checkpoint or config.teacher.labels != "given":
        return None
    whole = config.model_copy(update={"influence": config.influence.model_copy(update={"target": "all"})})
    first = AdaptiveWeights(replace(setting, config=whole))
    first.weights.close()
    weight = first.weights.table.weight.clamp_max(1.0)
    if bool((weight == 1).all()):
        return None
    trust = (1 - weight) * first.task.trust(first.teacher_logits)
    return Lesson(weight.cpu(), first.task.says(first.teacher_logits).cpu(), trust.cpu())
