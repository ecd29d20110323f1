"""Simulate the gate: false alarms and power, with the spread and correlation of the suite's own runs.

`python tests/calibration/simulate_gate.py` writes `gate.csv` and `gate.md` to `results/calibration`. It reads
`results/baseline.json` and, beside its tables, `rounding.json`: the same runs once more, from initial weights larger by
a millionth, which is what a harmless change of arithmetic does to trained networks. If that file is not there, it is
made, which takes as long as the runs.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np

from bench.gate.baseline import (
    Baseline,
    Cell,
    SeedValues,
    Snapshot,
    make_baseline,
    read_baseline,
    write_baseline,
)
from bench.gate.judge import ALPHA, gained, judge
from bench.spec import STL
from bench.store import Store, write

SEEDS = (3, 5, 8)
FALLS = (2.0, 5.0)
"""In points of every task."""
STREAMS = ("kept", "others")
"""A change keeps the streams of random numbers, so that a run and its like differ by rounding; or it draws others."""
MILLIONTH = 1e-6


class Fall(NamedTuple):
    """What is made worse in a simulated comparison."""

    method: str
    points: float
    task_set: str
    """Empty: on all."""


class Row(NamedTuple):
    """One measured rate."""

    what: str
    streams: str
    seeds: int
    place: str
    points: float
    method: str
    rate: float
    repetitions: int


def simulated(
    before: Snapshot, after: Snapshot, seeds: int, number: int, *, streams: str = "kept", fall: Fall | None = None
) -> tuple[Snapshot, Snapshot]:
    """Return a comparison of so many seeds in which nothing but a `fall` has become worse.

    Args:
        before, after: the same runs twice, of which spread and correlation are taken, not the means.
        number: of the repetition; the same gives the same.
        streams: one of `STREAMS`.

    Values are those of a normal distribution with just the covariance of the stored seeds: over metrics, methods and
    the two snapshots on a task set, where streams are kept; the two are independent where they are not.
    """
    draw = np.random.default_rng([number, seeds, STREAMS.index(streams)])
    sets = sorted({cell.task_set for cell in before.cells})
    again = {cell.key: cell for cell in after.cells}
    stored = {name: max(len(cell.seeds) for cell in before.cells if cell.task_set == name) for name in sets}
    one = {name: draw.standard_normal((seeds, stored[name])) for name in sets}
    other = one if streams == "kept" else {name: draw.standard_normal(own.shape) for name, own in one.items()}
    sides: tuple[list[Cell], list[Cell]] = ([], [])
    for cell in before.cells:
        means = cell.values(cell.seeds).mean(0)
        falls = fall is not None and fall.method == cell.method and fall.task_set in ("", cell.task_set)
        up = np.array([1 if higher else -1 for *_, higher in cell.metrics])
        lower = up * np.abs(means) * (fall.points if fall is not None and falls else 0) / 100
        for side, source, mix, at in ((0, cell, one, means), (1, again[cell.key], other, means - lower)):
            values = source.values(source.seeds)
            rows = at + mix[cell.task_set] @ (values - values.mean(0)) / np.sqrt(len(values) - 1)
            own = {seed: SeedValues(names=(), ok=True, values=tuple(row)) for seed, row in enumerate(rows.tolist())}
            bare = {"seeds": own, "passes": {}, "allocated_bytes": None, "step_ratio": None}
            sides[side].append(cell.model_copy(update=bare))
    return Snapshot(cells=tuple(sides[0])), Snapshot(cells=tuple(sides[1]))


def measure(before: Snapshot, after: Snapshot, alarms: int, falls: int) -> Iterator[Row]:
    """Yield all rates, from so many repetitions without a change, and with each fall of each method."""
    methods = sorted({cell.method for cell in before.cells})
    places = ["", *sorted({cell.task_set for cell in before.cells})]
    for streams in STREAMS:
        for seeds in SEEDS:
            alike = (simulated(before, after, seeds, number, streams=streams) for number in range(alarms))
            hits = sum(bool(judge(*sides).having("regressed")) for sides in alike)
            yield Row("false alarm", streams, seeds, "", 0.0, "any", hits / alarms, alarms)
            for place in places:
                for points in FALLS:
                    for method in methods:
                        fall = Fall(method, points, place)
                        fallen = (simulated(before, after, seeds, n, streams=streams, fall=fall) for n in range(falls))
                        found = [{f.method for f in judge(*sides).having("regressed")} for sides in fallen]
                        rate = sum(method in own for own in found) / falls
                        yield Row("power", streams, seeds, place, points, method, rate, falls)


def write_tables(rows: Sequence[Row], before: Snapshot, after: Snapshot, folder: Path) -> None:
    """Write every rate as CSV, and the tables that a person reads."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "gate.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(Row._fields)
        table.writerows(rows)
    write(folder / "gate.md", _page(rows, before, after).encode())


