"""The house style: colours with one meaning each, words for terms, and how figures are spelled."""

from collections.abc import Mapping
from types import MappingProxyType

# safe for colour-blind eyes, readable on paper white and on ink
HARMFUL, NEUTRAL, HELPFUL = "#D55E00", "#8A9099", "#009E73"
VERDICT_COLORS: Mapping[str, str] = MappingProxyType({"harmful": HARMFUL, "neutral": NEUTRAL, "helpful": HELPFUL})
VERDICT_SIGNS: Mapping[str, str] = MappingProxyType({"harmful": "▼", "neutral": "●", "helpful": "▲"})
ACCENT, GOLD, VIOLET = "#1F83C4", "#C98A00", "#B07AA1"
METHOD_COLORS: Mapping[str, str] = MappingProxyType({"ce": VIOLET, "kd": NEUTRAL, "kd-aif": ACCENT, "oracle": GOLD})

STATE_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "queued": "○ Queued",
        "running": "▶ Running",
        "done": "✓ Done",
        "failed": "✕ Failed",
        "cancelled": "– Cancelled",
        "interrupted": "! Interrupted",
    }
)

GLOSSARY: Mapping[str, str] = MappingProxyType(
    {
        "Influence": "How much a training sample lowers the student's validation loss, in standard errors above zero: "
        "positive helps, negative harms, between −2 and 2 it may be chance.",
        "Weight": "How much a sample, as it is labelled, counts in training: 1 is neutral, 0 is left out.",
        "Looks harmful": "KD-AIF has taken more than half of the sample's neutral weight away.",
        "Flipped": "The given label is known to be wrong, because the experiment put it there.",
        "Teacher and student": "The big trained network, and the small one that learns from it and from the labels.",
        "Vanilla KD": "Knowledge distillation with every sample counting the same: what KD-AIF is measured against.",
        "KD-AIF": "Knowledge distillation with adaptive influence weights: harmful samples count less.",
        "Oracle": "A perfect label cleaner: it knows the flipped labels and leaves exactly those samples out.",
        "Gap recovered": "The gain of KD-AIF over vanilla KD, as a share of the oracle's gain, over the seeds that all three "
        "have.",
        "AUROC": "How well influence tells flipped labels from right ones: 0.5 is chance, 1 is perfect.",
        "Confidence": "The probability that the student gives to the given label: 0 to 1. Where labels are numbers it "
        "is e to the minus loss: 1 is an exact prediction.",
        "Variability": "How much a sample's value changes from epoch to epoch: its standard deviation over the epochs.",
        "Detection curve": "The share of the wrong labels found when samples are inspected in a detector's order.",
        "RGR": "Rank graduation robustness: how well one run's order of the samples stands for the order of another: 1 is the "
        "same, 0.5 is chance, 0 is reversed.",
        "Spearman": "How far two rankings of the same samples agree: 1 is the same order, 0 is chance.",
        "Kendall tau": "Pairs of samples that two rankings order alike, less those they order apart: 1 to −1, chance 0.",
        "Top-k overlap": "How many of the k most harmful samples two runs have in common; chance is k / n.",
        "Data map": "Every sample by its mean over the epochs and its variability: easy, ambiguous and hard ones part.",
        "Foretold": "The change of accuracy on validation when only the student's last layer is fitted anew with the marks.",
        "Slice": "A set of samples that was saved under a name and is kept with the run.",
        "Label quality": "0 to 1, lower is worse: the weight of the label, as exported for cleanlab and pandas.",
        "Like": "Two samples are alike when the student's last layer sees the same features: 1 is the same direction.",
        "Heat map": "Which parts of a sample raise (green) or lower (vermilion) a network's logit of a class.",
        "Loss": "How surprised the network is by the given label, in nats; 0 is not at all. Where labels are numbers the squared "
        "error over their variance.",
        "Accuracy": "The share of the samples given their right class; where labels are numbers Pearson's correlation with them.",
    }
)


def percent(share: float | None, digits: int = 0) -> str:
    """0.784 -> '78 %'; unknown -> '–'."""
    return "–" if share is None or share != share else f"{100 * share:.{digits}f} %"


def points(difference: float, digits: int = 1) -> str:
    """A difference of two shares in percentage points with its sign: 0.021 -> '+2.1'."""
    text = f"{100 * difference:+.{digits}f}".replace("-", "−")
    return text.replace("−", "±").replace("+", "±") if float(text.replace("−", "-")) == 0 else text


def duration(seconds: float) -> str:
    """75 -> '1 min 15 s'."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def ink(text: str, color: str) -> str:
    """Markdown of large, coloured words in a headline; the words carry the meaning too."""
    return f':color[{text}]{{foreground="{color}"}}'
