"""Seeds as they are written on the command line."""

import re
from collections.abc import Iterable

from methods.core.names import UsageError

MOST_SEEDS = 10_000
LARGEST_SEED = 2**63 - 1
NUMBER = re.compile(r"[0-9]{1,19}")


def parse_seeds(text: str) -> list[int]:
    """Read seeds: `8` is 0 to 7; `100-107` and `3,5,8-9` are themselves.

    Raises:
        UsageError: it is not written so, or it is too much. Nothing is counted out before that is known.
    """
    items = [item.strip() for item in text.split(",")]
    ends = [[end.strip() for end in item.split("-")] for item in items]
    if not all(len(pair) in (1, 2) and all(map(NUMBER.fullmatch, pair)) for pair in ends):
        raise _wrong(text)
    if len(items) == 1 and len(ends[0]) == 1:
        many = int(items[0])
        if many > MOST_SEEDS:
            hint = f"; to take the one seed {many}, write {many}-{many}" if many <= LARGEST_SEED else ""
            raise UsageError(f"seeds '{text}': that is how many, and at most {MOST_SEEDS} are run together{hint}")
        spans = [range(many)]
    else:
        spans = [range(int(pair[0]), int(pair[-1]) + 1) for pair in ends]
    if not all(spans):  # none, or a range that runs backwards
        raise _wrong(text)
    # Not len(): a range may be longer than Python can say.
    many = sum(span.stop - span.start for span in spans)
    if many > MOST_SEEDS:
        raise UsageError(f"seeds '{text}': {many} seeds, and at most {MOST_SEEDS} are run together")
    if max(span.stop for span in spans) > LARGEST_SEED:
        raise UsageError(f"seeds '{text}': a seed is at most {LARGEST_SEED}")
    return sorted({seed for span in spans for seed in span})


def write_seeds(seeds: Iterable[int]) -> str:
    """Write seeds as a person would: 0 to 7 as `8`, others as ranges such as `100-107` or `3,5-7`."""
    ordered = sorted(set(seeds))
    if ordered == list(range(len(ordered))):
        return str(len(ordered))
    spans: list[list[int]] = []
    for seed in ordered:
        if spans and seed == spans[-1][-1] + 1:
            spans[-1] = [spans[-1][0], seed]
        else:
            spans.append([seed])
    # One seed alone is written as a range, because `3` would mean the seeds 0, 1 and 2.
    return ",".join(f"{s[0]}-{s[-1]}" if len(s) > 1 or len(ordered) == 1 else str(s[0]) for s in spans)


def _wrong(text: str) -> UsageError:
    shown = text if len(text) <= 80 else f"{text[:80]}…"
    return UsageError(
        f"seeds '{shown}': write how many (8), a range (100-107) or a list (3,5), of at least one seed, in plain digits"
    )
