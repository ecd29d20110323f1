"""The README and the pages of docs/ keep to the code: their links, commands, blocks of code and numbers."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer

import bench
import methods
from bench import cli
from bench.campaign import Campaign
from bench.catalogue import parse_task_set
from bench.planning.request import Request
from bench.planning.seeds import parse_seeds
from bench.report.analyse import versus
from bench.report.given import read_tidy
from bench.store import Store
from methods.core.groups import members
from methods.core.names import split

ROOT = Path(__file__).parents[1]
FILES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
PAGES = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in FILES}
GROUPS = {"standard", "all", "loss", "gradient", "distillation"}
REFERENCE = ROOT / "results" / "reference"
COMMAND = re.compile(r"(?:python -m bench|mtl-bench) +([^`&|)\n]+)")
INLINE = re.compile(r"`((?:python -m bench|mtl-bench) [^`]+)`")


def code(page, language):
    """The blocks of a page in one language."""
    return re.findall(rf"```{language}\n(.*?)```", PAGES[page], re.DOTALL)


def commands():
    """Every command line of ours in the pages, in blocks and in sentences: the page, and the arguments."""
    for page, text in PAGES.items():
        blocks = [*code(page, "console"), *code(page, "bash")]
        lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
        found = [arguments for line in lines for arguments in COMMAND.findall(line)]
        sentences = [
            COMMAND.findall(line)[0] for line in INLINE.findall(re.sub("```.*?```", "", text, flags=re.DOTALL))
        ]
        # A sentence may name a command without its arguments.
        found += [words if " " in words else f"{words} --help" for words in sentences]
        yield from ((page, arguments.strip()) for arguments in dict.fromkeys(found))


def parsed(arguments):
    """The values of a command line's options, as the command would be called with them."""
    command, rest, context = typer.main.get_command(cli.app), list(arguments), None
    while True:
        context = command.make_context("bench", rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return context.params
        _, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def test_the_table_of_contents_names_every_page():
    linked = set(re.findall(r"\]\(([\w-]+\.md)\)", PAGES["docs/index.md"]))
    assert {page.name for page in ROOT.glob("docs/*.md")} - {"index.md"} <= linked


@pytest.mark.parametrize("page", PAGES)
def test_every_link_of_a_page_leads_to_a_file(page):
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", PAGES[page]) if "://" not in link]
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).exists()] == []


@pytest.mark.parametrize(("page", "arguments"), list(commands()))
def test_a_command_of_a_page_can_be_typed(page, arguments):
    try:
        options = parsed(shlex.split(arguments, comments=True))
    except typer.Exit:  # of --version and --help, which print and end
        return
    for name in split(options.get("methods") or "", ","):
        if name and name not in GROUPS and ".py" not in name and "$" not in name:
            methods.parse(name)
    if "seeds" in options:  # of `run` and `plan`: the tasks of `literature` are names that papers use
        parse_seeds(options["seeds"])
        for name in split(options["tasks"], ","):
            if name != "all" and ".py" not in name and "…" not in name:
                parse_task_set(name)


