"""The commands: parse, call, print, exit."""

import contextlib
import importlib.metadata
import inspect
import io
import json
import logging
import os
import shlex
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from bench.engine.interrupt import UserInterruptError, interrupt, user_interrupts
from bench.plain import one_line, printable
from bench.planning.request import Request, options, path, read_request
from bench.planning.seeds import MOST_SEEDS, write_seeds
from bench.spec import STL

if TYPE_CHECKING:
    from bench.planning.plan import Planned
    from bench.records import RunRecord
    from bench.report.board import Report
    from bench.tuning.choose import Choice

OK, FAILED_RUNS, USAGE, NOTHING_RAN, OPEN, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
CLOSED = 141
"""As of a program that SIGPIPE ends: nobody reads the output any more."""


class OutputError(Exception):
    """The results cannot be printed; says why."""


class _Console(Console):
    """A console that leaves a closed pipe and a full disk to `main`."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as `rich` does."""
        try:
            super().print(*objects, **options)
        except BrokenPipeError:
            raise
        except OSError as problem:
            raise OutputError(f"the output cannot be written: {problem.strerror}") from problem

    def on_broken_pipe(self) -> None:
        """Raise what was raised. (`rich` exits with 1, which is the code of something else here.)"""
        raise


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, no_args_is_help=True)
err = _Console(stderr=True, emoji=False)


Folder = Annotated[Path, typer.Option(parser=path, help="the folder of records and pages")]
Choices = Annotated[Path | None, typer.Option(parser=path, help="write the choices into this file, to be shipped")]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Figures = Annotated[
    bool, typer.Option("--figures/--no-figures", help="draw the page's figures, a third of a second each")
]
Debug = Annotated[bool, typer.Option("--debug", help="show tracebacks")]
Config = Annotated[
    Path | None,
    typer.Option(
        parser=path, help='a TOML file of options (methods = "standard"); what the command line says goes before it'
    ),
]

DEFAULT_OUT = Path("results/local")
LONGEST_MESSAGE, LONGEST_REASON = 2000, 300
"""Characters of an error, and of the reason of a failed run, that are printed."""


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            version = importlib.metadata.version("mtl-bench")
        except importlib.metadata.PackageNotFoundError:
            version = "(not installed)"
        _out().print(f"mtl-bench {version}", highlight=False)
        raise typer.Exit


@app.callback()
def _app(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="print the version and exit")
    ] = False,
) -> None:
    """Compare multi-task learning balancing methods: train, pair by seed, and write a leaderboard."""


def _takes_request(*, planning: bool = False) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Give a command the options of a request, in the place of its first argument, and `--config`.

    Args:
        planning: only the options that concern the plan.
    """

    def decorate(command: Callable[..., int]) -> Callable[..., int]:
        known = options(planning=planning)

        def call(context: typer.Context, config: Path | None = None, **values: Any) -> int:
            request = read_request({name: values[name] for name in known if _is_given(context, name)}, config)
            context.obj.debug |= request.debug
            return command(request, **{name: value for name, value in values.items() if name not in known})

        own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]
        keyword = partial(inspect.Parameter, kind=inspect.Parameter.KEYWORD_ONLY)
        parameters = [
            keyword("context", annotation=typer.Context),
            *(keyword(name, default=default, annotation=kind) for name, (kind, default) in _declared(known).items()),
            keyword("config", default=None, annotation=Config),
            *(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own),
        ]
        call.__doc__ = command.__doc__
        call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return call

    return decorate


def _end_as_by_ctrl_c() -> None:
    """Let the command end as by Ctrl-C where it is told to stop, or where its terminal is closed."""
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) == signal.SIG_DFL:  # nohup has it ignored
            signal.signal(number, interrupt)


def _is_given(context: typer.Context, option: str) -> bool:
    """Whether the command line names an option; else its value is the default."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def _declared(known: Mapping[str, tuple[type, Any, str]]) -> dict[str, tuple[Any, Any]]:
    """Return the annotation that Typer reads and the default of each option."""
    flags = {"debug": ["--debug"]}
    return {
        name: (Annotated[kind, typer.Option(*flags.get(name, []), help=help)], default)
        for name, (kind, default, help) in known.items()
    }


