"""Runs that take a fifth of a second: 250 digits, the two tiny networks, a few epochs."""

from kdaif.config import RunConfig, load_config

SMALL = (
    "device=cpu",
    "data.train_size=250",
    "data.test_size=50",
    "data.validation=0.2",
    "noise.kind=symmetric",
    "noise.rate=0.3",
    "teacher.optim.epochs=4",
    "student.optim.epochs=3",
    "influence.refresh_steps=3",  # several directions an epoch of 4 steps
    "checkpoint_every=2",
)


def small(*sets: str) -> RunConfig:
    """The config after further ``key=value``."""
    return load_config("digits", [*SMALL, *sets])


def as_options(*sets: str) -> list[str]:
    """The same for the command line: ``CONFIG --set key=value ...``."""
    return ["digits", *(word for item in (*SMALL, *sets) for word in ("--set", item))]
