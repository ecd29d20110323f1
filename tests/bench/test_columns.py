"""A column is one entry: from it come CSV, terminal, HTML, Markdown, LaTeX and the reference in the documentation."""

import io
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from made_report import made_report
from rich.console import Console

from bench import cli
from bench.records import CostRecord, KeyParts, Provenance, RunRecord, StepCost
from bench.report import columns
from bench.report.board import Report
from bench.report.columns import ALL_PAGES, COLUMNS, GROUPS, Cell, Column, shown_on
from bench.report.pages.csv import csv_bytes, leaderboard
from bench.report.pages.html import page
from bench.report.pages.reference import FILES, reference
from bench.report.pages.terminal import print_board
from bench.report.pages.text import latex, markdown
from bench.report.pages.write import DRAW_FILE, TRIAL_FILES, write_pages
from bench.report.scores import from_records
from bench.report.trials import CURVE, TUNING
from bench.spec import STL, Cost, Point, Result, RunSpec, Score
from tasks.core.protocol import Protocol

DOCS = (Path(__file__).parents[2] / "docs" / "reference.md").read_text("utf-8")
MODELS = [RunRecord, RunSpec, Protocol, KeyParts, Result, Score, Point, Cost, Provenance, CostRecord, StepCost]


def on_terminal(report):
    written = io.StringIO()
    print_board(report, Console(file=written, width=500))
    return written.getvalue()


def test_names_and_headings_name_one_column_each():
    assert set(Counter(column.name for column in COLUMNS).values()) == {1}
    assert set(Counter(column.heading for column in COLUMNS if column.heading).values()) == {1}


def test_a_column_on_a_page_has_a_heading_and_a_place_of_its_own():
    shown = [column for column in COLUMNS if column.shown]
    assert all(column.heading and column.order for column in shown)
    assert len({column.order for column in shown}) == len(shown)
    assert {column.group for column in shown} - {""} == GROUPS.keys()


@pytest.mark.parametrize("render", [on_terminal, page, markdown, latex])
def test_a_new_column_is_one_entry(monkeypatch, render):
    """One for the share of a method's runs that were repeated, say."""
    new = Column(
        "repeated",
        "The share of runs that were repeated.",
        lambda board, row: 0.5,
        heading="Repeated runs",
        cell=lambda row: Cell("0.5 of it", sort=0.5),
        shown=ALL_PAGES,
        order=55,
    )
    report = made_report(3, 1, 4, curves=False)

    def text():
        found = render(report)
        return found if isinstance(found, str) else found.decode()

    before = text()
    monkeypatch.setattr(columns, "COLUMNS", (*COLUMNS, new))
    after = text()
    assert "Repeated runs" not in before
    assert "Repeated runs" in after
    assert after.count("0.5 of it") == len(report.boards[0].rows)
    assert after.index("Verdict") < after.index("Repeated runs") < after.rindex("Seeds")
    assert leaderboard(report)["repeated"].eq(0.5).all()


def test_a_terminal_lists_the_best_hundred_methods_and_counts_the_others():
    [board] = made_report(3, 1, 4, curves=False).boards
    rows = tuple(replace(board.rows[1], method=f"method{i}") for i in range(1000))
    text = on_terminal(Report((replace(board, rows=rows),), {}))
    assert "method99 " in text
    assert "method100 " not in text
    assert "900 more methods are in leaderboard.csv" in text


def test_every_page_calls_a_column_the_same(tmp_path):
    report = made_report(3, 1, 4, curves=False)
    for name, text in (("terminal", on_terminal(report)), ("html", page(report).decode())):
        for column in shown_on(name):
            assert column.heading in text
    assert "| Place | Method | Δ task, pp |" in markdown(report).decode()
    assert r"Place & Method & $\Delta$ task, pp &" in latex(report).decode()


@pytest.fixture
def files(runs, tmp_path):
    """All CSV files of a folder of runs whose steps were measured."""
    made = [*runs(STL, {0: [1, 1, 1], 1: [1, 2, 1]}), *runs("equal", {0: [1, 2, 2], 1: [2, 1, 2]})]
    made += runs("mgda", {0: [1, 2, 1], 1: None})
    spec = next(record.spec for record in made if record.spec.method == "equal")
    costs = [
        StepCost(method=method, tasks=spec.tasks, step_seconds=1, allocated_bytes=2, peak_bytes=3)
        for method in ("equal", "mgda")
    ]
    measured = CostRecord(
        **{"key": "k", "task_set": spec.task_set, "protocol": spec.protocol, "precision": spec.precision},
        **{"device": "cpu", "hardware": {}, "rounds": 1, "costs": costs},
    )
    write_pages(from_records(made), tmp_path, [measured], figures=False)
    return {file.name: list(pd.read_csv(file).columns) for file in tmp_path.glob("*.csv")}


def test_the_reference_has_the_columns_of_every_file_in_their_order(files):
    metrics = ["left.accuracy", "left.accuracy.gain", "left.error", "left.error.gain", "right.loss", "right.loss.gain"]
    documented = {name: [*known] for name, known in FILES.items() if name not in (*TRIAL_FILES, DRAW_FILE)}
    documented["leaderboard.csv"] = [*documented["leaderboard.csv"][:-2], *metrics]
    assert files == documented


def test_the_reference_has_the_columns_of_the_files_of_trials():
    assert [*FILES["tuning.csv"]] == TUNING
    assert [*FILES["curve.csv"]] == CURVE


def test_the_documentation_has_this_reference():
    assert reference() in DOCS, "python -m bench.report.pages.reference prints the tables for docs/reference.md"


def rows(heading):
    """The first cells of the table below a heading of the documentation."""
    section = DOCS.split(f"\n{heading}\n")[1].split("\n#")[0]
    return re.findall(r"^\| `(\w+)` \|", section, re.M)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_the_documentation_has_the_fields_of_a_record(model):
    fields = [field.serialization_alias or name for name, field in model.model_fields.items() if not field.exclude]
    assert rows(f"### {model.__name__}") == fields


def test_the_documentation_has_the_exit_codes():
    section = DOCS.split("\n## Exit codes\n")[1]
    codes = {int(code) for code in re.findall(r"^\| [^|]*\| (\d+) \|", section, re.M)}
    known = {cli.OK, cli.FAILED_RUNS, cli.USAGE, cli.NOTHING_RAN, cli.OPEN, cli.INTERNAL, cli.INTERRUPTED, cli.CLOSED}
    assert codes == known


def test_a_line_of_a_cell_has_its_sign_and_its_qualification():
    cell = Cell("better", "p = .008", mark="▲")
    assert cell.line() == "▲ better (p = .008)"
    assert cell.line(brief=True) == "▲ better"
    assert Cell().line() == ""


def test_an_empty_report_is_a_file_with_all_headings():
    header = csv_bytes(leaderboard(made_report(1, 0))).decode().strip().split(",")
    assert header == [*FILES["leaderboard.csv"]][:-2]
