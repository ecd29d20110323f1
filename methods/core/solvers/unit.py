"""The form in which the K×K problems are solved: rows of unit length, in NumPy's float64."""

import math

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)


def unit_diagonal(gramian: Tensor) -> tuple[Array, Array]:
    """Return the inner products `[K, K]` of the gradients divided by their lengths, and the lengths `[K]`.

    A zero gradient cannot be divided. It stays zero, with zeros in its row and column, and its length is given as 1.
    """
    products: Array = gramian.numpy()
    lengths = np.sqrt(products.diagonal())
    if not lengths.all():
        lengths = np.where(lengths > 0, lengths, 1.0)
    return products / lengths / lengths[:, np.newaxis], lengths


def columns_of(products: Array) -> Array:
    """Return a matrix `[rank, K]` whose columns have these inner products, to rounding."""
    values, vectors = np.linalg.eigh(products)
    kept = values > len(products) * EPS * values[-1]
    factor: Array = np.sqrt(values[kept])[:, np.newaxis] * vectors.T[kept]
    factor[:, products.diagonal() == 0] = 0  # the column of a zero gradient, where the eigenvectors have rounding
    return factor


def length_of(products: Array, weights: Array, size: float) -> float:
    """Return the length of Σ weights_k g_k, or 0 where its terms cancel so far that what is left may be rounding.

    `size` is the sum of the lengths of the terms.
    """
    square = float(weights @ products @ weights)
    return math.sqrt(square) if square > len(weights) * EPS * size**2 else 0.0
