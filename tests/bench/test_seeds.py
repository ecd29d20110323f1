"""Seeds are read as they are written, and written as a person would write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.planning.seeds import LARGEST_SEED, parse_seeds, write_seeds

NEARBY = st.sets(st.integers(0, 40), min_size=1)
ANYWHERE = st.sets(st.integers(0, LARGEST_SEED - 1), min_size=1, max_size=20)


@given(NEARBY | ANYWHERE)
def test_seeds_that_are_written_are_read_back(seeds):
    assert parse_seeds(write_seeds(seeds)) == sorted(seeds)


@given(NEARBY)
def test_no_form_that_is_read_back_is_shorter(seeds):
    """Of the forms that a person could choose: how many, one by one, and as few ranges as there can be."""
    ordered = sorted(seeds)
    forms = [str(len(ordered)), ",".join(map(str, ordered)), f"{ordered[0]}-{ordered[-1]}"]
    read_back = [form for form in forms if parse_seeds_or_nothing(form) == ordered]
    assert len(write_seeds(seeds)) <= min(map(len, read_back), default=10**9)


def parse_seeds_or_nothing(text):
    return [] if text == "0" else parse_seeds(text)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        (range(8), "8"),
        ([0], "1"),
        (range(100, 108), "100-107"),
        ([5, 3], "3,5"),
        ([3], "3-3"),
        ([3, 3, 4, 5, 9], "3-5,9"),
        ([0, 1, 2, 7], "0-2,7"),
        (iter([1, 2]), "1-2"),
    ],
)
def test_the_form_is_the_shortest_that_a_person_would_type(seeds, text):
    assert write_seeds(seeds) == text