def _page(rows: Sequence[Row], before: Snapshot, after: Snapshot) -> str:
    lines = [
        "# Calibration of the gate",
        "",
        "Written by `python tests/calibration/simulate_gate.py`. Percentages of simulated comparisons that alarm; the "
        "spread and correlation of their runs are those of `results/baseline.json` and `rounding.json`, the same runs "
        "from initial weights larger by a millionth.",
        "",
        "Streams kept: a run and its like differ by as much as rounding makes of them. Others: they have nothing in "
        "common, as after a change of the order in which random numbers are drawn. Power is that of seeing one method "
        "fall by so many points in every task: the mean over methods, and the method that is hardest to see.",
        "",
        "| streams | seeds | false alarm, any | fall | on all sets | on one set |",
        "|---|---|---|---|---|---|",
    ]
    for streams in STREAMS:
        for seeds in SEEDS:
            own = [row for row in rows if (row.streams, row.seeds) == (streams, seeds)]
            [alarm] = [row for row in own if row.what == "false alarm"]
            promise = f"{100 * alarm.rate:.1f}" + (" **broken**" if alarm.rate > ALPHA else "")
            for points in FALLS:
                seen = [row for row in own if row.what == "power" and row.points == points]
                everywhere = _range([row.rate for row in seen if not row.place])
                somewhere = _range([row.rate for row in seen if row.place])
                lines.append(f"| {streams} | {seeds} | {promise} | −{points:g} | {everywhere} | {somewhere} |")
    repetitions = {row.what: row.repetitions for row in rows}
    lines += [
        "",
        f"Repetitions: {repetitions['false alarm']:,} without a change, {repetitions['power']} of each fall.",
        "",
        "## What rounding does",
        "",
        "Points by which a method's runs have changed, beside their spread over seeds.",
        "",
        "| task set | method | change | its deviation | spread over seeds |",
        "|---|---|---|---|---|",
    ]
    again = {cell.key: cell for cell in after.cells}
    for cell in before.cells:
        values = cell.values(cell.seeds)
        change = gained(cell, values, again[cell.key].values(cell.seeds))
        spread = gained(cell, np.broadcast_to(values.mean(0), values.shape), values).std(ddof=1)
        numbers = f"{change.mean():+.2f} | {change.std(ddof=1):.2f} | {spread:.2f}".replace("-", "−")
        lines.append(f"| {cell.task_set} | {cell.method} | {numbers} |")
    return "\n".join(lines) + "\n"


def _range(rates: Sequence[float]) -> str:
    return f"{100 * float(np.mean(rates)):.0f}, hardest {100 * min(rates):.0f}"


def rounded(before: Baseline) -> Baseline:
    """Make the runs of a baseline once more, from initial weights larger by a millionth."""
    from bench.api import run
    from bench.training.streams import build_network

    def larger(*arguments: Any) -> Any:
        network = build_network(*arguments)
        for parameter in network.parameters():
            parameter.data.mul_(1 + MILLIONTH)
        return network

    methods, tasks = (sorted({cell.asked[name] for cell in before.cells} - {STL}) for name in ("methods", "tasks"))
    [protocol] = {cell.asked["protocol"] for cell in before.cells}
    seeds = sorted({seed for cell in before.cells for seed in cell.seeds})
    with tempfile.TemporaryDirectory() as folder, mock.patch("bench.training.model.build_network", larger):
        run(methods, tasks, seeds, protocol, folder, engine="inline", figures=False)
        store = Store(Path(folder))
        return make_baseline(list(store.records().values()), [], "initial weights larger by a millionth")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="simulate_gate.py", description=__doc__.split("\n")[0])
    parser.add_argument("--baseline", type=Path, default=Path("results/baseline.json"), help="runs to take spread from")
    parser.add_argument("--out", type=Path, default=Path("results/calibration"), help="folder to write to")
    parser.add_argument("--alarms", type=int, default=1000, help="repetitions without a change")
    parser.add_argument("--falls", type=int, default=40, help="repetitions of each fall of each method")
    options = parser.parse_args(arguments)
    before, file = read_baseline(options.baseline), options.out / "rounding.json"
    if not file.exists():
        write_baseline(rounded(before), file)
    after = read_baseline(file)
    write_tables(list(measure(before, after, options.alarms, options.falls)), before, after, options.out)


if __name__ == "__main__":
    main()
