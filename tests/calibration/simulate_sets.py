"""How often do verdicts over task sets err, and what becomes of verdicts over seeds that are asked of other sets?

`python tests/calibration/simulate_sets.py --out results/calibration` writes every rate to `sets.csv` and tables of them
to `sets.md`. The numbers are the same each time: every cell has its own stream of random numbers, named after it.

Each method has an effect on each task set, drawn anew for every set with mean 0, and each run has noise of its own.
Effects come in two ways: those of all methods and of the reference alike, so that differences are symmetric, or drawn
as the differences themselves. And sets spread alike, or unlike, by a factor of up to 16.
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata
from simulate_statistics import ALPHA, NOISES, POWER, Floats, Hits, draw

from bench.evidence.power import detectable
from bench.evidence.sets import scaled
from bench.evidence.significance import equivalent, max_t, sign_flip_test, signed_rank_test, suite_means

SETS, USUAL_SETS = (6, 8, 12), 8
FAMILIES = {6: (6,), 8: (6, 40), 12: (6,)}
"""By number of sets, how many methods are compared with the reference where error rates are measured."""
SEEDS = 8
ALIKE, ITSELF = "rules and reference alike", "the difference itself"
UNLIKE = ", sets unlike"
SPREADS = (0.5, 1.0, 2.0, 8.0)
"""Of the effects on sets that are unlike, in turn."""
EFFECT = 2.0
"""Standard deviation of an effect over sets, in those of one run."""
SD = np.sqrt(2 * EFFECT**2 + 2 / SEEDS)
"""Of the mean difference on a set, where noise is normal and the reference is drawn alike."""
RATIOS = (0.0, 0.5, 1.0, 2.0)
"""The same, where the question is what it does to verdicts over seeds."""
ERRORS = ("family-wise error", "type I error", "misses", "equivalence claimed")
FOUND = (1.0, 2.0)
"""True effects, in standard deviations of the difference over sets."""
PROCEDURES: dict[str, Callable[[Floats], Floats]] = {
    "max_t over sets": np.asarray,
    "max_t in units of each set": scaled,
}


class Row(NamedTuple):
    """One measured rate and what it should be."""

    promise: str
    procedure: str
    wrong: bool  # a mistake that is shown for comparison
    setting: str
    noise: str
    sets: int
    methods: int
    nominal: float
    rate: float
    repetitions: int

    @property
    def text(self) -> str:
        """The rate in per cent with its standard error, bold where an error is more frequent than promised."""
        error = np.sqrt(self.rate * (1 - self.rate) / self.repetitions)
        written = f"{100 * self.rate:.1f} ± {100 * error:.1f}"
        return f"**{written}**" if self.broken else written

    @property
    def broken(self) -> bool:
        """Whether an error is more than three standard errors above the nominal rate."""
        bound = 3 * np.sqrt(self.nominal * (1 - self.nominal) / self.repetitions)
        return self.promise not in ("found", "power") and self.rate - self.nominal > bound


def measure(singles: int, families: int) -> Iterator[Row]:
    """Yield all rates, from this many repetitions for intervals, and for tests and families of methods."""
    for sets in SETS:
        for noise in NOISES:
            for setting in (ALIKE, ALIKE + UNLIKE, ITSELF, ITSELF + UNLIKE):
                for methods in FAMILIES[sets]:
                    yield from _family(families, setting, noise, sets, methods)
                yield _interval(singles, setting, noise, sets)
            yield _equivalent(families, noise, sets)
        for methods in FAMILIES[sets]:
            yield from _half(families, sets, methods)
        yield from _signed_ranks(families, sets)
        for methods in (6, 40):
            yield from _found(families, sets, methods)
    for ratio in RATIOS:
        yield from _asked_of_others(families, ratio)


def _family(repetitions: int, setting: str, noise: str, sets: int, methods: int) -> Iterator[Row]:
    d = _means(repetitions, setting, noise, sets, methods)
    for procedure, units in PROCEDURES.items():
        hits = np.array([(max_t(units(one)) <= ALPHA).any() for one in d])
        yield _row("family-wise error", procedure, hits, setting, noise, sets, methods)


def _half(repetitions: int, sets: int, methods: int) -> Iterator[Row]:
    """Yield how often a method without an effect is called better or worse, where half of the methods have one."""
    real = np.arange(methods) < methods // 2
    d = _means(repetitions, ALIKE, "normal", sets, methods, "half") + max(FOUND) * SD * real
    for setting, spreads in (("half at 2 sd", np.ones(sets)), ("half at 2 sd" + UNLIKE, np.resize(SPREADS, sets))):
        for procedure, units in PROCEDURES.items():
            hits = np.array([(max_t(units(one))[~real] <= ALPHA).any() for one in d * spreads[:, None]])
            yield _row("family-wise error", procedure, hits, setting, "normal", sets, methods)


def _interval(repetitions: int, setting: str, noise: str, sets: int) -> Row:
    d = _means(repetitions, setting, noise, sets, 1)[:, :, 0].T
    _, low, high = suite_means(d)
    return _row("misses", "t interval over sets", (low > 0) | (high < 0), setting, noise, sets)


def _equivalent(repetitions: int, noise: str, sets: int) -> Row:
    """Return how often two methods are called equivalent that are just the margin apart."""
    d = _means(repetitions, ALIKE, noise, sets, 1, "equivalent")[:, :, 0]
    margin = 5 * float(np.std(d))
    hits = [equivalent(one + margin, margin=margin) for one in d]
    return _row("equivalence claimed", "equivalent", hits, "a margin apart", noise, sets)


def _signed_ranks(repetitions: int, sets: int) -> Iterator[Row]:
    """Yield how often the signed-rank test of a method alone errs, and how often one of a family does."""
    d = _means(repetitions, ALIKE, "normal", sets, 6, "signed ranks")
    hits = np.array([[(signed_rank_test(own) or 0) <= ALPHA for own in one.T] for one in d])
    yield _row("type I error", "signed ranks, alone", hits[:, 0], ALIKE, "normal", sets)
    yield _row("family-wise error", "signed ranks, alone", hits.any(1), ALIKE, "normal", sets, 6, wrong=True)


def _found(repetitions: int, sets: int, methods: int) -> Iterator[Row]:
    """Yield how often the one method with an effect is found, by the test and by ranks that are adjusted like it."""
    able = detectable(sets, methods, ALPHA, POWER)
    for effect in (*FOUND, able):
        d = _means(repetitions, ALIKE, "normal", sets, methods, "found", effect)
        d[:, :, 0] += effect * SD
        setting = f"{effect:.3g} sd"
        for procedure, units in PROCEDURES.items():
            hits = [max_t(units(one))[0] <= ALPHA for one in d]
            promise = "power" if effect == able else "found"
            yield _row(promise, procedure, hits, setting, "normal", sets, methods)
        if effect != able and sets <= USUAL_SETS:
            ranks = np.sign(d) * rankdata(np.abs(d), axis=1)
            hits = [max_t(one)[0] <= ALPHA for one in ranks]
            yield _row("found", "signed ranks, adjusted", hits, setting, "normal", sets, methods)
        if effect == max(FOUND):
            setting = f"{effect:.3g} sd on each set{UNLIKE}"
            for procedure, units in PROCEDURES.items():
                hits = [max_t(units(one))[0] <= ALPHA for one in d * np.resize(SPREADS, sets)[:, None]]
                yield _row("found", procedure, hits, setting, "normal", sets, methods)


def _asked_of_others(repetitions: int, ratio: float) -> Iterator[Row]:
    """Yield how often verdicts whose sample are the seeds err, if they are read as verdicts about other sets."""
    effects = ratio * draw("normal", (repetitions, USUAL_SETS, 1, 2), "asked", ratio)
    runs = effects + draw("normal", (repetitions, USUAL_SETS, SEEDS, 2), "asked, runs", ratio)
    d = runs[..., 1] - runs[..., 0]  # [repetitions, D, S]
    setting = f"effects over sets of {ratio:g} sd of a run"

    def row(promise: str, procedure: str, hits: Hits, wrong: bool) -> Row:
        return _row(promise, procedure, hits, setting, "normal", USUAL_SETS, wrong=wrong)

    over_seeds = sign_flip_test(d.reshape(repetitions, -1).T)  # of sets of as many seeds, `max_t` of one method is that
    yield row("called better or worse", "seeds as the sample", over_seeds <= ALPHA, wrong=ratio > 0)
    yield row("called better or worse", "sets as the sample", sign_flip_test(d.mean(2).T) <= ALPHA, wrong=False)
    for name, samples in (("seeds", [own.T for own in d.transpose(1, 0, 2)]), ("sets", [d.mean(2).T])):
        _, low, high = suite_means(*samples)
        wrong = ratio > 0 and name == "seeds"
        yield row("interval misses", f"{name} as the sample", (low > 0) | (high < 0), wrong=wrong)


def _means(repetitions: int, setting: str, noise: str, sets: int, methods: int, *name: object) -> Floats:
    """Draw each set's mean difference from the reference over the seeds: `[repetitions, D, methods]`."""
    what = (*name, setting, noise, sets, methods)
    if setting.startswith(ALIKE):
        effects = draw(noise, (repetitions, sets, methods + 1), *what)
        effects = effects[..., 1:] - effects[..., :1]
    else:
        effects = draw(noise, (repetitions, sets, methods), *what)
    if setting.endswith(UNLIKE):
        effects = effects * np.resize(SPREADS, sets)[:, None]
    runs = draw("normal", (repetitions, sets, methods + 1), "runs", *what) / np.sqrt(SEEDS)  # means over seeds
    return EFFECT * effects + runs[..., 1:] - runs[..., :1]


