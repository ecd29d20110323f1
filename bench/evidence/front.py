"""The Pareto front of points with several aims."""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def front(points: ArrayLike) -> NDArray[np.bool_]:
    """Return which points no other beats: none is as good in every aim and better in one.

    Args:
        points: `[N, M]`, M aims that are larger where better. A point with a NaN is never on the front.

    Returns: `[N]`. Equal points are on the front together.
    """
    values = np.asarray(points, np.float64)
    if values.ndim != 2:
        raise ValueError(f"points should be [N, M], not of shape {values.shape}")
    known = ~np.isnan(values).any(axis=1)
    beaten = [((values >= own).all(axis=1) & (values > own).any(axis=1)).any() for own in values]
    return known & ~np.array(beaten, bool)
