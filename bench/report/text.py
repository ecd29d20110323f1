"""A report → tables for pull requests (Markdown) and for papers (LaTeX)."""

import math
import re
from collections.abc import Iterable, Sequence

from bench.plain import one_line
from bench.report.board import Board, Comparison, Interval, Report, Row
from bench.report.findings import MARKS, Name, between, conditions, findings, number, p_value, signed, title

HEADS = ("Place", "Method", "Δ task, pp", "vs equal, pp", "Verdict", "Step ×", "Seeds", "Failed")
MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$@:/.-])")
"""What could be read as markup, a link or a mention."""
LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
    **{"−": "$-$", "±": r"$\pm$", "×": r"$\times$", "Δ": r"$\Delta$", "≤": r"$\leq$", "α": r"$\alpha$", "–": "--"},
    **{"▲": r"$\uparrow$", "▼": r"$\downarrow$", "≈": r"$\approx$"},
}


def markdown(report: Report) -> bytes:
    """Render the findings and a compact table of each board, those over several task sets first."""
    lines = ["# Multi-task learning leaderboard", ""]
    for board in report.boards:
        lines += [f"## {escape_markdown(title(board))}", ""]
        for sentence in findings(board):
            lines.append("- " + "".join(f"**{escape_markdown(p)}**" if isinstance(p, Name) else p for p in sentence))
        lines += ["", *_pipes([HEADS, ["--:", ":--", *["--:"] * 2, ":--", *["--:"] * 3]])]
        lines += [*_pipes(_cells(row, escape_markdown(row.method)) for row in board.rows), "", conditions(board), ""]
        lines += [f"- {escape_markdown(row.method)}: {escape_markdown(row.note)}" for row in board.rows if row.note]
        lines += [f"- Note: {escape_markdown(note)}." for note in board.notes]
        lines.append("")
    return re.sub("\n{3,}", "\n\n", "\n".join(lines)).rstrip().encode() + b"\n"


def latex(report: Report) -> bytes:
    """Render a table of each board, for the package booktabs."""
    return "\n".join(_table(board) for board in report.boards).encode()


def _table(board: Board) -> str:
    caption = f"{title(board)}. 95 % t intervals over seeds in brackets. {conditions(board)}"
    return "\n".join(
        [
            *(
                r"\begin{table}",
                r"\centering",
                f"\\caption{{{_latex(caption)}}}",
                r"\begin{tabular}{llrrlrrr}",
                r"\toprule",
            ),
            *_ampersands([[_latex(head) for head in HEADS]]),
            r"\midrule",
            *_ampersands([_latex(cell) for cell in _cells(row, row.method)] for row in board.rows),
            *(r"\bottomrule", r"\end{tabular}", r"\end{table}", ""),
        ]
    )


def _cells(row: Row, name: str) -> list[str]:
    band = "" if row.band is None else "–".join(map(str, dict.fromkeys(row.band)))
    return [
        *(band, name, _gain(row.delta_task), _gain(row.vs_equal.difference if row.vs_equal else None)),
        *(_verdict(row.vs_equal), number(row.cost.step) if row.cost else "", str(row.seeds)),
        f"! {row.failed}" if row.failed else "0",
    ]


def _gain(interval: Interval | None) -> str:
    if interval is None or math.isnan(interval.mean):
        return ""
    ends = between(interval)
    return signed(interval.mean) + (f" [{ends}]" if ends else "")


def _verdict(comparison: Comparison | None) -> str:
    if comparison is None:
        return ""
    p = "" if comparison.verdict == "not enough seeds" else f" (p {p_value(comparison.p)})"
    return f"{MARKS[comparison.verdict]} {comparison.verdict}{p}"


def _pipes(rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows]


def _ampersands(rows: Iterable[Sequence[str]]) -> list[str]:
    return [f"{' & '.join(row)} \\\\" for row in rows]


def escape_markdown(text: str) -> str:
    """Return text that Markdown shows as it is, on one line."""
    return MARKDOWN.sub(r"\\\1", one_line(text))


def _latex(text: str) -> str:
    return "".join(LATEX.get(character, character) for character in one_line(text))
