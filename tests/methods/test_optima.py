"""The solvers' answers beside optima known to 50 digits, which make_optima.py has found without them.

A gap is how much more a solver's weights give than the best weights, in 80 digits, relative to the best value. What is
compared is the problem of rows of unit length, where the numbers are of one size; the rows' own lengths are up to a
million apart. A float64 knows a squared length to about 1e-16 of the square of what was added up to make it. So a best
value is not taken for less than 1e-12 of that square, nor a length for less than 1e-6.
"""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from make_optima import COUNTS, KINDS, PROBLEMS, C, Rows, gap, made
from mpmath import mpf

from methods.core.solvers.bargaining import bargain
from methods.core.solvers.cagrad import conflict_averse
from methods.core.solvers.cone import project_onto_cone
from methods.core.solvers.min_norm import min_norm_point

KNOWN = json.loads(Path(__file__).with_name("optima.json").read_text())
SOLVERS = {
    "hull": lambda gramian, _: min_norm_point(gramian),
    "row": project_onto_cone,
    "mean": project_onto_cone,
    "cagrad": lambda gramian, _: conflict_averse(gramian, C),
    "nash": lambda gramian, _: bargain(gramian, 1.0),
    "fair": lambda gramian, _: bargain(gramian, 2.0),
}


@cache
def matrices(kind, count):
    """The stored matrices of a kind, each with the best values of its problems."""
    of_this_kind = [one for one in KNOWN if one["kind"] == kind and len(one["rows"]) == count]
    return [(Rows(one["rows"], one["exponents"]), one["optima"]) for one in of_this_kind]


def solved(problem, rows):
    """A solver's weights, which keep the problem's constraints."""
    gramian = torch.tensor(rows.gramian, dtype=torch.float64)
    assert gramian.tolist() == rows.gramian  # nothing was rounded
    least = torch.tensor(rows.least(problem), dtype=torch.float64)
    weights = SOLVERS[problem](gramian, least)
    if problem in ("hull", "cagrad"):
        assert (weights >= 0).all()
        assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    elif problem in ("row", "mean"):
        assert (weights >= least).all()
    else:
        assert (weights > 0).all()
    return weights.tolist()


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("problem", PROBLEMS)
def test_the_gap_is_closed(problem, kind, count):
    gaps = [
        gap(problem, rows, solved(problem, rows), optima[problem])
        for rows, optima in matrices(kind, count)
        if problem in optima
    ]
    assert all(abs(found) <= 1e-9 for found in gaps), max(gaps, key=abs)


@pytest.mark.parametrize("problem", ["nash", "fair"])
def test_where_gradients_cancel_a_bargain_has_no_solution_and_some_weight_is_not_positive(problem):
    without = [one for one in KNOWN if problem not in one["optima"]]
    assert {one["kind"] for one in without} >= {"opposite"}
    for one in without:
        assert mpf(one["optima"]["hull"][0]) == 0
        gramian = torch.tensor(Rows(one["rows"], one["exponents"]).gramian, dtype=torch.float64)
        assert (SOLVERS[problem](gramian, None) <= 0).any()


def test_the_file_is_what_the_script_makes():
    for stored, again in zip(KNOWN[: COUNTS[2]], made(), strict=False):
        assert stored == again
