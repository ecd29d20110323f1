"""Writes the reference of the CSV files, which `docs/reference.md` holds: `python -m bench.report.pages.reference`."""

from collections.abc import Mapping

from bench.report.columns import COLUMNS, GAIN, METRIC
from bench.report.remainders import COLUMNS as FROZEN
from bench.report.replications import COLUMNS as DRAWS
from bench.spec import PASSES


def _meanings(*names: str) -> dict[str, str]:
    """The meanings of columns that another file shares with the leaderboard."""
    known = {column.name: column.meaning for column in COLUMNS}
    return {name: known[name] for name in names}


PASSES_COLUMNS = [f"{kind}_passes" for kind in PASSES]
FILES: Mapping[str, Mapping[str, str]] = {
    "leaderboard.csv": {
        **{column.name: column.meaning for column in COLUMNS if column.value is not None},
        **{"TASK.METRIC": METRIC, "TASK.METRIC.gain": GAIN},
    },
    "frozen.csv": {column.name: column.meaning for column in FROZEN},
    "draws.csv": {column.name: column.meaning for column in DRAWS},
    "runs.csv": {
        **_meanings("task_set", "method"),
        "seed": "The seed of the run.",
        "task": "The task that the metric belongs to.",
        "metric": "The name of the metric; empty if the run has no scores.",
        "split": "The part of the data on which the metric was computed: `test`.",
        "value": "The value of the metric; empty if it is not finite.",
        "higher_is_better": "`True` if a higher value is better, `False` if a lower one is.",
        "status": "How the run ended: `ok`, `diverged`, `skipped`, `timeout`, `out_of_memory` or `crashed`.",
        "untrained": "The score of a predictor that has not seen the inputs. A failed run counts with it.",
    },
    "costs.csv": {
        **_meanings("task_set", "method"),
        "step_seconds": "The seconds of a step, in the fastest round of the measurement.",
        "allocated_bytes": "The bytes that a step allocates in all.",
        "peak_bytes": "The most bytes that a step needs at once, beyond parameters and data.",
        **_meanings("step_ratio", "training_ratio", "memory_ratio", "with_trials_ratio", *PASSES_COLUMNS),
    },
    "timings.csv": {
        **_meanings("task_set", "method"),
        "seed": "The seed of the run.",
        "tasks": "The tasks of the run, joined by `+`.",
        "step_seconds": "The mean seconds of a step, without evaluation and probes.",
        "evaluation_seconds": "The seconds that all evaluations took.",
        "probe_seconds": "The seconds that all probes took.",
        "total_seconds": "The seconds of the whole run.",
        "peak_memory": "The most bytes that were allocated on the GPU; empty on a CPU.",
        **_meanings(*PASSES_COLUMNS),
    },
    "tuning.csv": {
        **_meanings("task_set", "method"),
        "tasks": "The tasks that were learnt together, joined by `+`; single-task learning chooses for each task.",
        "trial": "The place of the setting in the order in which settings are tried, from 1.",
        "factor": "The learning rate, as a multiple of the protocol's.",
        "options": "Options of the method, where they differ from those that were asked for.",
        "gain": "The mean relative gain on validation over single-task learning at its chosen rates, in per cent, over "
        "the tuning seeds; of single-task learning that over its own score at the protocol's rate. Empty if unknown.",
        "failed": "At how many of the tuning seeds the run failed. Such a run counts with the scores of an untrained "
        "predictor.",
        "chosen": "Whether it was chosen: yes or no.",
    },
    "curve.csv": {
        **_meanings("task_set", "method"),
        "trials": "A number of trials, taken at random from all that were made.",
        "expected_delta_task": "Δ task to be expected, on test and at the tuning seeds, of the one of them that is "
        "best on validation, in percentage points. Single-task networks have their chosen rates.",
    },
}
"""What the columns of each CSV file mean, by name, in the order of the file."""


def reference() -> str:
    """Return the reference of all CSV files: a Markdown table for each."""
    usual = {column.name: column.heading for column in COLUMNS}
    own = {
        "frozen.csv": {column.name: column.heading for column in FROZEN},
        "draws.csv": {column.name: column.heading for column in DRAWS},
    }
    tables = []
    for file, columns in FILES.items():
        headings = own.get(file, usual)
        lines = [f"| `{name}` | {headings.get(name, '')} | {meaning} |" for name, meaning in columns.items()]
        tables.append(
            "\n".join([f"### {file}", "", "| column | on pages | what it holds |", "| :-- | :-- | :-- |", *lines])
        )
    return "\n\n".join(tables)


if __name__ == "__main__":
    print(reference())