def _row(
    promise: str,
    procedure: str,
    hits: Hits | Sequence[bool],
    setting: str,
    noise: str,
    sets: int,
    methods: int = 1,
    wrong: bool = False,
) -> Row:
    nominal = POWER if promise == "power" else ALPHA
    happened = np.asarray(hits, bool)
    return Row(promise, procedure, wrong, setting, noise, sets, methods, nominal, float(happened.mean()), len(happened))


def write(rows: Sequence[Row], folder: Path) -> None:
    """Write `sets.csv` and `sets.md` into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "sets.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow([*Row._fields, "broken"])
        table.writerows([*row, row.broken] for row in rows)
    (folder / "sets.md").write_text(_markdown(rows), encoding="utf-8")


def _markdown(rows: Sequence[Row]) -> str:
    def of(*promises: str) -> list[Row]:
        return [row for row in rows if row.promise in promises]

    lines = [
        "# Verdicts over task sets",
        "",
        "Written by `python tests/calibration/simulate_sets.py`, from simulated differences on task sets: "
        f"{max(row.repetitions for row in rows):,} repetitions of intervals, {min(row.repetitions for row in rows):,} "
        "of everything else.",
        "",
        f"The sets are the sample, with {SEEDS} seeds on each. An error should happen in at most {ALPHA:.0%} of "
        "repetitions. Numbers are percentages ± one standard error; **bold** is an error that is more frequent by "
        "more than three. Effects over sets have mean 0 and are normal, heavy (t with three degrees of freedom), "
        "skewed (one minus an exponential: small gains on most sets, large losses on few) or collapsing (on one set "
        "in ten a fall by ten standard deviations of the rest). “Rules and reference alike”: all are drawn from that, "
        "and so differences are symmetric. “The difference itself”: the difference is drawn from that, and is not "
        "symmetric in the last two columns. “Sets unlike”: effects on some sets are up to 16 times as large "
        "as on others.",
        "",
        "## Two questions",
        "",
        f"{USUAL_SETS} sets, one method whose mean over all sets that there are is 0. How often is it called better or "
        "worse, and how often does the interval miss 0? With effects that differ from set to set, the tests whose "
        "sample are the seeds are right about these very sets, and wrong (✗) about others.",
        "",
        *_table(of("called better or worse", "interval misses"), ("promise", "procedure"), lambda row: row.setting),
        "",
        "## Errors where the sets are the sample",
        "",
        *_table(
            sorted(of(*ERRORS), key=lambda row: (ERRORS.index(row.promise), row.procedure, row.setting)),
            ("promise", "procedure", "setting", "methods", "sets"),
            lambda row: row.noise,
        ),
        "",
        "## What can be found",
        "",
        "How often the one method of a family that has an effect is called better. The effect is given in standard "
        "deviations (sd) of its differences over sets. Where sets are unlike, the same effect on each, in the units of "
        "that set, is found less often: the sets with the largest differences rule the mean, unless differences "
        "are in units of each set. Signed ranks that are "
        "adjusted like the test find next to nothing in a large family: after a flip of signs some method is often "
        "ahead on all sets, and by ranks it then looks as good as the best one. This is why pages show the signed "
        "ranks of each method alone.",
        "",
        *_table(of("found"), ("procedure", "sets", "setting"), lambda row: f"{row.methods} methods"),
        "",
        f"The effect that pages name as found with a power of {POWER:.0%} (`detectable`), and how often it is found:",
        "",
        *_table(of("power"), ("sets", "methods", "setting"), lambda row: row.procedure),
    ]
    return "\n".join(lines) + "\n"


def _table(rows: Sequence[Row], told: Sequence[str], by: Callable[[Row], str]) -> list[str]:
    """Return the lines of a table that tells these fields of each row and has a column for each value of `by`."""
    columns = list(dict.fromkeys(map(by, rows)))
    cells = {(*(str(getattr(row, name)) for name in told), by(row)): row for row in rows}
    lines = ["| " + " | ".join([*told, *columns]) + " |", "|---" * (len(told) + len(columns)) + "|"]
    for key in dict.fromkeys(key[:-1] for key in cells):
        found = [cells.get((*key, column)) for column in columns]
        texts = ["–" if row is None else row.text + " ✗" * row.wrong for row in found]
        lines.append("| " + " | ".join([*key, *texts]) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python tests/calibration/simulate_sets.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("results/calibration"), help="folder to write to")
    parser.add_argument("--singles", type=int, default=20_000, help="repetitions of intervals")
    parser.add_argument("--families", type=int, default=2_000, help="repetitions of tests and of families")
    options = parser.parse_args(arguments)
    write(list(measure(options.singles, options.families)), options.out)


if __name__ == "__main__":
    main()
