"""The script for CUDA devices runs on a CPU, reduced, so that its own faults are found before there is a device."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from notes import Notes, markdown
from run import PARTS, missing

SCRIPT = Path(__file__).with_name("run.py")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_runs_to_its_end_and_what_it_checks_holds(part, tmp_path):
    notes = Notes(tmp_path / "notes.json")
    importlib.import_module(f"parts.{part}").run(notes, "cpu", small=True)
    assert notes.checks
    assert [check for check in notes.checks if check["holds"] is False] == []
    assert json.loads(notes.file.read_text())["checks"] == notes.checks


def start(out, *more):
    command = [sys.executable, str(SCRIPT), "--out", str(out), "--device", "cpu", "--small", *more]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_script_prints_a_line_a_part_and_leaves_figures_and_a_summary(tmp_path):
    done = start(tmp_path, "--only", "copies")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("copies: ok, ")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["parts"]["copies"]["ended"] == "ok"
    assert found["machine"]["torch"]
    assert "| copies | ok |" in (tmp_path / "summary.md").read_text("utf-8")


def test_a_part_that_fails_is_said_and_stops_nobody(tmp_path, monkeypatch):
    """A machine without CUDA: parts crash on it."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = start(tmp_path, "--only", "copies,loops", "--device", "cuda")
    assert done.returncode == 1
    assert [line.partition(" (")[0] for line in done.stdout.splitlines()] == ["copies: crashed", "loops: crashed"]
    assert "Error" in (tmp_path / "log.txt").read_text()


def test_what_a_stopped_part_has_found_is_kept(tmp_path):
    notes = Notes(tmp_path / "notes.json")
    notes.check("this holds", True)
    notes.tried("this cannot be tried", lambda: 1 / 0)
    notes.row("times", rule="equal", ms=1.23456)
    kept = json.loads(notes.file.read_text())
    assert [check["holds"] for check in kept["checks"]] == [True, False]
    assert kept["checks"][1]["detail"] == "ZeroDivisionError: division by zero"
    part = {"ended": "stopped after 9 s", "seconds": 9.0, **kept}
    text = markdown({"machine": {"gpu": "A"}, "parts": {"rules": part}})
    assert "| rules | stopped after 9 s | 1 of 2 hold | 9 |" in text
    assert "| equal | 1.235 |" in text


def test_nothing_that_the_script_needs_is_missing_here():
    assert missing() == []
