"""Two processes that share one card give the same bytes, or the difference is said."""

import subprocess
import sys
import tempfile
from pathlib import Path

from parts.command import failures, furthest, read

METHODS = "equal,uncertainty,dwa,gradnorm,mgda,mgda[at=features],mgda[at=last],kd,kd+mgda"


def run(notes, device, small):
    if not small:  # both would render the rooms at the same time
        subprocess.run([sys.executable, "-c", "from tasks.scenes import Scenes; Scenes().splits"], check=True)
    for task_set in ("scales",) if small else ("scales", "digits", "scenes"):
        with tempfile.TemporaryDirectory() as name:
            folders = [Path(name) / "first", Path(name) / "second"]
            asked = ["--tasks", task_set, "--seeds", "1", "--protocol", "smoke", "--engine", "inline", "--no-figures"]
            asked += ["--methods", "equal,mgda" if small else METHODS, "--accelerator", device]
            command = [sys.executable, "-m", "bench", "run", *asked]
            processes = [subprocess.Popen([*command, "--out", str(folder)]) for folder in folders]
            for process in processes:
                process.wait()
            first, second = map(read, folders)
            notes.check(f"{task_set}: every run is ok", first and not failures(first), failures(first))
            if not all((folder / "runs.csv").exists() for folder in folders):
                continue
            differ = [r["method_label"] for n, r in first.items() if r["result"] != second.get(n, {}).get("result")]
            far = "" if not differ else f"{', '.join(sorted(set(differ)))} differ: "
            tables = [folder / "runs.csv" for folder in folders]
            far += furthest(*tables) if differ else ""
            notes.check(f"{task_set}: two processes at once leave the same results, byte for byte", not differ, far)
