"""What does choosing learning rates by a few trials cost, and do the verdicts between tuned rules keep their promise?

`python tests/calibration/simulate_tuning.py --out results/calibration` writes every number to `tuning.csv`, and tables
of them to `tuning.md`. The same numbers each time: every cell has its own stream of random numbers, named after it.

A response is a parabola over the logarithm of the rate, with its peak anywhere within ±1.5 doublings of the protocol's
rate. Noise is of three kinds. Each training has its own, which validation and test share, as they judge one network: in
real trials the two correlate by .9 to 1. Each rate has an offset between validation and test, because they are two
samples of the data; each contestant has offsets of its own. A seed's level, which all rates share, cancels and is left
out. A rate at which training fails is left out, too: nobody would choose it.
"""

import argparse
import csv
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.evidence.significance import max_t, verdict
from bench.tuning.space import GRID

ALPHA = 0.05
SEEDS = 8
"""Of the reported runs."""
TUNING_SEEDS = (1, 2, 4, 8)
RULES = (6, 40)
"""Beside equal weights."""
PEAK = 1.5
"""The largest distance of the peak from the protocol's rate, in doublings."""
RATES = np.sort(np.log2(GRID))
OWN_RATE = int(np.flatnonzero(RATES == 0)[0])
"""The place of the protocol's own rate."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Setting:
    """A kind of task set, by numbers that were read off the trials and runs of the built-in sets at `quick`."""

    name: str
    curvature: float
    """Points of Δ task that one doubling away from the peak costs."""
    noise: float
    """Standard deviation of one training, in points."""
    offset: float
    """Standard deviation of the offset between validation and test at each rate, in points."""
    tasks: int


SETTINGS = (
    Setting("like digits", 1.6, 1.0, 0.35, 3),
    Setting("like scales", 4.0, 4.0, 0.9, 5),
    Setting("like scenes", 1.3, 0.6, 0.3, 3),
)


@dataclass(frozen=True)
class Loss:
    """What choosing by validation loses against the best rate of the grid."""

    setting: str
    tuning_seeds: int
    draws: int
    regret: float
    """Mean, in points."""
    regret_error: float
    """Standard error of that mean."""
    regret_95: float
    """What 95 % of draws stay below."""
    best: float
    """How often the best rate is chosen."""
    near: float
    """How often it or a neighbour is chosen."""


@dataclass(frozen=True)
class Errors:
    """How often some verdict of a family is "better" or "worse" though all contestants respond alike."""

    setting: str
    against: str
    rules: int
    tuning_seeds: int
    """0: nobody chooses, and all have the best rate."""
    draws: int
    any_claim: float
    """Over trials and runs: contestants are the same, and only chance tells them apart."""
    false_given_rates: float
    """A claim about two contestants whose chosen rates are equally good, or in the wrong direction."""
    held_untuned: float
    """A claim that is also made at the protocol's own rate."""
    other_rate: float
    """How often the chosen rates of some rule and its reference are not equally good."""
    gap: float
    """Mean absolute difference, in points, that the chosen rates make between a rule and its reference."""
    claimed_gap: float
    """The same of those rules of which something is claimed; 0 where nothing is."""


def measure_losses(draws: int) -> Iterator[Loss]:
    """Yield what choosing loses, for each setting and number of tuning seeds."""
    for setting in SETTINGS:
        for seeds in TUNING_SEEDS:
            generator = stream("loss", setting.name, seeds)
            response = responses(generator, setting, draws)
            chosen = choices(generator, setting, response, setting.noise, seeds)
            lost = response.max(1) - taken(response, chosen)
            away = np.abs(chosen - response.argmax(1))
            yield Loss(
                setting.name, seeds, draws, float(lost.mean()), float(lost.std() / np.sqrt(draws)),
                float(np.quantile(lost, 0.95)), float((away == 0).mean()), float((away <= 1).mean()),
            )  # fmt: skip


def measure_errors(draws: int) -> Iterator[Errors]:
    """Yield error rates of the verdicts against equal weights and against single-task learning."""
    for rules in RULES:
        for setting in SETTINGS:
            for seeds in (0, 2, 8):
                yield errors(setting, "equal", rules, seeds, draws)
                yield errors(setting, "stl", rules, seeds, draws)