def test_commands_are_found_in_blocks_and_sentences():
    found = set(commands())
    assert {("README.md", "run"), ("README.md", "list tasks"), ("docs/evidence.md", "power")} <= found
    assert ("docs/reading-the-page.md", "power --help") in found  # in a sentence
    assert any("--checkpoint-every 500" in line for page, line in found if page == "docs/cluster.md")  # in a script


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder with the files of docs/plug-ins.md, as the working folder."""
    for block in code("docs/plug-ins.md", "python"):
        if named := re.match(r"# (\w+\.py)\n", block):
            (tmp_path / named[1]).write_text(block)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_the_plug_ins_of_the_page_pass_the_tests_of_the_page(plugins):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "test_plugins.py"],
        cwd=plugins,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 30


RUNNABLE = [
    (page, block)
    for page in PAGES
    if page.startswith("docs/") and page != "docs/own-loop.md"  # of which every block is run, too, by its own test
    for block in code(page, "python")
    if not re.match(r"# \w+\.py\n", block)
]


@pytest.mark.parametrize(("page", "block"), RUNNABLE, ids=[page for page, _ in RUNNABLE])
def test_a_block_of_a_page_runs(page, block, plugins, monkeypatch, capsys):
    given, real = {}, bench.run

    def short_run(**options):
        given.update(options)
        small = {"seeds": 1, "protocol": "smoke", "engine": "inline", "figures": False, "out": plugins / "results"}
        return real(**{**options, **small})

    monkeypatch.setattr(bench, "run", short_run)
    exec(compile(block, page, "exec"), {"__name__": "__main__"})
    if "bench.run" in block:
        assert given
    if "print" in block:
        assert "smooth" in capsys.readouterr().out


def test_the_page_about_the_page_names_its_columns_verdicts_and_figures():
    explained = PAGES["docs/reading-the-page.md"]
    page = (REFERENCE / "leaderboard.html").read_text("utf-8")
    how = page[page.index('id="how"') :]
    heads = re.findall(r"<dt>([^<]+)</dt>", how)
    figures = set(re.findall(r"<title[^>]*>([^<]+)</title>", page)) - {"Multi-task learning leaderboard"}
    verdicts = [f"{mark} {word}" for mark, word in re.findall(r'aria-hidden="true">(.)</span> ([a-z ]+)</span>', how)]
    assert len(heads) > 10
    assert len(figures) > 5
    assert len(verdicts) == 7
    assert [head for head in heads if f"| {head} |" not in explained and head != "Method"] == []
    assert [figure for figure in figures if f"**{figure}**" not in explained] == []
    assert [verdict for verdict in verdicts if verdict not in explained] == []


def test_the_page_about_evidence_quotes_the_simulations():
    lines = [
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in (ROOT / "results" / "calibration" / "calibration.md").read_text("utf-8").splitlines()
    ]

    def rates(procedure, setting, seeds):
        found = [line for line in lines if line[0] == procedure and line[1].startswith(setting) and line[3] in seeds]
        cells = [cell for line in found for cell in line[4:]]
        return [float(cell.split(" ")[0]) for cell in cells if cell != "–"]

    family = rates("max_t", "no effect", ("8", "10"))
    assert len(family) == 24
    assert f"{min(family):.1f} to {max(family):.1f} %" in PAGES["docs/evidence.md"]
    tasks = rates("tasks as replicates ✗", "7 tasks", ("3", "5", "8", "10"))
    assert f"{min(tasks):.0f} to {max(tasks):.0f} %" in PAGES["docs/evidence.md"]
    [constant] = rates("STL as a constant, of as many seeds ✗", "Δ = 0", ("8",))
    assert f"in {constant:.1f} % of cases" in PAGES["docs/evidence.md"]
    collapsing = rates("t_interval", "one run against a constant", ("3", "5", "8", "10"))
    assert f"up to {max(collapsing):.0f} % of cases" in PAGES["docs/evidence.md"]


def test_the_rule_of_the_page_is_tuned_with_the_options_that_it_declares(plugins):
    [arguments] = [given for page, given in commands() if page == "docs/plug-ins.md" and given.startswith("tune ")]
    request = {name: parsed(shlex.split(arguments))[name] for name in ("methods", "tasks", "tuning")}
    small = {"protocol": "smoke", "engine": "inline", "out": plugins / "results"}
    store = Store(plugins / "results")
    choices = Campaign(Request(**request, **small), store).tune()
    tried = {choice.method_label: choice.attempts for choice in choices}
    assert {len(attempts) for attempts in tried.values()} == {2 * int(request["tuning"])}
    drawn = [attempt.options["decay"] for attempt in tried["smooth.py:Smooth"] if attempt.options]
    assert len(drawn) == 6  # three settings beyond the seven rates, with two seeds
    assert set(drawn) <= {"0.5", "0.9", "0.99"}
    assert not any(attempt.options for attempt in tried["equal"])


def test_the_page_about_evidence_quotes_the_simulation_of_task_sets():
    evidence = re.sub(r"\s+", " ", PAGES["docs/evidence.md"])
    with (ROOT / "results" / "calibration" / "sets.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))

    def rates(**wanted):
        found = [row for row in rows if all(row[name] in np.atleast_1d(value) for name, value in wanted.items())]
        assert found
        return [100 * float(row["rate"]) for row in found]

    def span(found):
        return f"{min(found):.1f} to {max(found):.1f} %"

    at_one = {"setting": "effects over sets of 1 sd of a run"}
    wrong, missed, right, kept = (
        rates(promise=promise, procedure=f"{sample} as the sample", **at_one)[0]
        for sample in ("seeds", "sets")
        for promise in ("called better or worse", "interval misses")
    )
    assert (
        f"in {wrong:.1f} % of cases, and its 95 % interval misses the mean over all sets in {missed:.1f} %" in evidence
    )
    assert f"it is {right:.1f} % and {kept:.1f} %" in evidence
    alike, itself = (
        [setting, f"{setting}, sets unlike"] for setting in ("rules and reference alike", "the difference itself")
    )
    family = {"promise": "family-wise error", "procedure": "max_t over sets"}
    assert f"is wrong in {span(rates(setting=alike, **family))} of cases where all rules spread" in evidence
    units = "max_t in units of each set"
    unlike = {"setting": "2 sd on each set, sets unlike", "sets": "8"}
    ruled, free = (
        [rates(procedure=name, methods=m, **unlike)[0] for m in ("6", "40")] for name in (family["procedure"], units)
    )
    assert f"in {ruled[0]:.1f} % of cases with a family of 6 and in {ruled[1]:.1f} % with one of 40" in evidence
    assert f"In units of each set they find it in {free[0]:.1f} and {free[1]:.1f} %" in evidence
    assert f"is at most 0.05 in {span(rates(setting=alike, **family | {'procedure': units}))} of cases" in evidence
    skewed, collapsing = (span(rates(setting=itself, noise=noise, **family)) for noise in ("skewed", "collapsing"))
    assert f"is wrong in {skewed} of cases, and if it collapses on one set in ten, in {collapsing}:" in evidence
    one, two = (
        {place: rates(procedure="max_t over sets", setting=f"{effect} sd", sets=place[0], methods=place[1])[0]
         for place in (("8", "6"), ("8", "40"), ("6", "6"))}
        for effect in (1, 2)
    )  # fmt: skip
    assert f"is found in {two['8', '6']:.1f} % of cases, and an effect of 1 in {one['8', '6']:.1f} %" in evidence
    assert f"With a family of 40 it is {two['8', '40']:.1f} and {one['8', '40']:.1f} %" in evidence
    assert f"it is {two['6', '6']:.1f} and {one['6', '6']:.1f} %" in evidence
    many, few = (span(rates(promise="power", procedure="max_t over sets", sets=sets)) for sets in (["8", "12"], "6"))
    assert f"is found in {many} of cases with eight and twelve sets, and in {few.rstrip(' %')} % with six" in evidence
    ranks = span(rates(promise="family-wise error", procedure="signed ranks, alone"))
    assert f"is at most 0.05 in {ranks} of cases" in evidence


def test_the_page_about_evidence_quotes_the_simulation_of_tuning():
    evidence = re.sub(r"\s+", " ", PAGES["docs/evidence.md"])
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (ROOT / "results" / "calibration" / "tuning.md").read_text("utf-8").splitlines()
        if line.startswith("| like ")
    ]

    def numbers(place, rows):
        return [float(line[place].split(" ")[0]) for line in rows]

    lost = numbers(2, [line for line in lines if len(line) == 6 and line[1] == "2"])
    family = [line for line in lines if len(line) == 10 and line[3] == "2"]
    assert len(lost) == 3
    assert len(family) == 12
    claims, false, holding, gaps = (numbers(place, family) for place in (4, 5, 6, 9))
    assert f"loses {min(lost):.1f} to {max(lost):.1f} points" in evidence
    assert f"is wrong in {min(false):.1f} to {max(false):.1f} % of cases" in evidence
    assert max(false) < 5
    assert f"claims something in {min(claims):.0f} to {max(claims):.0f} % of cases" in evidence
    assert f"It is {min(gaps):.1f} to {max(gaps):.1f} points on average" in evidence
    assert f"claim something in {min(holding):.1f} to {max(holding):.1f} % of cases" in evidence


def test_the_page_of_the_rules_says_what_each_asks_for_and_passes():
    entries = methods.registry.built_in()
    facts = {name: methods.registry.describe(entries[name]).facts for name in members()["all"]}
    lines = [line.strip("|").split(" | ") for line in rules_page("is held to").splitlines() if line.startswith("| `")]
    rows = {cells[0].strip(" `"): [cell.strip() for cell in cells[1:]] for cells in lines}
    assert rows.keys() == facts.keys()
    peers = (ROOT / "tests" / "methods" / "test_peers.py").read_text("utf-8")
    compared = dict(re.findall(r'"(\w+)": Peer\(\s*"(\w+)"', peers))
    for name, (_, asks, heads, passes, held, peer) in rows.items():
        own = facts[name]
        assert (asks, heads) == (", ".join(own["asks"]), own["heads"]), name
        if {"gramian", "jacobian"} & set(own["asks"]):  # of five tasks; at the last layer, one more of the weighted sum
            counted = {"shared": "5, 5", "features": "5, 1", "last": "6, 1"}[own["at"]]
        else:
            counted = "2, 1" if own["heads"] == "plain" else "1, 1"
        assert passes == counted, name
        assert held, name
        assert re.findall(r"^`(\w+)`", peer) == ([compared[name]] if name in compared else []), name


def rules_page(section):
    """The section of docs/rules.md whose heading ends so."""
    [found] = [part for part in PAGES["docs/rules.md"].split("\n## ") if part.splitlines()[0].endswith(section)]
    return found


def test_the_page_of_rules_says_what_the_board_of_all_rules_shows():
    told = rules_page("board of all rules shows")
    scores = read_tidy(REFERENCE / "all" / "runs.csv")
    found = {}
    for line in [line for line in told.splitlines() if line.startswith("| `")]:
        reference, *cells = [re.findall("`([^`]+)`", cell) for cell in line.strip("|").split(" | ")]
        found[reference[0]] = compared = versus(scores, reference[0])
        verdicts = {method: own.verdict for method, own in compared["all"].items()}
        best = sorted(verdicts, key=lambda method: -compared["all"][method].difference.mean)
        kinds = (("better",), ("equivalent", "identical"), ("undecided",), ("worse",))
        assert cells == [[method for method in best if verdicts[method] in kind] for kind in kinds]
    assert list(found) == ["equal", "static", "unit", "log"]

    def alike(reference, method):
        return sum(family[method].verdict in ("equivalent", "identical") for family in found[reference].values())

    verdicts = {reference: {m: own.verdict for m, own in sets["all"].items()} for reference, sets in found.items()}
    better = [method for method, verdict in verdicts["equal"].items() if verdict == "better"]
    assert len(better) == len(verdicts["equal"]) / 2, "half of the rules"
    assert sum(verdicts["static"].get(method) == "better" for method in better) == 6
    assert "better" not in verdicts["unit"].values() and "equivalent" not in verdicts["unit"].values()
    assert (alike("unit", "nashmtl"), alike("unit", "imtl")) == (5, 3)
    assert (alike("log", "uwo"), alike("log", "stch"), alike("log", "igbv1")) == (9, 7, 4)
    assert verdicts["log"]["uwo"] == "identical"
    assert versus(scores, "uncertainty")["all"]["imtll"].verdict == "equivalent"

    board = pd.read_csv(REFERENCE / "all" / "leaderboard.csv")
    over_all = board.query("task_set == 'all' and method != 'stl'")
    assert set(over_all.vs_stl_verdict) == {"worse"}
    ours = board.query("task_set != 'all' and vs_stl_verdict == 'better'").groupby("task_set").size()
    assert dict(ours) == {"assays": 23, "scales": 9}
    judged = over_all.query("method != 'equal'")
    assert (len(judged), (judged.changes_without != "none").sum()) == (36, 26)
    assert set(over_all.sets_vs_equal_verdict.dropna()) == {"undecided"}
    assert set(over_all.method.tail(3)) == {"excessmtl", "uwso", "moco"}