@app.command("run")
@_takes_request()
def run_command(request: Request) -> int:
    """Train what is not there yet and write the leaderboard."""
    from bench.api import report
    from bench.campaign import Campaign
    from bench.store import Store

    watcher = _Watcher()
    _end_as_by_ctrl_c()
    out, folder = request.folder, request.folder.absolute()  # a plug-in may leave the working folder
    try:
        found = Campaign(request, Store(folder), watcher).run()
    except UserInterruptError:
        watcher.close()
        if Store(folder).records():
            report(folder, figures=False)
        _say(f"interrupted: what is finished is in {out}; the same command goes on from there")
        return INTERRUPTED
    finally:
        watcher.close()
    from bench.report.pages.terminal import print_board  # a second of imports, which an error need not pay
    from bench.report.pages.write import DRAW_FILE, FILES, TRIAL_FILES

    records = Store(folder).records()
    print_board(found, _out())
    _written(folder, (*FILES, *TRIAL_FILES, DRAW_FILE), out)
    names = [name for name in watcher.runs if name in records]
    statuses: Counter[str] = Counter(records[name].result.status for name in names)
    for status, count in sorted(statuses.items()):
        if status not in ("ok", "skipped"):
            _say(f"{count} of {len(names)} runs: {status}")
    return _exit_code(statuses)


@app.command("plan")
@_takes_request(planning=True)
def plan_command(request: Request, json: Json = False) -> int:
    """Show what would run, what is there already, and why each is not.

    With --json: an object with "runs" (a list of run, task_set, method, tasks, seed, protocol, role, to_do, why) and
    "forecast" (a list of sentences).
    """
    from bench.campaign import Campaign
    from bench.listing import plan_rows
    from bench.store import Store

    runs, said = Campaign(request, Store(request.folder)).plan()
    rows = plan_rows(runs)
    if json:
        return _json({"runs": rows, "forecast": said})
    table = Table(box=None, pad_edge=False)
    for column in ("run", "task set", "method", "tasks", "protocol", "seed", "state"):
        table.add_column(column, no_wrap=column == "run")
    for row in rows:
        which = "+".join(row["tasks"]) if row["method"] == STL else ""
        state = f"to run: {row['why']}" if row["to_do"] else row["why"]
        state = state if row["role"] == "run" else f"{row['role']}, {state}"
        _add(table, row["run"][:10], row["task_set"], row["method"], which, row["protocol"], row["seed"], state)
    _out().print(table)
    for line in said:
        _out().print(printable(line), markup=False, highlight=False)
    return OK


@app.command("tune")
@_takes_request()
def tune_command(request: Request, choices: Choices = None) -> int:
    """Make the trials alone, anew where the code has changed, and show what they choose.

    A choice that differs from the one that the package ships is named.
    """
    from bench.campaign import Campaign
    from bench.store import Store, write
    from bench.tuning.shipped import as_text, shipped_choices

    watcher = _Watcher()
    _end_as_by_ctrl_c()
    try:
        found = Campaign(request, Store(request.folder.absolute()), watcher).tune()
    except UserInterruptError:
        watcher.close()
        _say(f"interrupted: the trials that have ended are in {request.out}; the same command goes on from there")
        return INTERRUPTED
    finally:
        watcher.close()
    table = Table(box=None, pad_edge=False)
    for column in ("task set", "method", "tasks", "rate", "×", "options", "gain", "by seed"):
        table.add_column(column)
    for choice in found:
        best = max((gain for gain in choice.gains if gain is not None), default=None)
        _add(
            table,
            choice.task_set_label,
            choice.method_label,
            "+".join(choice.tasks) if choice.method == STL else "",
            f"{choice.chosen.lr:g}",
            f"{choice.factor:g}{' (edge)' if choice.edge else ''}",
            ", ".join(f"{name}={text}" for name, text in choice.options.items()),
            "" if best is None else f"{best:+.2f}",
            " ".join(f"{seed}: ×{factor:g}" for seed, factor in choice.by_seed.items()),
        )
    _out().print(table)
    shipped = shipped_choices()
    for choice in found:
        other = shipped.get(choice.name)
        if other is not None and other.setting != choice.setting:
            which = f" {choice.tasks[0]}" if choice.method == STL else ""
            line = f"{choice.task_set_label} {choice.method_label}{which}: the shipped choice is {other.setting}"
            _out().print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if choices is not None:
        write(choices, as_text(found))
        _out().print(f"written: {printable(str(choices))}", markup=False, highlight=False, soft_wrap=True)
    return OK


