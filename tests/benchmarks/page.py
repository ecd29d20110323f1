"""Sessions of benchmarks → `index.html` in their folder, a pure function of their files.

python tests/benchmarks/page.py results/benchmarks
"""

import argparse
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from pydantic import BaseModel, ValidationError

from bench.records import REFERENCE
from bench.report.figures.axes import panel, times_axis
from bench.report.figures.look import COLOURS, DASHES, WIDTH, room_for, short
from bench.report.figures.svg import Plot, draw
from bench.report.findings import number
from bench.report.pages.html import render
from bench.store import write

OURS = "mtl-bench"
PASSES = ("forward", "heads", "trunk")
"""The counts of passes that are shown; of teachers' passes there is one a task, where there are any."""
SHOWN = 20
"""So many sessions, the latest, are in the history."""
RATIOS = (
    "Medians over rounds, with quartiles, of a step's time over that of equal weights' step right before it. "
    "Equal weights are there themselves: how far they are from 1 is what such a measurement is worth."
)
SOLVERS = (
    "Medians over stored problems: random and conflicting gradients, whose lengths differ by up to six decades. The "
    "best values are known to 50 digits: the gap is how far the worst answer is from the best there is, relative to "
    "that; 1e-16 is rounding."
)
HISTORY = (
    f"Median ratios of this project's rules by commit, + where there were changes; the latest {SHOWN} sessions at "
    "most. Sessions on different machines differ by these, too."
)


class Problem(Exception):
    """There can be no page; says why."""


class Commit(BaseModel):
    """What was checked out."""

    id: str
    dirty: bool

    def __str__(self):
        return self.id[:7] + "+" * self.dirty


class Machine(BaseModel):
    """Where a session ran."""

    processor: str
    cores: str
    machine: str
    system: str
    versions: dict[str, str]


class Stats(BaseModel):
    """Seconds."""

    min: float
    median: float
    rounds: int


class Benchmark(BaseModel):
    """One test's outcome. Steps are known by their ratio to equal weights, solvers by their gap."""

    group: str
    name: str
    params: dict[str, str | int] | None
    extra_info: dict[str, float]
    stats: Stats


class Session(BaseModel):
    """What of pytest-benchmark's file is shown."""

    datetime: datetime
    commit_info: Commit
    machine_info: Machine
    benchmarks: list[Benchmark]

    def table(self, measure):
        """The benchmarks with this measure, a row each, with what they were given and what was found."""
        chosen = [one for one in self.benchmarks if measure in one.extra_info]
        return pd.DataFrame([{**(one.params or {}), **one.extra_info, **dict(one.stats)} for one in chosen])


