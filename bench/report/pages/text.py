"""Renders a report as Markdown, for pull requests, and as LaTeX tables, for papers."""

import re
from collections.abc import Iterable, Iterator

import pandas as pd

from bench.plain import one_line
from bench.report import replications
from bench.report.board import Board, Report, Row
from bench.report.columns import Column, shown_of
from bench.report.findings import Name, Sentence, conditions, conditions_over_sets, findings, title

MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:/.-])")
"""Characters that could make markup, a link or a mention."""
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "≤": r"$\leq$", "α": r"$\alpha$", "–": "--"},
    **{"▲": r"$\uparrow$", "▼": r"$\downarrow$", "≈": r"$\approx$"},
}


def markdown(report: Report) -> bytes:
    """Render the findings and a table of each board, those over several task sets first."""
    lines = ["# Multi-task learning leaderboard", ""]
    for board in report.boards:
        lines += [f"## {escape_markdown(title(board))}", ""]
        lines += map(_item, findings(board))
        columns = shown_of("markdown", board)
        lines += ["", _pipes([column.heading for column in columns])]
        lines += [_pipes([":--" if column.align == "left" else "--:" for column in columns])]
        lines += [_pipes(_markdown_cells(row, columns)) for row in board.rows]
        lines += ["", conditions(board), "", conditions_over_sets(board), ""]
        lines += [f"- {escape_markdown(row.method)}: {escape_markdown(row.note)}" for row in board.rows if row.note]
        lines += [f"- Note: {escape_markdown(note)}." for note in board.notes]
        lines.append("")
    lines += _draws(report)
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip().encode() + b"\n"


def _item(sentence: Sentence) -> str:
    return "- " + "".join(f"**{escape_markdown(p)}**" if isinstance(p, Name) else p for p in sentence)


def _draws(report: Report) -> list[str]:
    """The table of fresh draws, if there are any: the last section."""
    if not (said := replications.summary(report.boards)):
        return []
    rows = [[column.cell(one) for column in replications.COLUMNS] for one in replications.replications(report.boards)]
    return [
        *(f"## {replications.TITLE}", ""),
        *map(_item, said),
        *("", _pipes([column.heading for column in replications.COLUMNS])),
        _pipes([":--" if column.align == "left" else "--:" for column in replications.COLUMNS]),
        *(_pipes([*(escape_markdown(c.line()) for c in row[:3]), *(c.line() for c in row[3:])]) for row in rows),
        *("", replications.CAPTION),
    ]


def latex(report: Report) -> bytes:
    """Render a table of each board, for the package booktabs."""
    return "\n".join(_table(board) for board in report.boards).encode()


def _table(board: Board) -> str:
    columns = shown_of("latex", board)
    said = " ".join(filter(None, (conditions(board), conditions_over_sets(board))))
    rows = [[_latex(column.cell(row).line()) for column in columns] for row in board.rows]
    table = pd.DataFrame(rows, columns=[_latex(column.heading) for column in columns], dtype=str)
    return table.style.hide(axis="index").to_latex(
        hrules=True,
        position_float="centering",
        column_format="".join(column.align[0] for column in columns),
        caption=_latex(f"{title(board)}. 95 % t intervals over seeds are in brackets. {said}"),
    )


def _markdown_cells(row: Row, columns: Iterable[Column]) -> Iterator[str]:
    """Our own text is no markup; the name of a method can be anything."""
    for column in columns:
        text = column.cell(row).line()
        yield escape_markdown(text) if column.name == "method" else text


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return MARKDOWN.sub(r"\\\1", one_line(text))


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in one_line(text))