@app.command("report")
def report_command(
    source: Annotated[
        Path, typer.Argument(parser=path, help="a folder of records, or a tidy CSV file of anybody's runs")
    ] = DEFAULT_OUT,
    out: Annotated[Path | None, typer.Option(parser=path, help="where the pages go, if not there")] = None,
    margin: Annotated[float, typer.Option(help="points of Δ within which two methods are called equivalent")] = 1.0,
    correction: Annotated[str, typer.Option(help="for the family of all methods: max-t or holm")] = "max-t",
    figures: Figures = True,
    debug: Debug = False,
) -> int:
    """Rebuild the pages from records, or from a tidy CSV file, without training."""
    from bench.api import pages_folder, publish
    from bench.report.pages.terminal import print_board
    from bench.report.pages.write import DRAW_FILE, FILES, TRIAL_FILES

    print_board(publish(source, out, margin=margin, correction=correction, figures=figures), _out())
    folder = pages_folder(source, out)
    _written(folder, (*FILES, *TRIAL_FILES, DRAW_FILE), folder)
    return OK


@app.command("versus")
def versus_command(
    method: Annotated[str, typer.Argument(help="the reference, as the leaderboard writes it: static")],
    source: Annotated[
        Path, typer.Argument(parser=path, help="a folder of records, or a tidy CSV file of anybody's runs")
    ] = DEFAULT_OUT,
    margin: Annotated[float, typer.Option(help="points of Δ within which two methods are called equivalent")] = 1.0,
    correction: Annotated[str, typer.Option(help="for the family of all other methods: max-t or holm")] = "max-t",
    as_json: Json = False,
    debug: Debug = False,
) -> int:
    """Compare all methods with one of them, as the leaderboard does with equal weights."""
    from bench.api import versus

    found = versus(source, method, margin=margin, correction=correction)
    if as_json:
        return _json(json.loads(found.to_json(orient="records")))
    from bench.report.pages.terminal import print_versus

    print_versus(found, method, _out())
    return OK


@app.command("power")
def power_command(
    source: Annotated[
        Path, typer.Argument(parser=path, help="a folder of records, or a tidy CSV file of anybody's runs")
    ] = DEFAULT_OUT,
    target: Annotated[float, typer.Option(help="the difference to be found, in points of Δ task")] = 1.0,
    pairs: Annotated[bool, typer.Option("--pairs", help="every pair of methods, not each with equal weights")] = False,
    debug: Debug = False,
) -> int:
    """Say how many fresh seeds would settle what is undecided."""
    from bench.api import compare
    from bench.report.power import settling

    if not target > 0:
        raise typer.BadParameter(f"--target {target:g}: write points above 0")
    forms = {"difference": "+.2f", "sd": ".2f"}  # empty where too few seeds tell
    report = compare(source)
    found = settling(report, target, pairs=pairs)
    table = Table(box=None, pad_edge=False)
    for column in ("task set", "method", "other", "difference", "sd", "seeds", "needed", "at worst"):
        table.add_column(column, justify="left" if column in ("task set", "method", "other") else "right")
    for row in found.to_dict("records"):
        cells = [
            row["task_set"],
            row["method"],
            row["other"],
            *("" if row[name] != row[name] else f"{row[name]:{form}}" for name, form in forms.items()),
            row["seeds"],
        ]
        wanted = [row[name] for name in ("needed", "needed_at_worst")]
        _add(table, *cells, *("" if count != count else int(count) for count in wanted))
    again = _with_fresh_seeds(report, found["needed"].tolist()) if source.is_dir() else ""  # no command makes a file's
    _out().print(table if len(found) else "nothing that can be compared is undecided", highlight=False)
    if len(found):
        _out().print(
            f"needed: seeds that find a difference of {target:g} points with a power of 80 %, if differences spread as "
            "seen; at worst: at the upper end of the 95 % range of sd.\nTake fresh seeds into another folder, as those "
            f"that are here have been looked at{again}.",
            highlight=False,
            soft_wrap=True,
        )
    return OK


