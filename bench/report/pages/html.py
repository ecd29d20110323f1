"""Renders a report as one HTML page, which needs no other file and is complete without JavaScript."""

import base64
import hashlib
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.resources import files
from typing import Any

import pandas as pd
from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from bench.evidence.significance import DRAWS, EXACT_SEEDS, MINIMUM_SETS
from bench.literature import FACTS, MEASURED, benchmark, literature, own_rows
from bench.report import each_set, replications, stability
from bench.report.board import ALPHA, Board, Pairs, Report, Row, metric_name
from bench.report.columns import GROUPS, Cell, Column, metric_columns, shown_of, shown_on
from bench.report.figures import STEPS, Drawing, drawings, largest_shown, shade
from bench.report.findings import (
    MARKS,
    Name,
    Sentence,
    conditions,
    conditions_over_sets,
    findings,
    number,
    p_value,
    signed,
    title,
)
from bench.report.remainders import CAPTION, TITLE, remainders_shown

FORBIDDEN = re.compile("[\\x00-\\x08\\x0b\\x0c\\x0e-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
MOST_PAIRED = 60
"""With more methods than this the page has no table of all pairs: it would be too large to read, and slow to open."""
MANY = 20
"""With more methods than this a table scrolls below its headings, the table of all pairs has no wins, notes on single
methods are folded, and paper has no numbers of figures and no pairs."""


def page(report: Report, published: Mapping[str, pd.DataFrame] = {}, *, figures: bool = True) -> bytes:
    """Render a report as an HTML page.

    Args:
        report: what the page shows.
        published: what papers printed about its task sets: rows of `bench.literature.published` by task set.
        figures: whether to draw figures. They take most of the time, and a page that is soon written again needs none.
    """
    boards = [_section(place, board, report.boards, figures) for place, board in enumerate(report.boards)]
    tuned, over_sets = any(board.choices for board in report.boards), any(map(_speaks_of_others, report.boards))
    columns = shown_on("html", tuned=tuned)
    legend = [*columns, *(c for c in shown_on("sets", tuned=tuned, sets=over_sets) if c not in columns)]
    return render(
        _resource("template.html.j2"),
        [figure for section in boards for figure in section["figures"]],
        _resource("page.js"),
        boards=boards,
        columns=columns,
        legend=legend,
        tuned=tuned,
        over_sets=over_sets,
        minimum_sets=MINIMUM_SETS,
        method_heading=next(column.heading for column in columns if column.name == "method"),
        remainder_columns=remainders_shown(),
        remainder_title=TITLE,
        remainder_caption=CAPTION,
        each_set=each_set,
        stability=stability,
        fresh=replications,
        fresh_said=replications.summary(report.boards),
        fresh_rows=[
            (one.method, [column.cell(one) for column in replications.COLUMNS[1:]])
            for one in replications.replications(report.boards)
        ],
        groups=GROUPS,
        marks=MARKS,
        alpha=ALPHA,
        margin=report.rules.margin,
        correction=report.rules.correction,
        exact=EXACT_SEEDS,
        draws=DRAWS,
        published=[
            (name, _printed(frame, next((board for board in report.boards if board.label == name), None)))
            for name, frame in sorted(published.items())
        ],
        facts=FACTS,
        provenance=dict(sorted(report.provenance.items())),
    )


def render(template: str, drawn: Iterable[Drawing], script: str = "", **shown: Any) -> bytes:
    """Fill in a template, which may import `parts.html.j2`. Everything that it shows is escaped.

    Args:
        template: the text of the template. It is given `style`, `script` and `policy` beside the names in `shown`. The
            policy tells the browser to load this style and this script and nothing else.
        drawn: the figures of the page, whose styles are added to its style sheet.
        script: the page's JavaScript.
        shown: further names and their values.
    """
    environment = Environment(
        loader=FunctionLoader(_resource),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: _allowed(value) if type(value) is str else value,  # we made what is Markup
    )
    environment.filters |= {
        "prose": _prose,
        "together": _together,
        "gain": lambda value: signed(value, 1),
        "p": p_value,
        "shown": number,
    }
    styles = {name: rules for drawing in drawn for name, rules in drawing.styles}
    style = _resource("page.css") + "".join(f".{name}{{{rules}}}\n" for name, rules in sorted(styles.items()))
    rendered = environment.from_string(template).render(
        style=Markup(style),
        script=Markup(script),
        policy=f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        **shown,
    )
    return rendered.encode()


def _section(place: int, board: Board, boards: Sequence[Board], figures: bool) -> dict[str, Any]:
    columns = shown_of("html", board)
    metrics = shown_on("html", metric_columns(board))
    many = len(board.rows) > MANY
    return {
        "many": many,
        "id": f"s{place}",
        "title": title(board),
        "board": board,
        "columns": columns,
        "findings": findings(board),
        "rows": [(row.method, [column.cell(row) for column in columns]) for row in board.rows],
        "conditions": conditions(board),
        "each_set": each_set.each_set(board, boards),
        "over_sets": _over_sets(board),
        "noted": [
            *((row.method, remarks) for row in board.rows if (remarks := _remarks(row))),
            *((row.method, row.note) for row in board.remainders if row.note),
        ],
        "remainders": [
            (row.method, [column.cell(row) for column in remainders_shown()[1:]]) for row in board.remainders
        ],
        "agreement": stability.agreement(board),
        "stability": [
            (row.method, [column.cell(row) for column in stability.COLUMNS[1:]]) for row in board.rows if row.left_out
        ],
        "metrics": metrics,
        "scores": [(row.method, cells) for row, cells in _scores(board, metrics)] if metrics else [],
        "pairs": _matrix(board.pairs, wins=not many) if board.pairs is not None and _is_shown(board.pairs) else [],
        "too_many": len(board.pairs.methods) if board.pairs is not None and not _is_shown(board.pairs) else 0,
        "figures": drawings(board, f"s{place}") if figures else [],
    }


def _speaks_of_others(board: Board) -> bool:
    return board.beyond is not None and board.beyond.enough


def _over_sets(board: Board) -> dict[str, Any] | None:
    """The part about other task sets; its table has no columns where these are too few."""
    if board.beyond is None:
        return None
    enough = board.beyond.enough
    columns = shown_of("sets", board) if enough else []
    compared = [row for row in board.rows if row.sets_vs_equal or row.sets_vs_stl] if enough else []
    return {
        "members": board.members,
        "columns": columns,
        "rows": [(row.method, [column.cell(row) for column in columns[1:]]) for row in compared],
        "conditions": conditions_over_sets(board),
    }


def _remarks(row: Row) -> str:
    failed = f"{row.failed} failed" if row.failed else ""
    degenerate = f"no solution by its definition at {row.degenerate} steps" if row.degenerate else ""
    return "; ".join(filter(None, (failed, degenerate, row.note)))


def _scores(board: Board, metrics: Sequence[Column]) -> Iterator[tuple[Row, list[Cell]]]:
    """The cells of the table of metrics, shaded by gain, with a star where the gain differs from 0."""
    largest = largest_shown([gain for row in board.rows for gain in row.gains])
    for row in board.rows:
        cells = [
            replace(cell, small=cell.small + "*" * bool(cell.small and p <= ALPHA), style=_shaded(gain, largest))
            for cell, gain, p in zip([column.cell(row) for column in metrics], row.gains, row.gain_p, strict=True)
        ]
        yield row, cells


def _is_shown(pairs: Pairs) -> bool:
    return len(pairs.methods) <= MOST_PAIRED


def _matrix(pairs: Pairs, *, wins: bool) -> list[tuple[str, list[Cell]]]:
    """The table of all pairs: differences above the diagonal; wins, where they are shown, and p-values below it."""
    largest = largest_shown(pairs.difference)

    def cell(i: int, j: int) -> Cell:
        difference, p = float(pairs.difference[i, j]), float(pairs.p[i, j])
        if i == j or math.isnan(difference):
            return Cell()
        if i < j:
            return Cell(signed(difference, 1) + "*" * (p <= ALPHA), style=_shaded(difference, largest))
        written = p_value(p).removeprefix("= ")
        return Cell(f"{pairs.wins[i, j]}/{pairs.count[i, j]}, p {written}" if wins else written)

    places = range(len(pairs.methods))
    return [(method, [cell(i, j) for j in places]) for i, method in enumerate(pairs.methods)] if len(places) > 1 else []


def _shaded(value: float, largest: float) -> str:
    step = shade(value, largest)
    return "" if step == STEPS // 2 else f"d{step}"


def _printed(frame: pd.DataFrame, board: Board | None) -> list[dict[str, Any]]:
    """Return the tables that papers printed about one task set: each has headings and rows of text.

    A table of the protocol of the page's board comes first, with the rows of the board above those of the paper.
    """
    protocols = dict(zip(literature().tables["table"], literature().tables["protocol"], strict=True))
    here = benchmark(board.label)[1] if board is not None else ""
    own = {r.method: dict(zip(board.metrics, r.values.tolist(), strict=False)) for r in board.rows} if board else {}
    tables = []
    for name, rows in frame.groupby("table", sort=True):
        keys = list(rows[["task", "metric", "higher_is_better"]].drop_duplicates().itertuples(index=False, name=None))
        found = {
            (line["method"], line["task"], line["metric"]): f"{line['value']}"
            + (f" ± {line['spread']}" if line["spread"] else "")
            for line in rows.to_dict("records")
        }
        heads = [f"{metric_name((task, name))} {'↑' if up else '↓'}" if task else name for task, name, up in keys]
        methods = dict(zip(rows["method"], rows["printed_method"], strict=True))
        body = [
            (method, printed, [found.get((method, task, metric), "") for task, metric, _ in keys])
            for method, printed in methods.items()
        ]
        same = protocols[name] != "" and protocols[name] == here
        cells = [(task, metric) for task, metric, _ in keys]
        rows_here = {method: own_rows(values, cells) for method, values in own.items()} if same else {}
        ours = [(method, MEASURED, texts) for method, texts in rows_here.items() if texts is not None]
        tables.append({"name": name, "heads": heads, "rows": ours + body, "protocol": here if same else ""})
    return sorted(tables, key=lambda table: not table["protocol"])


def _prose(sentence: Sentence) -> Markup:
    pieces = (
        Markup("<bdi>{}</bdi>").format(p) if isinstance(p, Name) else Markup.escape(_together(p)) for p in sentence
    )
    return Markup(_allowed(Markup("").join(pieces)))


def _together(text: str) -> str:
    """Keep numbers and their units on one line."""
    return re.sub(r"(?<=\d) (?=%|pp\b)", "\N{NO-BREAK SPACE}", text)


def _allowed(text: str) -> str:
    """Replace the characters that HTML forbids, controls such as ESC and halves of surrogate pairs, by spaces."""
    return FORBIDDEN.sub(" ", text)


def _resource(name: str) -> str:
    return files("bench.report.pages").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"
