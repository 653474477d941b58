"""When a prediction of a number is another than the given one."""

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.4826  # standard deviation of a normal over its median absolute deviation


def far(said: NDArray[np.floating], given: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Where |said - given| is larger than the spread of these residuals over all samples handed in, all (n,).

    The spread is robust, 1.4826 times the median distance, for altered labels must not set the scale that they are told by; of
    residuals that are normal around 0 it is their standard deviation, and a third of them counts as far. NaN is far from nothing.
    """
    distance = np.abs(said - given)
    known = distance[np.isfinite(distance)]
    spread = NORMAL * np.median(known) if len(known) else 0.0
    return np.asarray(distance > spread)