def _with_fresh_seeds(report: "Report", needed: Sequence[float]) -> str:
    """The command that makes as many runs as are needed, of seeds that no record has; nothing if that is not known."""
    used = [seed for board in report.boards for own in board.points.values() for seed in own]
    counts = [int(count) for count in needed if count <= MOST_SEEDS]  # NaN where it is not known
    if not used or not counts:
        return ""
    first = 100 * (max(used) // 100 + 1)
    seeds = write_seeds(range(first, first + max(counts)))
    return f": python -m bench run --seeds {seeds} --out results/confirm"


@app.command("verify")
def verify_command(
    source: Annotated[
        Path, typer.Argument(parser=path, help="a folder of records, or one with runs.csv, or that file")
    ] = DEFAULT_OUT,
    share: Annotated[
        float, typer.Option(help="how many of the runs of each task set, at random: above 0, up to 1")
    ] = 0.1,
    seed: Annotated[int, typer.Option(help="of the draw: another one draws other runs")] = 0,
    engine: Annotated[str, typer.Option(help=options()["engine"][2])] = "local",
    workers: Annotated[str | None, typer.Option(help=options()["workers"][2])] = None,
    timeout: Annotated[float | None, typer.Option(help=options()["timeout"][2])] = None,
    debug: Debug = False,
) -> int:
    """Train a random share of recorded runs again, and name those that do not reproduce.

    Results are compared by bytes. Where the processor, a library or the code is another one, they are compared
    statistically, and the table says how small a fault would have been seen. The folder is not changed.
    """
    from bench.engine.choose import choose
    from bench.verify import require

    require(source, share, seed)  # before what follows is imported, which takes a second
    from bench.verify.again import verify
    from bench.verify.told import told

    watcher = _Watcher()
    _end_as_by_ctrl_c()
    chosen = choose(engine, workers=workers, timeout=timeout)
    try:
        outcome = verify(source, share=share, seed=seed, engine=chosen, watcher=watcher)
    finally:
        watcher.close()
    table, lines = told(outcome)
    if table:
        _out().print(_table(table))
    for line in lines:
        _out().print(printable(line), markup=False, highlight=False, soft_wrap=True)
    if outcome.interrupted:
        return INTERRUPTED
    if outcome.fails:
        return FAILED_RUNS
    return OK if outcome.judged.shows else NOTHING_RAN


def _table(rows: Sequence[Mapping[str, str]]) -> Table:
    """A table of texts; its columns are the keys of the rows."""
    table = Table(box=None, pad_edge=False)
    for column in rows[0]:
        table.add_column(column)
    for row in rows:
        _add(table, *row.values())
    return table


BaselineFile = Annotated[Path, typer.Option(parser=path, help="the stored baseline")]
DEFAULT_BASELINE = Path("results/baseline.json")
baseline_app = typer.Typer(no_args_is_help=True, help="Manage the stored baseline.")
app.add_typer(baseline_app, name="baseline")


@app.command("compare")
def compare_command(
    folder: Annotated[Path, typer.Argument(parser=path, help="a folder of records")] = DEFAULT_OUT,
    baseline: BaselineFile = DEFAULT_BASELINE,
    tolerance: Annotated[float, typer.Option(help="points by which a method may fall without alarm")] = 1.0,
    base: Annotated[
        Path | None,
        typer.Option(
            parser=path, help="a checkout of the code to compare with: steps are timed here and there in turn"
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="exit with 4 where a fall is suspected but not sure")
    ] = False,
    markdown: Annotated[Path | None, typer.Option(parser=path, help="write the summary here, too")] = None,
    junit: Annotated[Path | None, typer.Option(parser=path, help="write JUnit XML here")] = None,
    json: Annotated[Path | None, typer.Option(parser=path, help="write JSON here")] = None,
    debug: Debug = False,
) -> int:
    """Compare a folder with a stored baseline: has a method, or the cost of its step, become worse?

    Exit codes: 0 no regression, 1 regression, 3 nothing comparable or runs missing, 4 with --strict and suspected.
    """
    from bench.gate import summary
    from bench.gate.baseline import compared, read_baseline, snapshot
    from bench.gate.judge import judge
    from bench.report.tuned import from_store
    from bench.store import NothingToCompareError, Store, write

    if not tolerance >= 0:
        raise typer.BadParameter(f"--tolerance {tolerance:g}: write points, 0 or more")
    stored = read_baseline(baseline)
    store = Store(folder)
    records = list(store.records().values())
    if not records:
        raise NothingToCompareError(f"{folder} has no records: python -m bench run --out {folder} makes them")
    now = snapshot(records, store.costs(), store.choices().values(), tuned=stored.tuned)
    slower = None
    if base is not None:
        from bench.gate.interleave import slowdowns

        known = {cell.key for cell in stored.cells} & {cell.key for cell in now.cells}
        runs = compared(from_store(store), tuned=stored.tuned)
        slower = slowdowns(base, runs, known, lambda label: _say(f"{label}: timing steps, here and in {base} in turn"))
    outcome = judge(stored, now, tolerance, slower)
    text = summary.markdown(outcome)
    _out().print(text.decode(), markup=False, highlight=False, soft_wrap=True)
    for file, content in ((markdown, text), (junit, summary.junit(outcome)), (json, summary.as_json(outcome))):
        if file is not None:
            write(file, content)
    if outcome.having("regressed"):
        return FAILED_RUNS
    if outcome.having("missing"):
        return NOTHING_RAN
    return OPEN if strict and outcome.having("suspect") else OK


@baseline_app.command("update")
def baseline_update_command(
    folder: Annotated[Path, typer.Argument(parser=path, help="a folder of records")] = DEFAULT_OUT,
    reason: Annotated[str, typer.Option(help="why; it is stored, for whoever reviews the change")] = "",
    baseline: BaselineFile = DEFAULT_BASELINE,
    debug: Debug = False,
) -> int:
    """Store a folder's numbers as the baseline. Refused after a failed or partial run."""
    from bench.gate.baseline import make_baseline, write_baseline
    from bench.store import Store

    if not reason.strip():
        raise typer.BadParameter("say why: --reason 'a faster optimiser changes every number'")
    store = Store(folder)
    made = make_baseline(list(store.records().values()), store.costs(), reason.strip(), store.choices().values())
    write_baseline(made, baseline)
    line = f"written: {printable(str(baseline))}, with {len(made.cells)} pairs of a method and a task set"
    words = ["python", "-m", "bench", "compare"]
    words += ["--baseline", str(baseline)] if baseline != DEFAULT_BASELINE else []
    typed = printable(shlex.join(words))
    _out().print(line, markup=False, highlight=False, soft_wrap=True)
    _out().print(f"compare later runs with it: {typed}", markup=False, highlight=False, soft_wrap=True)
    return OK


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="methods, tasks or runs")] = "methods",
    name: Annotated[str, typer.Argument(help="one of the methods or tasks, which is imported if need be")] = "",
    out: Folder = DEFAULT_OUT,
    json: Json = False,
    bibtex: Annotated[bool, typer.Option("--bibtex", help="print the methods' papers as BibTeX")] = False,
    debug: Debug = False,
) -> int:
    """List methods, task sets or stored runs.

    A task set that is named is shown with its card: where its data is from, and what must be known of it.
    With --bibtex: the papers of all built-in methods, or of the one that is named, and nothing else.
    With --json: a list of objects. Methods and task sets have name, summary, options (each with its type and, unless
    it must be given, its default), groups (in which --methods or --tasks finds it) and distribution (of who installed
    it; options are null until it is named); task sets have a card. Runs have run, task_set, method, tasks, seed,
    protocol, status and reason.
    """
    import methods
    from bench.catalogue import task_sets
    from bench.listing import bibliography, plugin_rows, run_rows
    from methods.core.names import UsageError, did_you_mean

    if bibtex:
        if what != "methods" or json:
            raise UsageError("--bibtex is for list methods, without --json")
        _out().print(bibliography(name), markup=False, highlight=False, soft_wrap=True)
        return OK
    kinds = {"methods": methods.registry, "tasks": task_sets}
    table = Table(box=None, pad_edge=False)
    if what == "runs":
        from bench.store import Store

        rows = run_rows(Store(out).records().values())
        for column in ("run", "task set", "method", "tasks", "seed", "protocol", "role", "status"):
            table.add_column(column)
        for row in rows:
            cells = (row["task_set"], row["method"], "+".join(row["tasks"]), row["seed"], row["protocol"], row["role"])
            _add(table, row["run"][:10], *cells, row["status"])
    elif what in kinds:
        registry = kinds[what]
        rows = plugin_rows(registry, [registry.find(name)] if name else list(registry.entries().values()), bool(name))
        for column in (what, "options", "groups", ""):
            table.add_column(column, no_wrap=column in (what, "groups"))
        for row in rows:
            whose = f" (from {row['distribution']})" if row["distribution"] else ""
            summary = f"{row['summary']}{whose}"
            if row["options"] is None:
                summary = f"from {row['distribution']}: list {what} {row['name']} says more"
            _add(table, row["name"], "\n".join(row["written"]), "\n".join(row["groups"]), summary)
    else:
        raise UsageError(f"list '{what}'{did_you_mean(what, [*kinds, 'runs'])}")
    if json:
        return _json([{key: value for key, value in row.items() if key != "written"} for row in rows])
    _out().print(table)
    if name and what == "tasks":
        for title, text in (rows[0]["card"] or {}).items():
            _out().print(f"\n{title}\n{printable(text)}", markup=False, highlight=False)
    return OK