def read(folder):
    """Return the sessions in a folder, the earliest first.

    Raises:
        Problem: there is none, or a file is no session.
    """
    sessions = []
    for file in sorted(folder.rglob("*.json")):
        if file.parent.name == "gpu":  # what tests/gpu/run.py found, which has another form
            continue
        try:
            sessions.append(Session.model_validate_json(file.read_bytes()))
        except ValidationError as problem:
            first = problem.errors(include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise Problem(f"{file} is no session of benchmarks ({where or 'JSON'}: {first['msg']})") from None
    if not sessions:
        raise Problem(f"{folder} has no session of benchmarks: `tox -e bench` adds one")
    return sorted(sessions, key=lambda session: session.datetime)


def page(sessions):
    """Render the page: the latest session, and what became of the ratios over all of them."""
    latest = sessions[-1]
    steps, solvers = latest.table("times_equal"), latest.table("gap")
    makers = {
        "steps": [(f"Steps on {name}", RATIOS, partial(ratios, own)) for name, own in by(steps, "network")],
        "solvers": [(f"Solvers: {name}", SOLVERS, partial(solver_times, own)) for name, own in by(solvers, "problem")],
        "history": [
            (f"History on {name}", HISTORY, partial(history, own)) for name, own in by(over_time(sessions), "network")
        ],
    }
    drawn = {name: draw(own, name) for name, own in makers.items()}
    measured = {"times_equal", "gap"}
    return render(
        Path(__file__).with_suffix(".html.j2").read_text("utf-8"),
        [figure for own in drawn.values() for figure in own],
        **drawn,
        others=[other(one) for one in latest.benchmarks if not measured & one.extra_info.keys()],
        sessions=[about(session) for session in reversed(sessions)],
        versions=sorted({name for session in sessions for name in session.machine_info.versions}),
    )


def ratios(frame):
    """A step of every rule on one network, relative to equal weights."""
    libraries = known(frame)
    ours_first = frame.assign(place=frame["library"].map(libraries.index)).sort_values(["place", "times_equal"])
    order = list(dict.fromkeys(ours_first["method"]))
    dodge = {library: 0.24 * (place - (len(libraries) - 1) / 2) for place, library in enumerate(libraries)}
    frame = frame.assign(y=frame["method"].map(order.index) + frame["library"].map(dodge))
    figure = Figure(figsize=(WIDTH, 0.7 + 0.26 * len(order)))
    axes = panel(figure, room_for(order) + 0.1, 0.5, WIDTH - 0.1, 0.6 + 0.26 * len(order))
    axes.set_xscale("log")
    axes.axvline(1, color=COLOURS["fg"], linewidth=0.8)
    axes.hlines(frame["y"], frame["low"], frame["high"], [ink(libraries, one) for one in frame["library"]])
    sns.scatterplot(frame, x="times_equal", y="y", s=36, linewidth=0, ax=axes, **look(libraries))
    low, high = frame["low"].min() / 1.1, frame["high"].max() * 1.1
    axes.set(xlim=(low, high), ylim=(len(order) - 0.4, -0.6), xlabel="time of a step, × equal weights (log scale)")
    times_axis(axes.xaxis, low, high)
    axes.set_ylabel("")
    axes.set_yticks(range(len(order)), [short(method) for method in order])
    axes.grid()
    legend(axes, libraries, "upper right")
    found = {
        (row["method"], row["library"]): f"{row['times_equal']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
        for row in frame.to_dict("records")
    }
    rows = [[method, *(found.get((method, library), "") for library in libraries)] for method in order]
    heads = ["Method", *(f"{library}, × (quartiles)" for library in libraries)]
    if PASSES[0] in frame:
        counted = frame[frame["library"] == OURS].set_index("method")
        rows = [[*row, passes(counted.loc[row[0]]) if row[0] in counted.index else ""] for row in rows]
        heads.append("Forward + backward through heads + through the trunk")
    note = ""
    if len(own := frame[(frame["method"] == REFERENCE) & (frame["library"] == OURS)]):
        note = f"The fastest step of theirs took {duration(own['min'].min())}."
    return Plot(figure, heads, rows, note)


def passes(row):
    """The passes of a step that were counted; nothing in a session of before they were."""
    return " + ".join(f"{row[what]:g}" for what in PASSES) if row[list(PASSES)].notna().all() else ""


def solver_times(frame):
    """The time of solvers over the number of tasks, and how good their solutions are."""
    libraries, counts = known(frame), sorted(set(frame["tasks"]))
    frame = frame.assign(microseconds=1e6 * frame["median"])
    figure = Figure(figsize=(WIDTH, 2.9))
    axes = panel(figure, 0.75, 0.5, WIDTH - 0.1, 2.8)
    axes.set(xscale="log", yscale="log")
    sns.lineplot(frame, x="tasks", y="microseconds", dashes=False, ax=axes, **look(libraries))
    axes.set(xlabel="number of tasks K (log scale)", ylabel="µs (log scale)")
    axes.xaxis.set_major_locator(FixedLocator(counts))
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid()
    legend(axes, libraries, "upper left")
    found = {(row["tasks"], row["library"]): row for row in frame.to_dict("records")}
    rows = [[f"K = {k}", *(text for one in libraries for text in solver_texts(found.get((k, one))))] for k in counts]
    heads = ["Tasks", *(head for one in libraries for head in (f"{one}, median", "worst gap"))]
    return Plot(figure, heads, rows)


def solver_texts(row):
    """A solver's time and its gap."""
    return ("", "") if row is None else (duration(row["median"]), number(row["gap"], 2))


def over_time(sessions):
    """The ratios of our steps in the latest sessions; empty where only one has any."""
    tables = [(session, own) for session in sessions if len(own := session.table("times_equal"))][-SHOWN:]
    frames = [
        own[own["library"] == OURS].assign(place=place, session=f"{session.commit_info} {session.datetime:%Y-%m-%d}")
        for place, (session, own) in enumerate(tables)
    ]
    return pd.concat(frames) if len(frames) > 1 else pd.DataFrame()


def history(frame):
    """What became of the ratios on one network."""
    order = list(frame.groupby("method")["times_equal"].last().sort_values(ascending=False).index)
    labels = dict(zip(frame["place"], frame["session"], strict=True))
    lines = {method: (COLOURS[f"c{i % 9}"], DASHES[i // 9 % len(DASHES)]) for i, method in enumerate(order)}
    high = 0.7 + max(2.4, 0.19 * len(order))
    figure = Figure(figsize=(2 * WIDTH, high))
    axes = panel(figure, 0.6, 0.6, 2 * WIDTH - room_for(order) - 0.8, high - 0.1)
    axes.set_yscale("log")
    sns.lineplot(
        frame,
        x="place",
        y="times_equal",
        hue="method",
        style="method",
        hue_order=order,
        style_order=order,
        palette={method: colour for method, (colour, _) in lines.items()},
        dashes={method: dashes for method, (_, dashes) in lines.items()},
        markers=dict.fromkeys(order, "o"),
        errorbar=None,
        ax=axes,
    )
    times_axis(axes.yaxis, frame["times_equal"].min() / 1.1, frame["times_equal"].max() * 1.1)
    axes.set_xticks(list(labels), [short(text).split(" ")[0] for text in labels.values()], rotation=25, ha="right")
    axes.set(xlabel="", ylabel="× equal weights (log scale)")
    axes.grid()
    handles = axes.get_legend().legend_handles
    axes.legend(handles, [short(method) for method in order], loc="center left", bbox_to_anchor=(1, 0.5))
    found = {(row.method, row.place): f"{row.times_equal:.2f}" for row in frame.itertuples()}
    rows = [[method, *(found.get((method, place), "") for place in labels)] for method in order]
    return Plot(figure, ["Method", *labels.values()], rows, wide=True)


def by(frame, column):
    """The parts of a frame by a column, in its order; none of an empty frame."""
    return frame.groupby(column, sort=False) if len(frame) else []


def known(frame):
    """The libraries in a frame, ours first."""
    return sorted(set(frame["library"]), key=lambda library: (library != OURS, library))


def ink(libraries, library):
    """A library's colour."""
    return COLOURS[f"c{1 + libraries.index(library) % 8}"]


def look(libraries):
    """Seaborn's arguments by which libraries differ in colour and shape."""
    return {
        **{"hue": "library", "style": "library", "hue_order": libraries, "style_order": libraries, "legend": "brief"},
        **{
            "palette": {one: ink(libraries, one) for one in libraries},
            "markers": ["o", "D", "s", "^", "v"][: len(libraries)],
        },
    }


def legend(axes, libraries, place):
    """Name the libraries as a figure can."""
    handles = axes.get_legend().legend_handles
    axes.legend(handles, [short(library) for library in libraries], loc=place)


def other(benchmark):
    """A row of the table of what is no step and no solver."""
    name = benchmark.name.removeprefix("test_").replace("_", " ").replace("[", " [", 1)
    stats = benchmark.stats
    return [benchmark.group, name, duration(stats.min), duration(stats.median), str(stats.rounds)]


def about(session):
    """A row of the table of sessions."""
    machine = session.machine_info
    return {
        "when": f"{session.datetime.astimezone(UTC):%Y-%m-%d %H:%M} UTC",
        "commit": str(session.commit_info),
        "machine": f"{machine.processor}, {machine.cores} cores, {machine.system} {machine.machine}",
        "versions": machine.versions,
        "count": len(session.benchmarks),
    }


def duration(seconds):
    """A time to three digits, in the unit that suits it."""
    for unit, size in (("s", 1), ("ms", 1e-3)):
        if seconds >= 0.9995 * size:  # what three digits round to 1
            return f"{number(seconds / size)} {unit}"
    return f"{number(seconds * 1e6)} µs"


def main(arguments=None):
    """Run the command."""
    parser = argparse.ArgumentParser(description="Sessions of benchmarks → index.html in their folder.")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args(arguments).folder
    try:
        write(folder / "index.html", page(read(folder)))
    except Problem as problem:
        sys.exit(str(problem))


if __name__ == "__main__":
    main()
