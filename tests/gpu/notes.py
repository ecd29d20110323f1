"""What a part of the script finds: checks that hold or fail, and tables of figures."""

import json
import time
from pathlib import Path


class Notes:
    """The findings of one part. They are written after every addition, so that a part that is stopped leaves them."""

    def __init__(self, file: Path):
        self.file = file
        self.checks, self.tables = [], {}

    def check(self, what, holds, detail=""):
        """Write down whether something holds. None means that this device cannot tell."""
        self.checks.append({"what": what, "holds": None if holds is None else bool(holds), "detail": detail})
        mark = {True: "ok", False: "FAILS", None: "-"}[self.checks[-1]["holds"]]
        self._keep(f"{mark:6}{what}{': ' if detail else ''}{detail}")

    def tried(self, what, function, *arguments):
        """Check that a function's result is empty; it returns what is wrong. An exception is wrong, too."""
        try:
            wrong = function(*arguments)
        except Exception as problem:
            wrong = f"{type(problem).__name__}: {str(problem).partition(chr(10))[0]}"
        self.check(what, not wrong, wrong or "")

    def row(self, table, **cells):
        """Add a row to a table. Numbers keep four digits, which are more than a clock knows."""
        brief = {name: float(f"{value:.4g}") if isinstance(value, float) else value for name, value in cells.items()}
        self.tables.setdefault(table, []).append(brief)
        self._keep(f"      {table}: {', '.join(f'{name} {value}' for name, value in brief.items())}")

    def _keep(self, line):
        print(f"{time.strftime('%X')} {line}", flush=True)
        self.file.write_text(json.dumps({"checks": self.checks, "tables": self.tables}))


def markdown(found):
    """Return the summary of all parts: what failed first, then every table."""
    lines = ["# On a GPU", "", ", ".join(f"{name}: {value}" for name, value in found["machine"].items()), ""]
    lines += ["| part | ended | checks | seconds |", "|---|---|---|---|"]
    for name, part in found["parts"].items():
        lines.append(f"| {name} | {part['ended']} | {tally(part)} | {part['seconds']:.0f} |")
    for name, part in found["parts"].items():
        lines += ["", f"## {name}", ""]
        for check in part["checks"]:
            mark = {True: "holds", False: "**fails**", None: "not judged"}[check["holds"]]
            lines.append(f"* {mark}: {check['what']}{': ' if check['detail'] else ''}{check['detail']}")
        for table, rows in part["tables"].items():
            columns = list(dict.fromkeys(name for row in rows for name in row))
            lines += ["", f"### {table}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
            lines += [f"| {' | '.join(str(row.get(name, '')) for name in columns)} |" for row in rows]
    return "\n".join(lines) + "\n"


def tally(part):
    """Say in words how many checks hold."""
    outcomes = [check["holds"] for check in part["checks"]]
    judged = [holds for holds in outcomes if holds is not None]
    aside = f", {len(outcomes) - len(judged)} not judged" if len(judged) < len(outcomes) else ""
    return f"{sum(judged)} of {len(judged)} hold{aside}"