@app.command("show")
def show_command(
    run: Annotated[str, typer.Argument(help="a run's name, or the beginning of it; list runs shows them")],
    out: Folder = DEFAULT_OUT,
    json: Json = False,
    debug: Debug = False,
) -> int:
    """Show one run: what was asked, what came of it, what it cost, and what it printed if it failed.

    With --json: the whole record as it is stored.
    """
    from bench.listing import run_text
    from bench.store import Store, StoreError

    found = [record for name, record in Store(out).records().items() if name.startswith(run)]
    if len(found) != 1:
        raise StoreError(f"{len(found)} runs in {out} begin with '{run}': python -m bench list runs shows them")
    [record] = found
    if json:
        return _json(record.model_dump(mode="json"))
    for line in run_text(record):
        _out().print(printable(line), markup=False, highlight=False, soft_wrap=True)
    return OK


@app.command("check")
def check_command(
    name: Annotated[str, typer.Argument(help="a method or a task set: a name, or path.py:Class, with options")],
    debug: Debug = False,
) -> int:
    """Try whether a rule or a task set keeps its contract: small experiments, each of which can fail."""
    from bench.check import check

    marks = {"ok": "ok    ", "fails": "FAILS ", "does not apply": "-     "}
    outcomes: Counter[str] = Counter()
    for finding in check(name):
        detail = f": {finding.detail}" if finding.detail else ""
        line = printable(f"{marks[finding.outcome]}{finding.what}{detail}")
        _out().print(line, markup=False, highlight=False, soft_wrap=True)
        outcomes[finding.outcome] += 1
    tried = outcomes["ok"] + outcomes["fails"]
    aside = f", {outcomes['does not apply']} not applicable" if outcomes["does not apply"] else ""
    _out().print(f"passed: {outcomes['ok']} of {tried}{aside}", highlight=False)
    return FAILED_RUNS if outcomes["fails"] else OK


