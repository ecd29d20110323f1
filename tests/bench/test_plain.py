"""Text from outside reaches a terminal without anything that the terminal would obey."""

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from bench.plain import one_line, printable


@given(st.text(st.characters(exclude_categories=())))
def test_what_is_left_prints_and_can_be_encoded(text):
    shown = printable(text)
    assert len(shown) == len(text)
    assert shown.count("\n") == text.count("\n")
    assert not {unicodedata.category(c) for c in shown.replace("\n", "")} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    shown.encode()
    assert "\n" not in one_line(text)


def test_printable_text_stays_as_it_is():
    assert printable("café Δ −1 × 2\n  indented") == "café Δ −1 × 2\n  indented"


def test_escape_sequences_and_what_turns_text_around_lose_their_power():
    assert one_line("a\x1b[31mred\x9b2J\u202eabc\ud800 \r\n b") == "a [31mred 2J abc b"


def test_a_long_line_ends_in_an_ellipsis():
    assert one_line("x" * 400, 300) == "x" * 299 + "…"
    assert one_line("x" * 300, 300) == "x" * 300
