"""Bargaining over an update, solved exactly, in float64, on the host: weights w > 0 with M w = w^(−1/α).

Rows of very different lengths are the normal case. So the problem is solved for rows of unit length, and the weights
are scaled back. It needs no absolute epsilon. With C the cosines, ℓ the lengths, p = 1/α and x = ℓ w, the equation is
C x = b x^(−p), where b = ℓ^(p−1). It holds where the strictly convex potential ½ xᵀC x − Σ b_k x_k^(1−p) / (1−p) is
least over x > 0; at p = 1 the second term is Σ b_k log x_k.

Newton's method finds that point, with steps that cannot overshoot. Let u = Δx / x be the relative step and m the
largest −u_k. Along the step the second derivative grows by (1 − tm)^(−p−1) at most, so that the slope is not yet
positive at t = (1 − (1 + pm)^(−1/p)) / m. Before a step x is scaled by the best common factor, if that is not near 1.
Each of the two loops below does this: one in Python for up to three tasks, where most of NumPy's time would go into
calling its functions.
"""

from operator import mul
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv
from scipy.optimize import nnls
from torch import Tensor

Array = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
LEAST_SHRINKING = 1e-3
"""The least factor by which one step may shrink an x_k: a shorter step is as safe, and no x_k is rounded to zero."""
LAST_STEP = 1e-9
"""The relative step after which x is right to rounding: each step squares the error."""
WORTH_SCALING = 0.1
"""How far from 1 a common factor is used: near the solution it is known less well than what Newton's step does."""
USUAL = 8
"""So many steps find most solutions. Later ones look whether C x is only rounding."""
PATIENCE = 50
"""After so many steps it is asked whether there is a solution at all."""
Ending = Literal["exact", "rounding", "cancels", "slow"]
"""How the search ended: with a step that squares a tiny error; where the equation holds up to the rounding of C x, but
C is so nearly singular that x is not known well; with an x whose rows sum to zero up to rounding; or not yet."""


def bargain(gramian: Tensor, alpha: float = 1.0) -> Tensor:
    """Return the weights `[K]` (> 0) for which M w = w^(−1/alpha), for rows that are not zero.

    They exist unless some of the rows sum to zero with weights ≥ 0. Then the weights that are returned make the limit
    of the updates that belong to C + εI, as ε falls to 0. There the rows that can cancel each other have no say, and
    the others bargain over the directions perpendicular to them. In this case, and only then, some weight is not
    positive.
    """
    products = gramian.numpy()
    lengths = np.sqrt(products.diagonal())
    cosines = products / lengths / lengths[:, np.newaxis]
    if alpha == 1:
        if len(lengths) == 2:
            both = 1 + float(cosines[0, 1])
            return torch.from_numpy((both**-0.5 if both > 2 * EPS else 0.0) / lengths)
        return torch.from_numpy(_solve(cosines, np.ones(len(lengths)), 1.0) / lengths)
    power = 1 / alpha
    # A common factor c of b is a factor c^(1/(1+p)) of x. With 0 as the mean of log b nothing overflows.
    logarithms = (power - 1) * np.log(lengths)
    mean = logarithms.mean()
    solution = _solve(cosines, np.exp(logarithms - mean), power)
    return torch.from_numpy(solution * np.exp(mean / (1 + power)) / lengths)


def _solve(cosines: Array, b: Array, power: float) -> Array:
    """Return x with C x = b x^(−p), or the weights of the limit if there is no such x."""
    search = _few if len(b) <= 3 else _many
    x = b ** (1 / (1 + power))
    while True:
        x, ending = search(cosines, b, power, x)
        if ending == "exact":
            return x
        cancels = _cancelling(cosines)
        if ending == "cancels":
            cancels[x.argmax()] = True
        if cancels.any():
            return _limit(cosines, b, power, cancels)
        if ending == "rounding":
            return x


def _many(cosines: Array, b: Array, power: float, start: Array) -> tuple[Array, Ending]:
    """Return x, and how the search for it ended."""
    cut, best = len(b) * EPS, np.inf
    x = start.copy()
    for taken in range(PATIENCE):
        gains = cosines.dot(x)
        wanted = b * x**-power
        squared = float(x.dot(gains))
        if squared <= cut * float(x.dot(x)):
            return x, "cancels"
        factor = _finite(float(x.dot(wanted)) / squared) ** (1 / (1 + power))
        if abs(factor - 1) > WORTH_SCALING:
            x *= factor
            gains *= factor
            wanted *= factor**-power
        hessian = cosines.copy()
        hessian.flat[:: len(b) + 1] += power * wanted / x
        _, step, failed = dposv(hessian, wanted - gains)
        if failed:
            return x, "cancels"
        relative = step / x
        shrinking = -float(relative.min())
        before, x = x, x + _share(shrinking, power) * step
        largest = max(shrinking, float(relative.max()))
        if largest < LAST_STEP:
            return x, "exact"
        if taken < USUAL:
            continue
        error = float((np.abs(wanted - gains) / (np.abs(cosines) @ before + (1 + power) * wanted)).max())
        if best / 2 <= error <= 2 * cut:
            return x, "rounding"
        best = min(best, error)
    return x, "slow"