@app.command("new")
def new_command(
    kind: Annotated[str, typer.Argument(help="method or taskset")],
    name: Annotated[str, typer.Argument(help="the name of the file without .py, my_rule; the class is then MyRule")],
    out: Annotated[Path, typer.Option(parser=path, help="the folder that the file is written into")] = Path(),
    debug: Debug = False,
) -> int:
    """Write a commented file with a rule or a task set that passes `check`, for you to change."""
    from bench.authors.new import write_new

    for line in write_new(kind, name, out):
        _out().print(printable(line), markup=False, highlight=False, soft_wrap=True)
    return OK


@app.command("literature")
def literature_command(
    tasks: Annotated[str, typer.Option(help="task sets: nyuv2,cityscapes; without it, the list of tables")] = "",
    beside: Annotated[
        Path | None,
        typer.Option(parser=path, help="a folder of runs, whose means are shown in tables of the same protocol"),
    ] = None,
    debug: Debug = False,
) -> int:
    """Show what papers printed: copied facts, checked against themselves, not measured here."""
    from bench.literature import show

    show(tasks, _out(), beside)
    return OK


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line and exit. Every expected error is one line; `--debug` shows the traceback."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    for name in ("bench", "methods"):
        logging.getLogger(name).handlers = [_Lines()]  # one, however often this is called
    asked = SimpleNamespace(debug="--debug" in given)  # a file of options may ask for it, too
    try:
        with user_interrupts():
            code = _run(given, asked)
            sys.stdout.flush()
    except UserInterruptError:
        code = INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        code = CLOSED
    except BaseException as problem:  # SystemExit, too: none of ours, so a plug-in's
        _drop_output()
        if asked.debug:
            raise
        code = _explain(problem)
    sys.exit(code or OK)


