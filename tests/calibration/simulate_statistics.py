"""Simulate the statistics: the error rates of the functions themselves, and of known mistakes beside them.

`python tests/calibration/simulate_statistics.py` writes every rate to `calibration.csv` and tables of the rates to
`calibration.md`. The numbers are the same each time: every cell has its own stream of random numbers, named after it.
"""

import argparse
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from alternatives import friedman, sign_flip_interval
from numpy.typing import ArrayLike, NDArray

from bench.evidence.delta import per_seed
from bench.evidence.power import detectable
from bench.evidence.significance import (
    MINIMUM_SETS,
    Floats,
    equivalent,
    holm,
    max_t,
    pairwise_max_t,
    sign_flip_test,
    signed_rank_test,
    suite_mean,
    t_interval,
)

ALPHA, POWER = 0.05, 0.8
SEEDS, DEFAULT_SEEDS = (3, 5, 8, 10), 8
METHODS = (6, 24, 40)
NOISES = ("normal", "heavy", "skewed", "collapsing")
"""Of a run, of mean 0 and variance 1: normal, t with 3 degrees of freedom, exponential, one run in ten far below."""
SPREADS = (0.5, 1.0, 2.0)
"""Of the noise on the suite's three task sets."""
RESAMPLES = 1000
TASKS = 3

Hits = NDArray[np.bool_]


class Row(NamedTuple):
    """One measured rate and what it should be."""

    promise: str
    procedure: str
    wrong: bool  # a mistake that is shown for comparison
    setting: str
    noise: str
    seeds: int
    methods: int
    nominal: float
    rate: float
    repetitions: int

    @property
    def standard_error(self) -> float:
        """Of the measured rate."""
        return float(np.sqrt(self.rate * (1 - self.rate) / self.repetitions))

    @property
    def deviation(self) -> str:
        """Say `broken` or `kept with room` of a rate more than three standard errors of the nominal one away."""
        gap = (self.nominal - self.rate) if self.promise == "power" else (self.rate - self.nominal)
        bound = 3 * np.sqrt(self.nominal * (1 - self.nominal) / self.repetitions)
        return "broken" if gap > bound else "kept with room" if gap < -bound else "kept"


def measure(singles: int, families: int) -> Iterator[Row]:
    """Yield all rates, from this many repetitions for single tests and intervals, and for families of methods."""
    for noise in NOISES:
        for seeds in SEEDS:
            yield from _one_difference(singles, noise, seeds)
            yield from _delta(singles, noise, seeds)
            yield from _suite(singles, noise, seeds)
            for methods in METHODS:
                yield from _family(families, noise, seeds, methods)
        for sets in (MINIMUM_SETS, 10):
            yield _signed_rank(singles, noise, sets)
        for methods in METHODS:
            yield _pairs(families, noise, methods)
        for seeds, methods in ((3, 6), (3, 24), (5, 6)):
            yield _suite_family(families, noise, seeds, methods)
    for seeds in SEEDS:
        yield from _replicates(singles, seeds)
        yield _friedman(singles, seeds)
        for methods in METHODS:
            yield _promised_power(families, seeds, methods)


def _one_difference(repetitions: int, noise: str, seeds: int) -> Iterator[Row]:
    """Yield rates of one method against one reference, of the same expected value."""
    shape = (seeds, repetitions)
    runs = draw(noise, (2, *shape), "one difference", noise, seeds)
    for setting, d in (("two runs alike", runs[0] - runs[1]), ("one run against a constant", runs[0])):

        def row(promise: str, procedure: str, hits: Hits, wrong: bool = False, setting: str = setting) -> Row:
            return _row(promise, procedure, hits, setting, noise, seeds, wrong=wrong)

        yield row("type I error", "sign_flip_test", sign_flip_test(d) <= ALPHA)
        yield row("misses", "t_interval", _misses(t_interval, d))
        yield row("misses", "sign_flip_interval", _misses(sign_flip_interval, d))
        yield row("misses", "percentile bootstrap", _bootstrap_misses(d), wrong=True)
    margin = 5 * np.std(runs[0] - runs[1])
    at_margin = runs[0] - runs[1] + margin
    hits = np.array([equivalent(one, margin=margin) for one in at_margin.T])
    yield _row("type I error", "equivalent", hits, "two runs, a margin apart", noise, seeds)


