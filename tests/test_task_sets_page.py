"""The page about the task sets and their cards quote the runs in `results/regimes/`."""

import re
from pathlib import Path

import pandas as pd
import pytest

from bench.catalogue import construct, embedded

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "task-sets.md").read_text("utf-8")
MEASURED = (
    pd.read_csv(ROOT / "results" / "regimes" / "leaderboard.csv").query("method == 'equal'").set_index("task_set")
)
SECONDS = pd.read_csv(ROOT / "results" / "regimes" / "timings.csv")
ROWS = {
    cells[0].strip("`"): cells[1:]
    for line in PAGE.splitlines()
    if line.startswith("| `")
    for cells in [[cell.strip() for cell in line.strip("|").split("|")]]
}


def test_every_set_of_the_package_has_a_row():
    assert list(ROWS) == embedded()


@pytest.mark.parametrize("name", embedded())
def test_a_row_has_the_numbers_of_the_runs(name):
    tasks, *_, gain, seconds = ROWS[name]
    row = MEASURED.loc[name]
    assert gain.replace("−", "-") == (
        f"{row.delta_task:+.1f} [{row.delta_task_low:+.1f} to {row.delta_task_high:+.1f}]"
    )
    own = SECONDS[SECONDS.task_set == name].groupby(SECONDS.method == "stl").total_seconds.median()
    assert seconds == f"{own[False]:.1f}, {own[True]:.1f}"
    assert int(tasks) == len(SECONDS.query("task_set == @name and method == 'stl'").tasks.unique())


@pytest.mark.parametrize("name", embedded())
def test_a_card_tells_what_was_measured_for_its_regime(name):
    """As a number of points, to a tenth, and the ends of its interval."""
    said = [float(number) for number in re.findall(r"\d+\.\d+", construct(name).card.regime)]
    for value in MEASURED.loc[name, ["delta_task", "delta_task_low", "delta_task_high"]]:
        assert any(abs(abs(value) - number) < 0.06 for number in said), value