def _few(cosines: Array, b: Array, power: float, start: Array) -> tuple[Array, Ending]:
    """As `_many`, in Python."""
    rows, scales = cosines.tolist(), b.tolist()
    tasks = range(len(scales))
    cut, best = len(scales) * EPS, np.inf
    x = start.tolist()
    for taken in range(PATIENCE):
        gains = [sum(map(mul, row, x)) for row in rows]
        wanted = [scale * own**-power for scale, own in zip(scales, x, strict=True)]
        squared = sum(map(mul, x, gains))
        if squared <= cut * sum(map(mul, x, x)):
            return np.array(x), "cancels"
        factor = _finite(sum(map(mul, x, wanted)) / squared) ** (1 / (1 + power))
        if abs(factor - 1) > WORTH_SCALING:
            lifted = factor**-power
            x = [factor * own for own in x]
            gains = [factor * own for own in gains]
            wanted = [lifted * own for own in wanted]
        residual = [wanted[k] - gains[k] for k in tasks]
        # Gauss's elimination of the Hessian, which is positive definite; its lower half is not needed.
        hessian, step = [row[:] for row in rows], residual[:]
        for k in tasks:
            hessian[k][k] += power * wanted[k] / x[k]
        for k in tasks:
            pivot = hessian[k]
            if pivot[k] <= 0:
                return np.array(x), "cancels"
            for i in range(k + 1, len(x)):
                ratio = pivot[i] / pivot[k]
                for j in range(i, len(x)):
                    hessian[i][j] -= ratio * pivot[j]
                step[i] -= ratio * step[k]
        for k in reversed(tasks):
            for j in range(k + 1, len(x)):
                step[k] -= hessian[k][j] * step[j]
            step[k] /= hessian[k][k]
        relative = [change / own for change, own in zip(step, x, strict=True)]
        shrinking = -min(relative)
        share = _share(shrinking, power)
        before, x = x, [own + share * change for own, change in zip(x, step, strict=True)]
        if max(shrinking, *relative) < LAST_STEP:
            return np.array(x), "exact"
        if taken < USUAL:
            continue
        sizes = [sum(map(mul, map(abs, row), before)) + (1 + power) * wanted[k] for k, row in enumerate(rows)]
        error = max(abs(own) / size for own, size in zip(residual, sizes, strict=True))
        if best / 2 <= error <= 2 * cut:
            return np.array(x), "rounding"
        best = min(best, error)
    return np.array(x), "slow"


def _finite(ratio: float) -> float:
    if not ratio < np.inf:
        raise FloatingPointError("the lengths of the gradients are too unlike for this alpha: their powers overflow")
    return ratio


def _share(shrinking: float, power: float) -> float:
    """Return how much of a Newton step is taken whose largest relative decrease is `shrinking`."""
    if shrinking < LAST_STEP:
        return 1.0
    left: float = (1 + power * shrinking) ** (-1 / power)
    return (1 - max(left, LEAST_SHRINKING)) / shrinking


def _cancelling(cosines: Array) -> NDArray[np.bool_]:
    """Return which rows can be cancelled: those whose opposite the others make with weights ≥ 0, up to rounding."""
    count = len(cosines)
    values, vectors = np.linalg.eigh(cosines)
    rows = vectors * np.sqrt(np.where(values > count * EPS * values[-1], values, 0))
    distances = [nnls(np.delete(rows, k, axis=0).T, -rows[k])[1] for k in range(count)]
    found: NDArray[np.bool_] = np.array(distances) <= 2 * count * EPS**0.5
    return found


def _limit(cosines: Array, b: Array, power: float, cancels: NDArray[np.bool_]) -> Array:
    """Return the weights of the limit, where some rows cancel."""
    count = len(b)
    solution = np.zeros(count)
    if cancels.all():
        return solution
    out, stay = cosines[np.ix_(cancels, cancels)], cosines[np.ix_(~cancels, ~cancels)]
    into = np.linalg.pinv(out, rcond=count * EPS, hermitian=True) @ cosines[np.ix_(cancels, ~cancels)]
    rest = stay - cosines[np.ix_(~cancels, cancels)] @ into
    flat = rest.diagonal() <= count * EPS
    if flat.any():  # such a row has nothing perpendicular to those that cancel, up to rounding
        cancels = cancels.copy()
        cancels[np.flatnonzero(~cancels)[flat]] = True
        return _limit(cosines, b, power, cancels)
    lengths = np.sqrt(rest.diagonal())
    inner = _solve(rest / lengths / lengths[:, np.newaxis], b[~cancels] * lengths ** (power - 1), power) / lengths
    correction = -into @ inner
    # These are perpendicular to weights > 0, with which those rows cancel: all are positive by rounding alone.
    solution[cancels] = 0 if (correction > 0).all() else correction
    solution[~cancels] = inner
    return solution