def errors(setting: Setting, against: str, rules: int, tuning_seeds: int, draws: int) -> Errors:
    """Return the error rates of one cell.

    Against `equal` the reference chooses as the rules do. Against `stl` it chooses a rate for each task. Tasks are
    independent and alike, so that the noise of one is √K times that of their mean.
    """
    generator = stream("errors", setting.name, against, rules, tuning_seeds)
    response = responses(generator, setting, draws)
    everyone = np.repeat(response[:, None], rules, 1)
    single = np.repeat(response[:, None], setting.tasks if against == "stl" else 1, 1)
    spread = setting.noise * np.sqrt(single.shape[1])
    own = choices(generator, setting, everyone, setting.noise, tuning_seeds)
    reference = choices(generator, setting, single, spread, tuning_seeds)
    truth = taken(everyone, own) - taken(single, reference).mean(1, keepdims=True)
    truth[np.abs(truth) < 1e-9] = 0
    shape = (draws, SEEDS, rules + 1)
    noise, others = (setting.noise * generator.standard_normal(shape) for _ in range(2))
    is_own_rate = np.column_stack([(reference == OWN_RATE).all(1), own == OWN_RATE])
    untuned = np.where(is_own_rate[:, None], noise, others)  # there the tuned run and the untuned one are the same
    claimed, false, held, gaps = np.zeros(draws, bool), np.zeros(draws, bool), np.zeros(draws, bool), []
    for draw in range(draws):
        found = claims(truth[draw] + noise[draw, :, 1:] - noise[draw, :, :1])
        before = claims(untuned[draw, :, 1:] - untuned[draw, :, :1]) if found else {}
        for rule, sign in found.items():
            claimed[draw] = True
            false[draw] |= sign != np.sign(truth[draw, rule])
            held[draw] |= sign == before.get(rule)
            gaps.append(abs(truth[draw, rule]))
    return Errors(
        setting.name, against, rules, tuning_seeds, draws, float(claimed.mean()), float(false.mean()),
        float(held.mean()), float(truth.any(1).mean()), float(np.abs(truth).mean()),
        float(np.mean(gaps)) if gaps else 0.0,
    )  # fmt: skip


def claims(differences: Floats) -> dict[int, int]:
    """Return which rules `[seeds, rules]` are called better (1) or worse (−1) than their reference."""
    p = max_t(differences)
    words = {rule: verdict(differences[:, rule], p=float(p[rule]), alpha=ALPHA) for rule in np.flatnonzero(p <= ALPHA)}
    return {int(rule): 1 if word == "better" else -1 for rule, word in words.items() if word in ("better", "worse")}


def responses(generator: np.random.Generator, setting: Setting, draws: int) -> Floats:
    """Draw what contestants gain at each rate `[draws, rates]`, up to a constant."""
    peak = generator.uniform(-PEAK, PEAK, (draws, 1))
    return np.asarray(-setting.curvature * (RATES - peak) ** 2)


def choices(
    generator: np.random.Generator, setting: Setting, response: Floats, noise: float, seeds: int
) -> NDArray[np.intp]:
    """Choose by validation, with so many tuning seeds: the place of the rate with the highest mean `[…]`."""
    if not seeds:
        return np.asarray(response.argmax(-1))
    offset = setting.offset * generator.standard_normal(response.shape) * noise / setting.noise
    trials = noise / np.sqrt(seeds) * generator.standard_normal(response.shape)
    return np.asarray((response + offset + trials).argmax(-1))


def taken(response: Floats, chosen: NDArray[np.intp]) -> Floats:
    """Return the response at the chosen rates."""
    return np.take_along_axis(response, chosen[..., None], -1)[..., 0]


def stream(*name: object) -> np.random.Generator:
    """Return the random numbers of a cell."""
    return np.random.default_rng(list(repr(name).encode()))


