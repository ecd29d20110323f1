"""Reads seeds as they are written on the command line, and writes them as a person would."""

import re
from collections.abc import Iterable, Sequence

from methods.core.names import UsageError

MOST_SEEDS = 10_000
LARGEST_SEED = 2**63 - 1
NUMBER = re.compile(r"[0-9]{1,19}")
Seeds = int | str | Sequence[int]
"""How many, text as on the command line, or the seeds themselves."""


def parse_seeds(seeds: Seeds) -> list[int]:
    """Read seeds: `8` is 0 to 7; `100-107` and `3,5,8-9` are themselves, and so are the numbers of a list.

    Raises:
        UsageError: the text has another form, or it names too many seeds. Long ranges are refused without listing them.
    """
    text = str(seeds) if isinstance(seeds, int | str) else ",".join(f"{seed}-{seed}" for seed in seeds)
    items = [item.strip() for item in text.split(",")]
    ends = [[end.strip() for end in item.split("-")] for item in items]
    if not all(len(pair) in (1, 2) and all(map(NUMBER.fullmatch, pair)) for pair in ends):
        raise _wrong(str(seeds))
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
        raise UsageError(f"seeds '{_short(text)}': {many} seeds, and at most {MOST_SEEDS} are run together")
    if max(span.stop for span in spans) > LARGEST_SEED:
        raise UsageError(f"seeds '{_short(text)}': a seed is at most {LARGEST_SEED}")
    return sorted({seed for span in spans for seed in span})


def write_seeds(seeds: Iterable[int]) -> str:
    """Write seeds in the shortest form that `parse_seeds` reads back: `8` for 0 to 7, `100-107`, `3,5`.

    One seed alone is written `3-3`, as `3` would mean three of them. There must be at least one.
    """
    spans: list[tuple[int, int]] = []
    for seed in sorted(set(seeds)):
        if spans and spans[-1][1] == seed - 1:
            spans[-1] = spans[-1][0], seed
        else:
            spans.append((seed, seed))
    if len(spans) == 1:
        [(first, last)] = spans
        return str(last + 1) if first == 0 else f"{first}-{last}"
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in spans)


def _wrong(text: str) -> UsageError:
    return UsageError(
        f"seeds '{_short(text)}': write how many (8), a range (100-107) or a list (3,5), of at least one seed, in "
        "plain digits"
    )


def _short(text: str) -> str:
    return text if len(text) <= 80 else f"{text[:80]}…"
