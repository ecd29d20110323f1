"""Says what `verify` has found: a table, and sentences below it."""

import math
from collections.abc import Iterator, Sequence

from bench.plain import one_line
from bench.verify.again import Outcome
from bench.verify.judge import MARGIN, Judged, Line
from bench.verify.pairs import Recorded

MOST = 40
"""So many runs that do not reproduce are named; of more the first, and how many there are."""
MOST_REASONS = 5


def told(outcome: Outcome) -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of a table, cells by column, and sentences."""
    judged = outcome.judged
    rows = [_row(line, "task set") for line in judged.sets] + [_row(line, "method") for line in judged.methods]
    if not judged.methods:  # nothing was compared statistically
        rows = [{name: row[name] for name in ("of", "", "same", "compared by", "found")} for row in rows]
    return rows, [*_refused(outcome), *_how(judged), *_faults(outcome), *_in_all(outcome)]


def _row(line: Line, what: str) -> dict[str, str]:
    mean = f"{line.mean:+.2f}" if not math.isnan(line.mean) else ""
    between = f" [{line.low:+.2f} to {line.high:+.2f}]" if not math.isnan(line.low) else ""
    edit = ""
    if not math.isnan(line.edit):
        edit = "unknown" if math.isinf(line.edit) else f"{line.edit:.2g}, at worst {line.worst_edit:.2g}"
    shift = "" if math.isnan(line.mean) else "none" if math.isinf(line.shift) else f"{line.shift:.2g}"
    return {
        "of": what,
        "": line.name,
        "same": f"{line.same} of {line.runs}",
        "compared by": line.way,
        "found": line.word,
        "mean change, %": mean + between,
        "sees a shift of": shift,
        "sees one score off by": edit,
        "nearest to its own seed": f"{line.nearest} of {line.seeded}, by chance {line.chance:.1f}"
        if line.seeded
        else "",
        "largest change": line.largest if what == "task set" else "",
    }


def _refused(outcome: Outcome) -> Iterator[str]:
    """Say which runs cannot be trained again."""
    refused = outcome.found.refused
    for why, runs in list(refused.items())[:MOST_REASONS]:
        yield f"not verified: {_count(runs)}, such as {runs[0]}: {one_line(why, 300)}"
    if len(refused) > MOST_REASONS:
        left = list(refused.values())[MOST_REASONS:]
        yield f"not verified: {sum(map(len, left))} more runs, for {len(left)} more reasons"


def _count(runs: Sequence[str | Recorded]) -> str:
    return f"{len(runs)} run{'s' * (len(runs) != 1)}"


def _how(judged: Judged) -> Iterator[str]:
    """Say why and how runs were compared statistically."""
    if judged.excuses:
        what = "; ".join(f"{excuse}: {count} runs" for excuse, count in judged.excuses.items())
        yield f"compared statistically, for what may have moved their bytes: {what}"
        yield (
            f"Agrees on average: the mean change of the runs is shown to lie within ±{MARGIN:g} % (90 % interval in "
            "brackets). Not shown: they are too few, or spread too much. A shift of the size in its column would have "
            "been found with a power of 80 %; one score alone is named only if it is off by more than the spread of "
            "seeds explains: by the per cent in its column, the median and the worst of scores. Smaller faults of "
            "single runs cannot be seen on this machine. Nearest to its own seed: runs that lie nearer to their record "
            "than to those of the other seeds."
        )
    if judged.is_unalike:
        yield (
            "not one run is the same, although code, libraries and processor have the same names. Some clouds call "
            "different processors by one name: then this machine rounds in another way, and another one may tell"
        )


def _faults(outcome: Outcome) -> Iterator[str]:
    """Name what does not reproduce."""
    judged = outcome.judged
    for line in (*judged.sets, *judged.methods):
        if line.word == "shifted":
            yield f"does not reproduce: {line.name} on average: {line.mean:+.2f} % (p = {line.p:.2g})"
    for why in outcome.found.broken[:MOST]:
        yield f"does not reproduce: {why}"
    for fault in judged.faults[:MOST]:
        yield f"does not reproduce: {fault.run.label}: {fault.why}"
    if len(judged.faults) > MOST:
        yield f"does not reproduce: {len(judged.faults) - MOST} more runs"


def _in_all(outcome: Outcome) -> Iterator[str]:
    """Sum up."""
    judged = outcome.judged
    runs = sum(line.runs for line in judged.sets)
    same = sum(line.same for line in judged.sets)
    if outcome.interrupted:
        yield f"interrupted: {outcome.trained} of {outcome.to_train} runs were trained again"
    parts = [f"{same} of {runs} runs are the same"]
    for word in ("agrees on average", "not shown"):
        if lines := [line for line in judged.sets if line.word == word]:
            parts.append(f"{word}: {', '.join(line.name for line in lines)}")
    shifted = sum(line.word == "shifted" for line in (*judged.sets, *judged.methods))
    faults = shifted + len(judged.faults) + len(outcome.found.broken)
    parts.append(f"{faults} fault{'s' * (faults > 1)} found" if faults else "no fault found")
    yield "; ".join(parts)
