"""Gradients whose K×K problems are solved in 80 digits, for test_optima.py: 200 matrices, the best values to 30 digits.

python tests/methods/make_optima.py > tests/methods/optima.json

Rows are whole numbers times powers of two, so a Gramian in float64 is exact. The minima are found without any solver of
this project, by active sets and Newton steps in 80 digits that begin at nothing; each is held to its duality gap, or
to its equation, to 50 digits. Every problem is stated for rows of unit length: x_k is a weight times its row's length.
"""

import json
import random

from mpmath import mp, mpf

mp.dps = 80
EXACT = mpf(10) ** -50
KINDS = ("random", "conflicting", "collinear", "low rank", "opposite")
COUNTS = {2: 12, 3: 12, 8: 12, 40: 4}
"""So many matrices of each kind, by K."""
C = 0.5
"""CAGrad's, exact in binary."""
POWERS = {"nash": mpf(1), "fair": mpf("0.5")}
"""1/α: Nash-MTL is α = 1, and FairGrad is run with 2."""


class Rows:
    """Integer rows times powers of two, their exact Gramian, and the one of rows of unit length."""

    def __init__(self, rows, exponents):
        self.count = len(rows)
        self.matrix = [[entry << e for entry in row] for row, e in zip(rows, exponents, strict=True)]
        self.gramian = [
            [sum(a * b for a, b in zip(one, other, strict=True)) for other in self.matrix] for one in self.matrix
        ]
        self.lengths = [mp.sqrt(self.gramian[k][k]) for k in range(self.count)]
        self.cosines = [
            [product / (one * other) for product, other in zip(products, self.lengths, strict=True)]
            for products, one in zip(self.gramian, self.lengths, strict=True)
        ]

    def least(self, problem):
        """The lower bounds of the weights in a projection: of one row, or of the mean."""
        if problem == "mean":
            return [1 / self.count] * self.count
        return [float(k == self.count // 2) for k in range(self.count)]


dot = mp.fdot


def times(matrix, vector):
    return [dot(row, vector) for row in matrix]


def square(matrix, vector):
    return dot(vector, times(matrix, vector))


# What is minimised, of weights that may be a solver's ------------------------------------------------------


def value(problem, rows, weights):
    """The value of a problem at these weights."""
    weights = [mpf(w) for w in weights]
    x = [w * length for w, length in zip(weights, rows.lengths, strict=True)]
    if problem in ("hull", "row", "mean"):
        return square(rows.cosines, x)
    if problem == "cagrad":
        share = [length / rows.count for length in rows.lengths]
        mean = times(rows.cosines, share)
        return dot(x, mean) + C * mp.sqrt(dot(share, mean) * square(rows.cosines, x))
    utility = {"nash": mp.log, "fair": lambda w: 2 * mp.sqrt(w)}[problem]
    return square(rows.cosines, x) / 2 - mp.fsum(utility(w) for w in weights)


def gap(problem, rows, weights, known):
    """How much more weights give than the best, relative to it: `known` are the best value and its scale, as stored."""
    best, size = map(mpf, known)
    # The zero of a potential has no meaning. It is compared with the squared length of the result.
    smallest = {"nash": 1, "fair": 1, "cagrad": mpf("1e-6")}.get(problem, mpf("1e-12")) * size
    return float((value(problem, rows, weights) - best) / max(abs(best), smallest))


# Solutions -------------------------------------------------------------------------------------------------


def solve(matrix, right):
    """The solution of a positive definite system, by LDLᵀ."""
    size = len(right)
    lower, diagonal, z = [], [], []
    for i in range(size):
        row = []
        for j in range(i):
            row.append(matrix[i][j] - mp.fdot(row, lower[j]))
        scaled = [entry / d for entry, d in zip(row, diagonal, strict=True)]
        diagonal.append(matrix[i][i] - dot(row, scaled))
        lower.append(scaled)
        z.append(right[i] - dot(scaled, z))
    z = [entry / d for entry, d in zip(z, diagonal, strict=True)]
    for i in reversed(range(size)):
        z[i] -= mp.fsum(lower[j][i] * z[j] for j in range(i + 1, size))
    return z


def nonnegative(matrix, right):
    """Minimise ½ xᵀAx − bᵀx over x ≥ 0: Lawson and Hanson 1974, chapter 23, on the normal equations."""
    x, inside = [mpf(0)] * len(right), []
    while True:
        slope = [b - product for b, product in zip(right, times(matrix, x), strict=True)]
        outside = [k for k in range(len(right)) if k not in inside]
        best = max(outside, key=slope.__getitem__, default=None)
        if best is None or slope[best] <= EXACT:
            return x
        inside.append(best)
        while True:
            z = solve([[matrix[i][j] for j in inside] for i in inside], [right[i] for i in inside])
            if min(z) > 0:
                break
            far = min(x[i] / (x[i] - to) for i, to in zip(inside, z, strict=True) if to <= 0)
            for i, to in zip(inside, z, strict=True):
                x[i] += far * (to - x[i])
            inside = [i for i, to in zip(inside, z, strict=True) if to > 0 or x[i] > EXACT]
            x = [entry if i in inside else mpf(0) for i, entry in enumerate(x)]
        for i, to in zip(inside, z, strict=True):
            x[i] = to


def hull(gramian, lengths):
    """Weights of the shortest vector in the convex hull."""
    shares = [min(lengths) / length for length in lengths]
    matrix = [
        [product / (lengths[i] * lengths[j]) + shares[i] * shares[j] for j, product in enumerate(products)]
        for i, products in enumerate(gramian)
    ]
    weights = [entry / length for entry, length in zip(nonnegative(matrix, shares), lengths, strict=True)]
    total = mp.fsum(weights)
    return [w / total for w in weights]


def cone(rows, least):
    """Weights ≥ least of the shortest vector."""
    start = [mpf(low) * length for low, length in zip(least, rows.lengths, strict=True)]
    more = nonnegative(rows.cosines, [-product for product in times(rows.cosines, start)])
    return [low + entry / length for low, entry, length in zip(least, more, rows.lengths, strict=True)]


def cagrad(rows):
    """Weights of CAGrad's dual, by the length t of the vector that they make.

    With t known, ½ t + ½ |g_w|²/t in the place of |g_w| makes it the shortest vector in the hull of the rows
    g_k + t/γ g_0, where γ is c |g_0|. With the support known, too, weights are linear in t, and t has a closed form.
    """
    count, gramian = rows.count, [[mpf(entry) for entry in own] for own in rows.gramian]
    mean = [mp.fsum(own) / count for own in gramian]
    gamma = C * mp.sqrt(mp.fsum(mean) / count)

    def at(t):
        shift = t / gamma
        moved = [
            [entry + shift * (mean[i] + mean[j]) + shift**2 * (gamma / C) ** 2 for j, entry in enumerate(own)]
            for i, own in enumerate(gramian)
        ]
        return hull(moved, [mp.sqrt(moved[k][k]) for k in range(count)])

    weights = hull(gramian, rows.lengths)
    if gap_of_cagrad(rows, weights) <= EXACT:
        return weights  # the shortest vector itself, which is zero
    low, high = mpf(0), max(rows.lengths)
    t = dot(weights, rows.lengths) / 2
    for _ in range(400):
        weights = at(t)
        if gap_of_cagrad(rows, weights) <= EXACT:
            return weights
        low, high = (t, high) if square(gramian, weights) > t**2 else (low, t)
        t = length_on(gramian, [k for k in range(count) if weights[k] > 0], mean, gamma)
        if t is None or not low < t < high:
            t = (low + high) / 2
    raise ArithmeticError("no length was found")


def length_on(gramian, support, mean, gamma):
    """The length |g_w| at which g_w · g_0 + γ |g_w| has the same slope in all of a support; None if there is none."""
    inner = [[gramian[i][j] for j in support] for i in support]
    try:
        one, other = solve(inner, [mpf(1)] * len(support)), solve(inner, [mean[k] for k in support])
    except ZeroDivisionError:
        return None
    ratio = mp.fsum(other) / mp.fsum(one)
    rest = 1 - square(inner, [(a * ratio - b) / gamma for a, b in zip(one, other, strict=True)])
    inverse = mp.fsum(one) * rest
    return 1 / mp.sqrt(inverse) if inverse > 0 else None


def gap_of_cagrad(rows, weights):
    """The duality gap, relative to |g_0| times the size of the sum: the value less the smallest product g_k · d."""
    share = [mpf(1) / rows.count] * rows.count
    mean = times(rows.gramian, share)
    own = times(rows.gramian, weights)
    center, length = mp.sqrt(dot(share, mean)), mp.sqrt(max(mpf(0), dot(weights, own)))
    scale = center * dot(weights, rows.lengths)
    if length <= EXACT * dot(weights, rows.lengths):  # any d in the ball will do: the nearest in the dual cone
        step = cone(rows, share)
        products = times(rows.gramian, step)
        away = [a - b for a, b in zip(step, share, strict=True)]
        beyond = mp.sqrt(max(mpf(0), square(rows.gramian, away))) - C * center
        return max(beyond / center, *(-p / (a * center) for p, a in zip(products, rows.lengths, strict=True)))
    products = [m + C * center * p / length for m, p in zip(mean, own, strict=True)]
    return (dot(weights, mean) + C * center * length - min(products)) / scale


def bargain(problem, rows):
    """Weights > 0 with (M w)_k = w_k^(−power), by Newton steps on a convex function; None if 0 is in the hull."""
    power = POWERS[problem]
    weights = lambda x: [entry / length for entry, length in zip(x, rows.lengths, strict=True)]  # noqa: E731
    shortest = hull(rows.gramian, rows.lengths)
    if square(rows.gramian, shortest) <= EXACT * dot(shortest, rows.lengths) ** 2:
        return None
    factor = [length ** (power - 1) for length in rows.lengths]
    x = [f ** (1 / (1 + power)) for f in factor]
    while True:
        pull = [f * entry**-power for f, entry in zip(factor, x, strict=True)]
        slope = [p - product for p, product in zip(pull, times(rows.cosines, x), strict=True)]
        if max(abs(s / p) for s, p in zip(slope, pull, strict=True)) <= EXACT:
            return weights(x)
        # Changes relative to x, in which the matrix is well scaled.
        curved = [[c * a * b for c, b in zip(own, x, strict=True)] for own, a in zip(rows.cosines, x, strict=True)]
        for k in range(rows.count):
            curved[k][k] += power * pull[k] * x[k]
        slope = [s * entry for s, entry in zip(slope, x, strict=True)]
        change = solve(curved, slope)
        step = min(mpf(1), mpf("0.9") / -min([*change, mpf("-0.1")]))
        before, gain = value(problem, rows, weights(x)), dot(slope, change)
        while True:
            after = [entry * (1 + step * c) for entry, c in zip(x, change, strict=True)]
            if gain < mpf(10) ** -20 or value(problem, rows, weights(after)) <= before - step * gain / 4:
                break
            step /= 2
        x = after


def best(problem, rows):
    """Weights that solve a problem, checked to 50 digits; None where it has no solution."""
    if problem == "hull":
        weights = hull(rows.gramian, rows.lengths)
        products, size = times(rows.gramian, weights), dot(weights, rows.lengths)
        square_length = dot(weights, products)
        for product, length in zip(products, rows.lengths, strict=True):
            assert square_length - product <= EXACT * size * length
    elif problem in ("row", "mean"):
        least = rows.least(problem)
        weights = cone(rows, least)
        x = [w * length for w, length in zip(weights, rows.lengths, strict=True)]
        products, size = times(rows.cosines, x), mp.fsum(x)
        for product, w, low, length in zip(products, weights, least, rows.lengths, strict=True):
            assert w >= low
            assert product >= -EXACT * size
            assert (w - low) * length * product <= EXACT * size**2
    elif problem == "cagrad":
        weights = cagrad(rows)
        assert abs(gap_of_cagrad(rows, weights)) <= EXACT
    else:
        power, weights = POWERS[problem], bargain(problem, rows)
        if weights is not None:
            for product, w in zip(times(rows.gramian, weights), weights, strict=True):
                assert abs(product * w**power - 1) <= EXACT
    return weights


PROBLEMS = ("hull", "row", "mean", "cagrad", "nash", "fair")


def scale(problem, rows, weights):
    """What a difference of values is judged against at least: the square of what is added up, or of the result."""
    size = dot(weights, rows.lengths)
    if problem == "cagrad":
        return size * mp.sqrt(mp.fsum(map(mp.fsum, rows.gramian))) / rows.count
    return square(rows.gramian, weights) if problem in ("nash", "fair") else size**2


# Matrices --------------------------------------------------------------------------------------------------


def whole(generator, size, *shape):
    """Whole numbers up to a size, in nested lists of this shape."""
    if not shape:
        return generator.randint(-size, size)
    return [whole(generator, size, *shape[1:]) for _ in range(shape[0])]


def draw(kind, count, generator):
    """Rows of whole numbers, whose lengths are then up to 2^20 apart."""
    columns = count + generator.randint(0, 5)
    rows = whole(generator, 9, count, columns)
    if kind == "conflicting":  # they nearly add up to zero
        total = [sum(column) for column in zip(*rows, strict=True)]
        rows = [[50 * count * entry - 49 * t for entry, t in zip(row, total, strict=True)] for row in rows]
    elif kind == "collinear":  # about 1e-4 from a line, in half of the matrices to both of its sides
        line, signed = whole(generator, 9, columns), generator.random() < 0.5
        line[0] = 9
        rows = [
            [(-1 if signed and k % 2 else 1) * 9999 * at + entry for at, entry in zip(line, row, strict=True)]
            for k, row in enumerate(rows)
        ]
    elif kind == "low rank":
        rank = generator.randint(1, max(1, count // 2))
        basis = whole(generator, 9, rank, columns)
        basis[0][0] = 9
        mixed = whole(generator, 4, count, rank)
        rows = [
            [sum(m * b for m, b in zip(mix, column, strict=True)) for column in zip(*basis, strict=True)]
            for mix in mixed
        ]
    elif kind == "opposite":
        rows[1] = [-2 * entry for entry in rows[0]]
    if not all(any(row) for row in rows):
        return draw(kind, count, generator)
    return rows, [generator.randint(0, 20) for _ in rows]


def made():
    """Each matrix with its problems' best values and scales."""
    for count, matrices in COUNTS.items():
        for kind in KINDS:
            for place in range(matrices):
                drawn, exponents = draw(kind, count, random.Random(f"{kind} {count} {place}"))
                rows, found = Rows(drawn, exponents), {}
                for problem in PROBLEMS:
                    weights = best(problem, rows)
                    if weights is not None:
                        least, size = value(problem, rows, weights), scale(problem, rows, weights)
                        least = least if abs(least) > EXACT * size else 0
                        found[problem] = [mp.nstr(least, 30), mp.nstr(size, 6)]
                yield {"kind": kind, "rows": drawn, "exponents": exponents, "optima": found}


if __name__ == "__main__":
    print("[", ",\n".join(json.dumps(one, separators=(",", ":")) for one in made()), "]", sep="")