def _run(given: Sequence[str], asked: SimpleNamespace) -> int | None:
    """Run a command line and return its exit code."""
    for word in given:
        if not word.isprintable() and any(0xD800 <= ord(character) <= 0xDFFF for character in word):
            raise typer.BadParameter(f"{ascii(word)[:80]} is not text in UTF-8")
    # Not app(), which turns a closed pipe and a plug-in's KeyboardInterrupt into exit codes before we can tell them.
    command = typer.main.get_command(app)
    try:
        with command.make_context("python -m bench", list(given), obj=asked) as context:
            code: int | None = command.invoke(context)
    except typer.Exit as end:  # of --help
        return end.exit_code
    return code


def _prepare_streams() -> None:
    """Let everything be printed somewhere: a stream may be closed, and an encoding may have no − and no ×."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - it is open as long as the command runs
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _drop_output() -> None:
    """Let go of what cannot be printed, if there is such: at its exit Python would try again, and fail aloud."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
                continue
            os.dup2(nowhere, stream.fileno())


class _Lines(logging.Handler):
    """Prints what the library has to say, a line each, above the progress."""

    def emit(self, record: logging.LogRecord) -> None:
        _say(f"{record.levelname.lower()}: {record.getMessage()}")


class _Watcher:
    """Shows a command's progress: a live bar on a terminal, else a line per finished run."""

    def __init__(self) -> None:
        self.runs: set[str] = set()
        """The names of all that were heard of."""
        self.todo = 0
        self.finished = 0
        self.since: float | None = None
        """When the first run began: what comes before it is done once, and says nothing of those to come."""
        self.statuses: Counter[str] = Counter()
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        times = (TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn())
        self.bar = Progress(*columns, *times, console=err, transient=True)
        self.bar_task = self.bar.add_task("planning", total=None)

    def planned(self, runs: "Sequence[Planned]", forecast: Sequence[str]) -> None:
        for line in forecast:
            _say(line)
        self._expect(runs)

    def round(self, name: str, runs: "Sequence[Planned]", later: int) -> None:
        self._expect(runs, later)

    def _expect(self, runs: "Sequence[Planned]", later: int = 0) -> None:
        """Count what is to come: of these runs, and of so many more."""
        self.runs |= {planned.spec.name for planned in runs}
        self.todo = self.finished + sum(planned.todo for planned in runs) + later
        self.bar.update(self.bar_task, total=self.todo, description="runs")
        if err.is_terminal and self.todo:
            self.bar.start()

    def done(self, planned: "Planned", record: "RunRecord") -> None:
        self.finished += 1
        result = record.result
        self.statuses[result.status] += 1
        reason = one_line(result.reason, LONGEST_REASON)
        which = f" {'+'.join(planned.spec.tasks)}" if planned.method_label == "stl" else ""
        rate = f" at lr {planned.spec.protocol.lr:g}" if planned.role == "trial" else ""
        seed = f"seed {planned.spec.seed}"
        line = f"{planned.task_set_label} {planned.method_label}{which}{rate} {seed}: {result.status}"
        if err.is_terminal:
            counts = ", ".join(f"{count} {status}" for status, count in sorted(self.statuses.items()))
            self.bar.update(self.bar_task, completed=self.finished, description=counts)
            if reason:
                _say(f"{line}: {reason}")
        else:
            now = time.monotonic()
            if self.since is None:
                self.since = now - record.cost.total_seconds
            each = (now - self.since) / self.finished
            left = f"{self.finished}/{self.todo}, {each * (self.todo - self.finished):.0f} s left"
            _say(f"{line} ({record.cost.total_seconds:.1f} s; {left}){': ' + reason if reason else ''}")

    def chosen(self, choices: "Sequence[Choice]") -> None:
        for choice in choices:
            which = f" {choice.tasks[0]}" if choice.method == "stl" else ""
            failed = all(attempt.status != "ok" for attempt in choice.attempts)
            said = "all trials failed; it stays at" if failed else "chosen"
            _say(f"{choice.task_set_label} {choice.method_label}{which}: {said} {choice.setting}")

    def measuring(self, members: "Sequence[Planned]") -> None:
        self.bar.update(self.bar_task, description=printable(f"steps on {members[0].task_set_label}"), total=None)
        if err.is_terminal:
            self.bar.start()
        else:
            _say(f"{members[0].task_set_label}: measuring what a step costs, methods side by side")

    def close(self) -> None:
        """Take the bar away."""
        if err.is_terminal:
            self.bar.stop()