def _delta(repetitions: int, noise: str, seeds: int) -> Iterator[Row]:
    """Yield how often the interval of Δ misses it: three tasks, noise of a tenth of the value."""
    runs = 1 + 0.1 * draw(noise, (2, repetitions, seeds, TASKS), "delta", noise, seeds)
    for ratio in (1.0, 0.7):

        def misses(kind: Literal["linearised", "fixed"], baseline: Floats, ratio: float = ratio) -> Hits:
            found = [
                t_interval(per_seed(ratio * method, stl, [True] * TASKS, range(TASKS), kind))
                for method, stl in zip(runs[0], baseline, strict=True)
            ]
            return _outside(found, 100 * (ratio - 1))

        setting = f"Δ = {100 * (ratio - 1):.0f} %"
        yield _row("misses", "per_seed linearised", misses("linearised", runs[1]), setting, noise, seeds)
        if noise == "normal" and ratio == 1:
            for name, count in (("as many seeds", seeds), ("one seed", 1)):
                constant = np.broadcast_to(runs[1, :, :count].mean(1, keepdims=True), runs[1].shape)
                procedure = f"STL as a constant, of {name}"
                yield _row("misses", procedure, misses("fixed", constant), setting, noise, seeds, wrong=True)


def _suite(repetitions: int, noise: str, seeds: int) -> Iterator[Row]:
    """Yield how often the interval over a suite misses, with other effects and other spreads on each set."""
    runs = draw(noise, (len(SPREADS), 2, seeds, repetitions), "suite", noise, seeds)
    effects = np.array([1.0, -1.0, 0.0])
    d = (runs[:, 0] - runs[:, 1]) * np.reshape(SPREADS, (-1, 1, 1)) + effects[:, None, None]
    hits = _outside([suite_mean(*d[:, :, i])[1:] for i in range(repetitions)], 0)
    yield _row("misses", "suite_mean", hits, "opposite effects on three sets", noise, seeds)


def _family(repetitions: int, noise: str, seeds: int, methods: int) -> Iterator[Row]:
    """Yield rates of many methods against one reference, whose runs they share."""
    name = ("family", noise, seeds, methods)
    runs = draw(noise, (repetitions, seeds, methods + 1), *name) + draw(
        "normal", (repetitions, seeds, 1), "seed", *name
    )
    null = runs[:, :, 1:] - runs[:, :, :1]
    real = np.arange(methods) < methods // 2
    procedures: dict[str, Callable[[Floats], Floats]] = {
        "max_t": max_t,
        "holm": lambda d: holm(sign_flip_test(d)),
        "no correction": sign_flip_test,
    }
    for procedure, adjust in procedures.items():
        wrong = procedure == "no correction"
        found = _found(adjust, null)
        yield _row("family-wise error", procedure, found.any(1), "no effect", noise, seeds, methods, wrong=wrong)
        if not wrong:
            found = _found(adjust, null + 2 * np.sqrt(2) * real)
            hits = found[:, ~real].any(1)
            yield _row("family-wise error", procedure, hits, "half at 2 sd", noise, seeds, methods)


def _found(adjust: Callable[[Floats], Floats], families: Floats) -> Hits:
    return np.asarray(np.array([adjust(d) for d in families]) <= ALPHA)


def _pairs(repetitions: int, noise: str, methods: int) -> Row:
    runs = draw(noise, (repetitions, DEFAULT_SEEDS, methods), "pairs", noise, methods)
    hits = np.array([(pairwise_max_t(values) <= ALPHA).any() for values in runs])
    return _row("family-wise error", "pairwise_max_t", hits, "no effect", noise, DEFAULT_SEEDS, methods)


def _suite_family(repetitions: int, noise: str, seeds: int, methods: int) -> Row:
    shape = (repetitions, len(SPREADS), seeds, methods + 1)
    runs = draw(noise, shape, "suite family", noise, seeds, methods) * np.reshape(SPREADS, (-1, 1, 1))
    hits = np.array([(max_t(*sets) <= ALPHA).any() for sets in runs[..., 1:] - runs[..., :1]])
    return _row("family-wise error", "max_t over a suite", hits, "no effect on three sets", noise, seeds, methods)


