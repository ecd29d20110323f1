"""Runs through the command line: two workers on one card, killed in the middle and resumed by the same command."""

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

METHODS = "equal,uncertainty,mgda"


def run(notes, device, small):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks, seeds = "scales[tasks=2]", "1" if small else "2"
        asked = ["--tasks", tasks, "--seeds", seeds, "--protocol", "smoke" if small else "quick", "--workers", "2"]
        asked += [
            "--methods",
            METHODS,
            "--accelerator",
            device,
            "--no-figures",
            "--checkpoint-every",
            "5" if small else "50",
        ]

        begin = time.monotonic()
        most = watch(start(folder / "whole", asked), folder / "whole")
        seconds = time.monotonic() - begin
        records = read(folder / "whole")
        notes.row("undisturbed", runs=len(records), seconds=seconds, workers=most)
        notes.check("two workers shared the device", most >= 2, f"at most {most} at once")
        notes.check("every run is ok", all(r["result"]["status"] == "ok" for r in records.values()), failures(records))
        whole = folder / "whole" / "runs.csv"
        if not whole.exists():
            return

        process = start(folder / "killed", asked)
        watch(process, folder / "killed", until=len(records) // 3)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2)
        kept = len(read(folder / "killed"))
        notes.check("the kill came in the middle", 0 < kept < len(records), f"{kept} of {len(records)} runs were there")
        left = working(folder / "killed")
        notes.check("no worker outlives the command", not left, f"{left} do" if left else "")
        begin = time.monotonic()
        code = start(folder / "killed", asked).wait()
        notes.row("resumed", runs=len(records) - kept, seconds=time.monotonic() - begin, code=code)
        for table in ("runs.csv", "leaderboard.csv"):
            same = (folder / "killed" / table).read_bytes() == (folder / "whole" / table).read_bytes()
            far = "" if same else furthest(folder / "whole" / table, folder / "killed" / table)
            notes.check(f"{table} of the resumed command is byte for byte that of the undisturbed one", same, far)
        in_records(notes, device, folder / "whole", records)


def in_records(notes, device, folder, records):
    """Check that memory and hardware are in what the runs leave."""
    if device == "cpu":
        notes.check("records name the card and say how much memory a run took", None)
        return
    cards = {record["provenance"]["hardware"].get("gpu") for record in records.values()}
    notes.check("records name the card", len(cards) == 1 and None not in cards, ", ".join(map(str, cards)))
    memory = [record["cost"]["peak_memory"] for record in records.values()]
    most = max(filter(None, memory), default=0)
    notes.check("records say how much memory a run took", all(memory), f"at most {most} bytes")
    costs = [json.loads(file.read_bytes()) for file in (folder / "costs").glob("*.json")]
    notes.check("costs name the card", bool(costs) and all(cost["hardware"].get("gpu") for cost in costs))
    taken = [cost["peak_bytes"] for record in costs for cost in record["costs"]]
    notes.check("costs say how much memory a step takes", bool(taken) and all(taken))


def start(out, asked):
    """Start the command, and return its process. What it prints goes to this part's output."""
    return subprocess.Popen([sys.executable, "-m", "bench", "run", "--out", str(out), *asked])


def watch(process, out, until=None):
    """Wait for the command, or for so many records; return the most runs that were in progress at once."""
    most = 0
    while process.poll() is None:
        most = max(most, working(out))
        if until is not None and len(list((out / "runs").glob("*.json"))) >= until:
            break
        time.sleep(0.02)
    return most


def working(out):
    """Return how many processes write to a log of this folder: a worker's output goes to the log of its run."""
    logs = {file.resolve() for file in (out / "logs").glob("*")}
    count = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            count += (process / "fd" / "1").resolve() in logs
        except OSError:
            continue  # it has ended meanwhile, or is somebody else's
    return count


def read(out):
    """Return the records of a folder by name."""
    return {file.stem: json.loads(file.read_bytes()) for file in sorted((out / "runs").glob("*.json"))}


def failures(records):
    """Name the runs that are not ok, and say why."""
    failed = [record for record in records.values() if record["result"]["status"] != "ok"]
    return "; ".join(f"{record['method_label']} {record['result']['reason']}" for record in failed[:3])


def furthest(one, other):
    """Say how far two tables are from one another: the largest relative difference of two numbers."""
    with one.open() as first, other.open() as second:
        rows = list(csv.reader(first)), list(csv.reader(second))
    if [len(row) for row in rows[0]] != [len(row) for row in rows[1]]:
        return f"{len(rows[0])} and {len(rows[1])} rows"
    worst, cells = 0.0, 0
    for a, b in zip(*rows, strict=True):
        for x, y in zip(a, b, strict=True):
            if x == y:
                continue
            cells += 1
            try:
                worst = max(worst, abs(float(x) - float(y)) / max(abs(float(x)), abs(float(y))))
            except ValueError:
                return f"{x} and {y}"
    return f"{cells} cells differ, by at most {worst:.1e} of their value"
