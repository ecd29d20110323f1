"""Try everything on a CUDA device in one go: `python tests/gpu/run.py --out DIR`.

Independent parts run one after another, each in a process of its own with a limit of its own, so that a part that
crashes or hangs costs the others nothing. A line is printed as each part ends. After every part DIR has all that is
known so far: `figures.json`, `summary.md`, and what the parts printed (`log.txt`).

The exit code is 0 if every part ended and every check holds, 1 if not, and 2 if packages are missing.
"""

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "benchmarks")]

from notes import Notes, markdown, tally  # noqa: E402

PARTS = {
    "rules": 100,
    "loops": 50,
    "segnet": 150,
    "command": 130,
    "steps": 90,
    "bytes": 100,
    "copies": 60,
    "crowd": 80,
}
"""The parts in order, and the seconds after which each is stopped."""
TOTAL = 470
"""Seconds after which no part goes on, so that all fits into eight minutes."""
UNUSED = {"datasets", "huggingface-hub", "torch"}
"""Declared packages that are not looked for: two for sets of the hub, which nothing here reads, and torch itself."""


def main():
    asked = arguments()
    if asked.part:  # this process is one of the parts
        part = importlib.import_module(f"parts.{asked.part}")
        part.run(Notes(asked.out), asked.device, asked.small)
        return 0
    if lacking := missing():
        print(f"missing: {', '.join(lacking)} (tests/gpu/README.md says how to bring them as wheels)", file=sys.stderr)
        return 2
    return everything(asked)


def missing():
    """Return the packages that the project and its packages need and that are not here, or too old."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    lacking, seen, waiting = [], set(), [Requirement(text) for text in declared]
    while waiting:
        needed = waiting.pop()
        if needed.name in seen | UNUSED or (needed.marker and not needed.marker.evaluate({"extra": ""})):
            continue
        seen.add(needed.name)
        try:
            here = importlib.metadata.version(needed.name)
        except importlib.metadata.PackageNotFoundError:
            lacking.append(str(needed))
            continue
        if not needed.specifier.contains(here, prereleases=True):
            lacking.append(f"{needed} (here is {here})")
        waiting += [Requirement(text) for text in importlib.metadata.requires(needed.name) or ()]
    return lacking


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the folder for figures.json, summary.md and log.txt")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu is for rehearsals")
    parser.add_argument("--small", action="store_true", help="reduce every part, for rehearsals")
    parser.add_argument("--only", default=",".join(PARTS), help="these parts only, separated by commas")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    return parser.parse_args()


def everything(asked):
    """Run the parts, keep what they find, and return the exit code."""
    asked.out.mkdir(parents=True, exist_ok=True)
    begin = time.monotonic()
    found = {"device": asked.device, "small": asked.small, "machine": {}, "parts": {}}
    with tempfile.TemporaryDirectory() as folder, (asked.out / "log.txt").open("w") as log:
        for name in asked.only.split(","):
            seconds = min(PARTS[name], TOTAL - (time.monotonic() - begin))
            found["parts"][name] = part = one(name, asked, Path(folder) / f"{name}.json", seconds, log)
            print(f"{name}: {part['ended']}, {tally(part)}, {part['seconds']:.0f} s", flush=True)
            for check in part["checks"]:
                if check["holds"] is False:
                    print(f"  FAILS {check['what']}: {check['detail']}", flush=True)
            if not found["machine"]:  # after a part has shown that the packages can be imported at all
                found["machine"] = machine()
            (asked.out / "figures.json").write_text(json.dumps(found, indent=1) + "\n")
            (asked.out / "summary.md").write_text(markdown(found))
    parts = found["parts"].values()
    holds = all(check["holds"] is not False for part in parts for check in part["checks"])
    return 0 if holds and all(part["ended"] == "ok" for part in parts) else 1


def one(name, asked, file, seconds, log):
    """Run one part for at most so many seconds; return what it found, and how it ended."""
    begin = time.monotonic()
    command = [sys.executable, __file__, "--part", name, "--out", str(file), "--device", asked.device]
    log.write(f"==== {name}\n")
    log.flush()
    ended = "skipped (no time left)"
    if seconds > 5:
        paths = [*sys.path[:2], *filter(None, [os.environ.get("PYTHONPATH")])]
        around = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}
        process = subprocess.Popen(
            [*command, *["--small"] * asked.small],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=around,
            start_new_session=True,
        )
        try:
            code = process.wait(seconds)
            ended = "ok" if code == 0 else f"crashed (exit code {code}; log.txt says where)"
        except subprocess.TimeoutExpired:
            ended = f"stopped after {seconds:.0f} s"
        finally:  # whatever it has started, it has started in its own group
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    noted = json.loads(file.read_text()) if file.exists() else {"checks": [], "tables": {}}
    return {"ended": ended, "seconds": round(time.monotonic() - begin, 1), **noted}


def machine():
    """Say what ran: versions and hardware."""
    from bench.engine.runs import environment

    around = environment()
    return {"commit": around["commit"], **around["versions"], **around["hardware"]}


if __name__ == "__main__":
    sys.exit(main())