def _signed_rank(repetitions: int, noise: str, sets: int) -> Row:
    runs = draw(noise, (2, repetitions, sets), "signed rank", noise, sets)
    hits = np.array([signed_rank_test(d) or 1 for d in runs[0] - runs[1]]) <= ALPHA
    return _row("type I error", "signed_rank_test", hits, f"two runs alike on {sets} sets", noise, 1)


def _friedman(repetitions: int, seeds: int) -> Row:
    runs = draw("normal", (repetitions, seeds, METHODS[0]), "friedman", seeds)
    hits = np.array([friedman(values)[1] for values in runs]) <= ALPHA
    return _row("type I error", "friedman", hits, "no effect", "normal", seeds, METHODS[0])


def _replicates(repetitions: int, seeds: int) -> Iterator[Row]:
    """Yield what becomes of an interval when tasks, of correlation one half in a run, count as replicates of it."""
    for tasks in (TASKS, 7):
        name = ("replicates", seeds, tasks)
        d = draw("normal", (seeds, tasks, repetitions), *name) + draw("normal", (seeds, 1, repetitions), "run", *name)
        setting = f"{tasks} tasks a run"
        yield _row("misses", "t_interval", _misses(t_interval, d.mean(1)), setting, "normal", seeds)
        hits = _misses(t_interval, d.reshape(seeds * tasks, repetitions))
        yield _row("misses", "tasks as replicates", hits, setting, "normal", seeds, wrong=True)


def _promised_power(repetitions: int, seeds: int, methods: int) -> Row:
    """Return how often `max_t` finds the one real effect, of the size that `detectable` names."""
    runs = draw("normal", (repetitions, seeds, methods + 1), "power", seeds, methods)
    effect = np.sqrt(2) * detectable(seeds, methods, ALPHA, POWER) * (np.arange(methods) == 0)
    hits = np.array([max_t(d)[0] for d in runs[:, :, 1:] - runs[:, :, :1] + effect]) <= ALPHA
    return _row("power", "max_t", hits, "one effect as large as `detectable`", "normal", seeds, methods)


def draw(noise: str, shape: tuple[int, ...], *name: object) -> Floats:
    """Draw noise of one of the kinds, of mean 0 and variance 1, from the stream of this name."""
    generator = np.random.default_rng(list(repr(name).encode()))
    values: Floats
    if noise == "heavy":
        values = generator.standard_t(3, shape) / np.sqrt(3)
    elif noise == "skewed":
        values = 1 - generator.standard_exponential(shape)
    else:
        values = generator.standard_normal(shape)
    if noise == "collapsing":  # by ten standard deviations of the rest
        values = (values + 1 - 10 * (generator.random(shape) < 0.1)) / np.sqrt(10)
    return values


def _misses(interval: Callable[[Floats], tuple[float, float]], d: Floats) -> Hits:
    """Tell of each data set, a column of `[S, repetitions]`, whether its interval misses 0."""
    return _outside([interval(column) for column in d.T], 0)


def _outside(intervals: Iterable[tuple[float, float]], truth: float) -> Hits:
    ends = np.array(list(intervals))
    return np.asarray((ends[:, 0] > truth) | (ends[:, 1] < truth))


def _bootstrap_misses(d: Floats) -> Hits:
    """Tell where the interval of quantiles of resampled means misses 0; all data sets share their resamples."""
    generator = np.random.default_rng(len(d))
    weights = generator.multinomial(len(d), [1 / len(d)] * len(d), RESAMPLES) / len(d)
    low, high = np.quantile(weights @ d, [ALPHA / 2, 1 - ALPHA / 2], axis=0)
    return np.asarray((low > 0) | (high < 0))


def _row(
    promise: str,
    procedure: str,
    hits: ArrayLike,
    setting: str,
    noise: str,
    seeds: int,
    methods: int = 1,
    wrong: bool = False,
) -> Row:
    nominal = POWER if promise == "power" else ALPHA
    happened = np.asarray(hits, bool)
    return Row(
        promise, procedure, wrong, setting, noise, seeds, methods, nominal, float(happened.mean()), len(happened)
    )