def write(losses: Sequence[Loss], found: Sequence[Errors], folder: Path) -> None:
    """Write `tuning.csv` and `tuning.md` into the folder, which is made if need be."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = list(dict.fromkeys(field.name for kind in (Loss, Errors) for field in fields(kind)))
    with (folder / "tuning.csv").open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, lineterminator="\n")
        table.writeheader()
        for row in (*losses, *found):
            table.writerow({name: f"{x:.6g}" if isinstance(x, float) else x for name, x in asdict(row).items()})
    (folder / "tuning.md").write_text(_markdown(losses, found), encoding="utf-8")


def _markdown(losses: Sequence[Loss], found: Sequence[Errors]) -> str:
    two = [row for row in losses if row.tuning_seeds == 2]
    against_equal = [row for row in found if (row.against, row.tuning_seeds) == ("equal", 2)]
    single = [row for row in found if (row.against, row.tuning_seeds) == ("stl", 2)]
    lines = [
        "# What tuning costs, and what its verdicts promise",
        "",
        "Written by `python tests/calibration/simulate_tuning.py`, from simulated trials and runs: "
        f"{losses[0].draws:,} draws of what choosing loses, {found[0].draws:,} of each family.",
        "",
        "Each contestant has seven rates and the same response to them, a parabola over the logarithm of the rate. "
        "The numbers below are those of the built-in sets: how much a doubling costs, the noise of a training, and the "
        "offset between validation and test (that of scenes is assumed).",
        "",
        *_table(("setting", "a doubling costs", "noise", "offset", "tasks"), [astuple(one) for one in SETTINGS]),
        "",
        "## What choosing by validation loses against the best rate",
        "",
        f"With two tuning seeds {_span([row.regret for row in two])} points of Δ on average. More seeds help where the "
        "noise is large; where it is not, the offset between validation and test remains, which no seed removes.",
        "",
        *_table(
            ("setting", "tuning seeds", "lost, points", "95 % lose less than", "best chosen, %", "or a neighbour, %"),
            [(r.setting, r.tuning_seeds, f"{r.regret:.2f} ± {r.regret_error:.2f}", f"{r.regret_95:.2f}",
              f"{100 * r.best:.0f}", f"{100 * r.near:.0f}") for r in losses],
        ),
        "",
        "## Verdicts between contestants that respond alike",
        "",
        f"{SEEDS} reported seeds, tests and words of the project's own, nominal {ALPHA:.0%} for a family. Two rates of "
        "error, because two questions can be asked:",
        "",
        "* *false given the rates*: some claim about two contestants whose chosen rates are equally good, or in the "
        f"wrong direction. This is what the tests promise. With two tuning seeds, against equal weights: "
        f"{_span([100 * row.false_given_rates for row in against_equal])} %.",
        "* *any claim*: some claim at all. The contestants respond alike, so that each is an error if it is read as "
        "one about rules. Most are true of the two rates that chance has chosen. Against equal weights: "
        f"{_span([100 * row.any_claim for row in against_equal])} %; against single-task learning, which chooses for "
        f"each task by noisier scores: {_span([100 * row.any_claim for row in single])} %.",
        "",
        "This is what the words \"given these rates\" leave out: the reported seeds do not repeat the choice of rates. "
        "Where two rules are alike and choose different rates, their verdict may be a true difference between these "
        "rates. Such differences are small: the last column has their mean among what was claimed, and a lead that is "
        "far larger is not explained by them. More tuning seeds make such claims rarer. A claim that *holds untuned* "
        "is made at the protocol's own rate, too, which is the same for all: "
        f"{_span([100 * row.held_untuned for row in (*against_equal, *single)])} %. With 0 tuning seeds nobody "
        "chooses, all have the best rate, and every claim is false.",
        "",
        *_table(
            ("setting", "against", "rules", "tuning seeds", "any claim, %", "false given the rates, %",
             "holds untuned, %", "some rate differs, %", "mean gap, points", "of claims"),
            [(r.setting, r.against, r.rules, r.tuning_seeds, _rate(r.any_claim, r.draws),
              _rate(r.false_given_rates, r.draws), _rate(r.held_untuned, r.draws), f"{100 * r.other_rate:.0f}",
              f"{r.gap:.2f}", f"{r.claimed_gap:.2f}") for r in found],
        ),
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> list[str]:
    body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    return ["| " + " | ".join(head) + " |", "|---" * len(head) + "|", *body]


def _span(values: Sequence[float]) -> str:
    return f"{min(values):.1f} to {max(values):.1f}"


def _rate(rate: float, draws: int) -> str:
    return f"{100 * rate:.1f} ± {100 * np.sqrt(rate * (1 - rate) / draws):.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python tests/calibration/simulate_tuning.py", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--out", type=Path, default=Path("results/calibration"), help="folder to write to")
    parser.add_argument("--draws", type=int, default=20_000, help="draws of what choosing loses")
    parser.add_argument("--families", type=int, default=4_000, help="draws of families of rules")
    options = parser.parse_args(arguments)
    write(list(measure_losses(options.draws)), list(measure_errors(options.families)), options.out)


if __name__ == "__main__":
    main()
