"""The comparison → one table: `leaderboard.csv`, and what `bench.run` returns."""

import numpy as np
import pandas as pd

from bench.report.board import Board, Comparison, Interval, Report, Row, metric_name
from bench.spec import PASSES


def leaderboard(report: Report) -> pd.DataFrame:
    """One row per task set and method, best first, single-task learning among them; rows over task sets last."""
    boards = sorted(report.boards, key=lambda board: board.suite)
    rows = [_line(board, row) for board in boards for row in board.rows]
    first = ["task_set", "method", "seeds", "failed"]
    first += [f"{delta}{end}" for delta in ("delta_task", "delta_metric") for end in ("", "_low", "_high")]
    for reference in ("vs_equal", "vs_stl"):
        first += [reference + end for end in ("", "_low", "_high", "_p", "_verdict", "_wins", "_pairs")]
    first += ["best_place", "worst_place", "letters", "mean_rank", *(f"{what}_passes" for what in PASSES)]
    first += ["degenerate", "note"]
    metrics = dict.fromkeys(metric_name(metric) + end for b in boards for metric in b.metrics for end in ("", ".gain"))
    return pd.DataFrame(rows).reindex(columns=[*first, *metrics])


def _line(board: Board, row: Row) -> dict[str, object]:
    line: dict[str, object] = {
        **{"task_set": board.label, "method": row.method, "seeds": row.seeds, "failed": row.failed},
        **_ends("delta_task", row.delta_task),
        **_ends("delta_metric", row.delta_metric),
        **_compared("vs_equal", row.vs_equal),
        **_compared("vs_stl", row.vs_stl),
        **{"letters": row.letters or None, "mean_rank": row.mean_rank},
        **{f"{what}_passes": number for what, number in row.passes.items()},
        **{"degenerate": row.degenerate, "note": row.note},
    }
    if row.band is not None:
        line["best_place"], line["worst_place"] = row.band
    for metric, value, gain in zip(board.metrics, row.values, row.gains, strict=True):
        line[metric_name(metric)] = value
        line[f"{metric_name(metric)}.gain"] = gain if row.vs_stl is not None else np.nan
    return line


def _ends(name: str, interval: Interval | None) -> dict[str, object]:
    if interval is None:
        return {}
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _compared(name: str, comparison: Comparison | None) -> dict[str, object]:
    if comparison is None:
        return {}
    more = {"p": comparison.p, "verdict": comparison.verdict, "wins": comparison.wins, "pairs": comparison.pairs}
    return _ends(name, comparison.difference) | {f"{name}_{what}": value for what, value in more.items()}