def _json(document: Any) -> int:
    """Print a document as JSON, in ASCII: no terminal takes a part of it for a command."""
    text = json.dumps(document, indent=2, ensure_ascii=True)
    _out().print(text, markup=False, highlight=False, soft_wrap=True)
    return OK


def _out() -> Console:
    """The console for results; in a file or pipe as wide as a table needs."""
    console = _Console(emoji=False)
    return console if console.is_terminal else _Console(width=200, emoji=False)


def _written(folder: Path, names: Sequence[str], shown: Path) -> None:
    """Say where the pages are, if they are there; `shown` is the folder as the user wrote it."""
    files = [printable(str(shown / name)) for name in names if (folder / name).exists()]
    _out().print(f"written: {', '.join(files)}", markup=False, highlight=False, soft_wrap=True)


def _add(table: Table, *cells: object) -> None:
    """Add a row of plain text: brackets in a variant are no markup."""
    table.add_row(*(Text(printable(str(cell)), overflow="fold") for cell in cells))


def _say(text: str) -> None:
    """Print text beside the results, as it is. If the disk is full that ends nothing: nobody could be told."""
    with contextlib.suppress(OutputError):
        err.print(printable(text), markup=False, highlight=False, soft_wrap=True)


def _explain(problem: BaseException) -> int:
    """Print an error in one line; return the exit code that goes with it."""
    from bench.engine.base import EngineError
    from bench.store import NothingToCompareError, StoreError
    from methods.core.names import UsageError
    from tasks.core.errors import DataError

    if type(problem).__name__ == "NoArgsIsHelpError":  # python -m bench, and nothing else
        _say(str(problem))
        return USAGE
    expected = isinstance(problem, StoreError | UsageError | EngineError | OutputError | typer.TyperException)
    nothing = isinstance(problem, DataError | NothingToCompareError)
    if expected or nothing:
        message = problem.format_message() if hasattr(problem, "format_message") else str(problem)
        _say(f"error: {one_line(message, LONGEST_MESSAGE)}")
        return NOTHING_RAN if nothing else USAGE
    if isinstance(problem, OSError):
        where = f"{one_line(str(problem.filename), LONGEST_MESSAGE)}: " if problem.filename is not None else ""
        _say(f"error: {where}{problem.strerror or problem}")
        return USAGE
    if not isinstance(problem, Exception):
        said = one_line(repr(problem), LONGEST_MESSAGE)
        _say(f"error: a rule or a task set ends the command: {said} (--debug shows where)")
        return USAGE
    _say(f"internal error: {one_line(f'{type(problem).__name__}: {problem}', LONGEST_MESSAGE)} (--debug shows where)")
    return INTERNAL


def _exit_code(statuses: Counter[str]) -> int:
    if not statuses.keys() - {"ok", "skipped"}:
        return OK
    return FAILED_RUNS if statuses["ok"] else NOTHING_RAN
