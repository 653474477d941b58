"""An audit of seconds."""

from kdaif.audit import Effort

TINY = Effort(
    compared=120,
    krylov=8,
    curved=40,
    arnoldi=8,
    samples=150,
    subsets=5,
    repeats=1,
    networks=1,
    left_out=4,
    removed=(0.2,),
)