def write(rows: list[Row], folder: Path) -> None:
    """Write `calibration.csv` and `calibration.md` into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "calibration.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*Row._fields, "standard_error", "deviation"])
        table.writerows([*row, f"{row.standard_error:.6f}", row.deviation] for row in rows)
    (folder / "calibration.md").write_text(_markdown(rows), encoding="utf-8")


def _markdown(rows: list[Row]) -> str:
    sound, wrong = [row for row in rows if not row.wrong], [row for row in rows if row.wrong]
    broken, seen = ([row for row in group if row.deviation == "broken"] for group in (sound, wrong))
    lines = [
        "# Calibration",
        "",
        "Written by `python tests/calibration/simulate_statistics.py`, from simulated runs: "
        f"{max(row.repetitions for row in rows):,} repetitions of single tests and intervals, "
        f"{min(row.repetitions for row in rows):,} of families.",
        "",
        f"How to read it. An error should happen in at most {ALPHA:.0%} of repetitions: an effect claimed where there "
        "is none (type I; in a family, any), an interval that misses the truth. Numbers are percentages ± one standard "
        "error; **bold** is a promise broken by more than three, at the promised rate. Noise is that of a run: normal, "
        "heavy (t with three degrees of freedom), skewed (exponential) or collapsing (one run in ten falls by ten "
        "standard deviations of the rest). Two runs alike, and families, whose methods share their reference's runs, "
        "differ by two such runs. Rows of errors that never happened are left out: with few seeds exact tests claim "
        "nothing.",
        "",
        f"Of {len(sound)} rates of the project's own functions {len(broken)} break their promise, all listed next; of "
        f"{len(wrong)} rates of known mistakes (✗) {len(seen)} do.",
        "",
        "## Broken promises of the project's own functions",
        "",
        "| promise | procedure | setting | noise | seeds | worst |",
        "|---|---|---|---|---|---|",
    ]
    for key in dict.fromkeys((row.promise, row.procedure, row.setting, row.noise) for row in broken):
        cells = [row for row in broken if (row.promise, row.procedure, row.setting, row.noise) == key]
        worst = max(cells, key=lambda row: abs(row.rate - row.nominal))
        seeds = ", ".join(str(one) for one in sorted({row.seeds for row in cells}))
        lines.append("| " + " | ".join([*key, seeds, _percent(worst)]) + " |")
    for promise in dict.fromkeys(row.promise for row in rows):
        lines += ["", f"## {promise[0].upper()}{promise[1:]}", "", *_table([r for r in rows if r.promise == promise])]
    return "\n".join(lines) + "\n"


def _table(rows: list[Row]) -> list[str]:
    """Return the lines of a table with a column for each noise, without rows of errors that never happened."""
    noises = [noise for noise in NOISES if any(row.noise == noise for row in rows)]
    lines = [
        "| " + " | ".join(["procedure", "setting", "methods", "seeds", *noises]) + " |",
        "|---" * (4 + len(noises)) + "|",
    ]
    cells = {(row.procedure, row.setting, row.methods, row.seeds, row.noise): row for row in rows}
    for key in sorted({key[:4] for key in cells}):
        found = [cells.get((*key, noise)) for noise in noises]
        if any(row is not None and (row.rate or row.promise == "power") for row in found):
            mark = " ✗" if any(row is not None and row.wrong for row in found) else ""
            text = ["–" if row is None else _percent(row) for row in found]
            lines.append("| " + " | ".join([key[0] + mark, *map(str, key[1:]), *text]) + " |")
    return lines


def _percent(row: Row) -> str:
    text = f"{100 * row.rate:.1f} ± {100 * row.standard_error:.1f}"
    return f"**{text}**" if row.deviation == "broken" else text


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="simulate_statistics.py", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("results/calibration"), help="folder to write to")
    parser.add_argument("--singles", type=int, default=20_000, help="repetitions of single tests and intervals")
    parser.add_argument("--families", type=int, default=2_000, help="repetitions of families of methods")
    options = parser.parse_args(arguments)
    write(list(measure(options.singles, options.families)), options.out)


if __name__ == "__main__":
    main()
