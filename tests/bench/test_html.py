"""The page: complete, inert, small, well formed and always the same bytes. Of made-up reports."""

import base64
import hashlib
import math
import re
import subprocess
import sys
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from made_report import made_report

from bench.literature import published
from bench.report.board import ALPHA, Interval, Report
from bench.report.findings import MARKS, MOST_NAMED, NAMED, Name, findings, p_value, signed
from bench.report.pages.html import MANY, page
from bench.report.pages.text import latex, markdown
from bench.spec import STL

HOSTILE = [
    "<script>alert(1)</script>",
    "</script></style><img src=x onerror=alert(1)>",
    "=cmd|' /C calc'!A0",
    'a" onmouseover="alert(1)" x="',
    ' style="}body{display:none}"',
    "<!-- {{ 7*7 }} {% x %} -->",
    "$x^2$ \\frac & %",
    "two\nlines\tand a tab",
    "café Δ ‮gnihtyna",
    "x" * 600,
]
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, data):
        raise AssertionError(f"a comment: {data}")

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def six():
    return made_report(6)


@pytest.fixture(scope="module")
def written(six):
    return page(six, {"multimnist": published("multimnist")}).decode()


def small(**changes):
    return made_report(**{"methods": 3, "sets": 1, "seeds": 4, "curves": False, **changes})


def changed(report, **rows):
    """The report with these fields of every row replaced."""
    boards = [replace(b, rows=tuple(replace(row, **rows) for row in b.rows)) for b in report.boards]
    return Report(tuple(boards), report.provenance)


def test_rows_of_the_page_stand_above_those_of_papers_with_the_same_protocol():
    [board] = small().boards
    metrics = (("segmentation", "miou"), ("depth", "absolute"))
    numbers = {"gains": np.array([1.0, 2.0]), "gain_p": np.array([0.5, 0.5])}
    rows = tuple(replace(row, values=np.array([0.4, 0.51234]), **numbers) for row in board.rows)

    def tables(label):
        shown = replace(board, label=label, metrics=metrics, higher_is_better=(True, False), rows=rows)
        text = page(Report((shown,), {}), {label: published("nyuv2")}, figures=False).decode()
        captions = re.findall(r"<caption><bdi>(\w+)</bdi>(.*?)</caption>(.*?)</table>", text, re.S)
        return [(name, "nothing here is tested" in said, body.count("<bdi>own</bdi>")) for name, said, body in captions]

    found = [own for own in tables("nyuv2[metrics=both]@navon2022") if own[1]]
    assert [name for name, *_ in found] == [
        *("cagrad_table1_nyuv2", "famo_table1_nyuv2", "famo_table5_nyuv2", "go4align_table1_nyuv2"),
        "nashmtl_table2_nyuv2",
    ]
    assert {count for *_, count in found} == {len(rows)}
    assert not any(said or count for _, said, count in tables("nyuv2@navon2022[lr=0.001]"))
    assert not any(said or count for _, said, count in tables("nyuv2"))


def test_the_page_of_six_methods_is_below_a_megabyte(written):
    assert len(written.encode()) < 1e6


def test_the_page_of_forty_methods_is_below_three_megabytes():
    assert len(page(made_report(40), {"nyuv2": published("nyuv2")})) < 3e6


def test_the_tables_of_forty_methods_on_twelve_sets_are_below_a_megabyte_and_a_half():
    over_all, *boards = made_report(40, 3, 20, curves=False).boards
    assert len(page(Report((over_all, *boards * 4), {}), figures=False)) < 1.5e6


def test_a_thousand_methods_are_a_page_without_the_table_of_all_pairs():
    [board] = small().boards
    names = [f"method{i}" for i in range(1000)]
    rows = tuple(replace(board.rows[1], method=name) for name in names)
    fields = ("difference", "low", "high", "p", "wins", "count")
    pairs = replace(board.pairs, methods=tuple(names), **dict.fromkeys(fields, np.ones((1000, 1000))), cliques=())
    text = page(Report((replace(board, rows=rows, pairs=pairs),), {}), figures=False).decode()
    assert len(text) < 2.5e6
    assert '<table class="pairs">' not in text
    assert "A table of all pairs of 1000 methods would be too large" in text


def test_a_pair_has_its_difference_above_the_diagonal_and_its_test_below():
    [board] = small().boards
    pairs = board.pairs
    [table] = re.findall(r'<table class="pairs">.*?</table>', page(Report((board,), {})).decode(), re.S)
    rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)[1:]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert len(cells) == len(pairs.methods) == 3
    star = "*" if pairs.p[0, 2] <= ALPHA else ""
    assert cells[0][2] == f"{signed(pairs.difference[0, 2], 1)}{star}"
    assert cells[2][
        0
    ] == f"{pairs.wins[2, 0]}/{pairs.count[2, 0]}, p {p_value(pairs.p[2, 0]).removeprefix('= ')}".replace("<", "&lt;")
    assert [cells[i][i] for i in range(3)] == [""] * 3


def test_of_many_methods_pairs_have_no_wins_notes_are_folded_and_paper_has_fewer_tables():
    few, many = (page(made_report(count, 1, curves=False)).decode() for count in (MANY - 1, MANY))
    [table] = re.findall(r'<table class="pairs">.*?</table>', many, re.S)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", table)
    assert len(cells) == MANY**2
    assert not any("/" in cell for cell in cells)
    assert "that the row won" not in table
    assert "that the row won" in few
    folded = "<summary>Notes on "
    assert (folded in few, folded in many) == (False, True)
    assert ('class="many"' in few, 'class="many"' in many) == (False, True)
    assert ('<p class="paper">' in few, '<p class="paper">' in many) == (False, True)


def test_of_many_methods_those_that_are_better_or_worse_are_named_and_the_undecided_are_counted():
    board = made_report(40, 1, curves=False).boards[0]
    compared = [row for row in board.rows if row.vs_equal is not None and row.method != STL]
    words = dict(zip(map(id, compared), ["better"] * 7 + ["undecided"] * 15 + ["worse"] * 17, strict=True))
    rows = [replace(r, vs_equal=replace(r.vs_equal, verdict=words[id(r)])) if id(r) in words else r for r in board.rows]
    [said] = [s for s in findings(replace(board, rows=tuple(rows))) if s[0].startswith("Against equal weights")]
    names = [row.method for row in compared]
    shown = [*names[:7], *names[7 : 7 + NAMED], *names[22 : 22 + MOST_NAMED]]
    assert [piece for piece in said if isinstance(piece, Name)] == shown
    assert "".join(said).count(" more") == 2
    assert "".join(said).endswith(" and 2 more.")


def test_it_is_well_formed_with_unique_ids_that_references_find(written):
    seen = Page(written)
    assert seen.open == []
    ids = [attributes["id"] for _, attributes in seen.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    wanted = re.findall(r'(?:href="|url\()#([^")]+)', written)
    wanted += [
        i for _, a in seen.tags for i in (f"{a.get('aria-labelledby', '')} {a.get('aria-describedby', '')}").split()
    ]
    assert set(wanted) <= set(ids)


def test_every_row_has_as_many_cells_as_its_head(written):
    tables = re.findall(r"<table.*?</table>", written, re.S)
    assert len(tables) > 20
    for table in tables:
        counts = {len(re.findall(r"<t[hd][ >]", row)) for row in re.findall(r"<tr>.*?</tr>", table, re.S)}
        assert len(counts) == 1
        assert "<caption>" in table


def test_it_asks_for_nothing(written):
    seen = Page(written)
    tags = {tag for tag, _ in seen.tags}
    assert not tags & {"link", "iframe", "object", "embed", "img", "base", "image", "foreignobject"}
    for _, attributes in seen.tags:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert all((attributes.get(name) or "#").startswith("#") for name in ("src", "href", "action"))
    assert "@import" not in written
    assert not re.search(r"url\((?!#)", written)


def test_the_policy_lets_in_this_style_and_this_script_alone(written):
    seen = Page(written)
    [policy] = [a["content"] for a in seen.named("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(f"<{tag}>(.*?)</{tag}>", written, re.S)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


def test_the_script_writes_text_only(written):
    [script] = re.findall("<script>(.*?)</script>", written, re.S)
    assert not re.search("innerHTML|outerHTML|insertAdjacent|document.write|eval|fetch|XMLHttp|import", script)


def test_every_method_number_and_verdict_is_there_without_the_script(six, written):
    text = re.sub("<script>.*?</script>", "", written, flags=re.S)
    for board in six.boards:
        for row in board.rows:
            assert row.method in text
            assert f"{row.delta_task.mean:+.2f}".replace("-", "−") in text
            for comparison in (row.vs_equal, row.vs_stl):
                if comparison:
                    mark = f'<span class="mark" aria-hidden="true">{MARKS[comparison.verdict]}</span>'
                    assert f"{mark} {comparison.verdict}" in text
            if row.vs_equal:
                assert f">{row.vs_equal.wins}/{row.vs_equal.pairs}<" in text


def test_one_header_of_a_leaderboard_says_how_it_is_sorted(written):
    boards = re.findall(r'<table class="board sortable">.*?</thead>', written, re.S)
    assert len(boards) == 4
    assert {board.count("aria-sort=") for board in boards} == {1}


def test_sorting_keys_are_numbers_and_missing_ones_are_absent(written):
    assert all(math.isfinite(float(value)) for value in re.findall(r'data-v="([^"]*)"', written))


def test_every_figure_has_a_name_a_description_and_its_numbers(written):
    figures = re.findall(r"<figure.*?</figure>", written, re.S)
    assert len(figures) == 3 + 3 * 8
    for figure in figures:
        assert 'role="img" aria-labelledby="' in figure
        [title] = re.findall(r"<svg[^>]*><title id=[^>]*>([^<]+)</title><desc id=[^>]*>[^<]+</desc>", figure)
        assert f"<caption>{title}</caption>" in figure
        assert figure.count("<tr>") > 1


def test_figures_have_the_colours_of_the_page_alone(written):
    """A colour of its own would not follow the change to dark."""
    [style] = re.findall("<style>(.*?)</style>", written, re.S)
    drawn = re.findall(r"^\.f[0-9a-f]{6}\{(.*)\}$", style, re.M)
    assert len(drawn) > 20
    assert not [rules for rules in drawn if re.search("#[0-9a-f]{3}", rules)]
    assert not re.search(r"<svg.*?#[0-9a-f]{6}.*?</svg>", written.replace("&#", ""), re.S)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_and_nothing_else(name):
    def seen(text):
        report = small(names=["equal", text, "third"])
        [board] = changed(report, note=text).boards
        metrics = ((text, text),) * len(board.metrics)
        board = replace(board, label=text, notes=(text,), metrics=metrics, recipe=text)
        return page(Report((board,), {text: text})).decode()

    as_long = "plain".ljust(len(name), "n")  # a long name has a title, too
    hostile, plain = Page(seen(name)), Page(seen(as_long))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    assert [sorted(a) for _, a in hostile.tags] == [sorted(a) for _, a in plain.tags]
    assert hostile.open == []
    assert hostile.text.count(name) > 10


def test_names_are_isolated_from_the_direction_of_their_surroundings():
    text = page(small(names=["equal", "‮evil", "third"])).decode()
    for place in (found.start() for found in re.finditer("‮evil", text)):
        before = text[:place]
        assert before.endswith('title="') or before[before.rindex("<") :].startswith("<bdi")


DEGENERATE = {
    "no board": Report((), {}),
    "no seed": small(seeds=0),
    "one seed": small(seeds=1),
    "two seeds": small(seeds=2),
    "one method": small(methods=1),
    "suite without seeds": small(sets=2, seeds=0),
    "no metrics": changed(
        Report((replace(small().boards[0], metrics=(), higher_is_better=()),), {}),
        **dict.fromkeys(["values", "gains", "gain_p"], np.array([])),
    ),
    "one metric": changed(
        Report((replace(small().boards[0], metrics=(("task", "error"),), higher_is_better=(False,)),), {}),
        **dict.fromkeys(["values", "gains", "gain_p"], np.array([0.5])),
    ),
    "no pairs": Report((replace(small().boards[0], pairs=None),), {}),
    "no rows": Report((replace(small().boards[0], rows=(), pairs=None),), {}),
    "no gain": changed(small(), delta_task=None, delta_metric=None, vs_equal=None, vs_stl=None, band=None),
    "nan": changed(
        small(),
        delta_task=Interval(math.nan, math.nan, math.nan),
        delta_metric=Interval(math.nan, math.nan, math.nan),
        per_seed=np.full(4, math.nan),
        values=np.full(9, math.nan),
        gains=np.full(9, math.nan),
        gain_p=np.full(9, math.nan),
        mean_rank=math.nan,
    ),
}


@pytest.mark.parametrize("name", DEGENERATE)
def test_a_report_with_little_in_it_is_a_page(name):
    seen = Page(page(DEGENERATE[name]).decode())
    assert seen.open == []
    assert "nan" not in re.findall(r"\w+", seen.text.replace("±", " "))
    assert b"nan" not in re.findall(rb"\b\w+\b", markdown(DEGENERATE[name]) + latex(DEGENERATE[name]))


def said(report):
    return ["".join(sentence) for sentence in findings(report.boards[0])]


def test_few_seeds_are_said_to_be_too_few():
    sentences = said(small(seeds=3))
    assert any("not enough seeds" in sentence.lower() for sentence in sentences)
    assert not any(re.search("better than|worse than|leads", sentence) for sentence in sentences)


def test_a_leader_that_is_not_alone_is_not_said_to_lead(six):
    board = six.boards[0]
    pairs = replace(board.pairs, p=np.ones_like(board.pairs.p))
    alone = replace(board, pairs=replace(board.pairs, p=np.full_like(board.pairs.p, 0.01)))
    [tied, *rest] = ["".join(sentence) for sentence in findings(replace(board, pairs=pairs))]
    assert "has the highest mean" in tied
    assert rest[0].startswith("It is not shown to differ from ")
    assert "leads in" in "".join(findings(alone)[0])


def test_a_method_alone_leads_nobody():
    assert said(small(methods=1))[0].startswith("equal is the only method; its Δ task is ")


def test_the_words_are_the_verdicts_of_the_data(six):
    for board in six.boards:
        [sentence] = [s for s in said(Report((board,), {})) if s.startswith("Against equal weights")]
        for row in board.rows:
            if row.vs_equal and row.method != "stl":
                part = re.search(f"{row.vs_equal.verdict}(?: \\(\\d+\\))?: ([^;]*)", sentence)[1]
                assert row.method in part


def test_the_bytes_are_the_same_in_a_fresh_process_with_another_hash_seed():
    code = (
        "import hashlib; from made_report import made_report; from bench.report.pages.html import page;"
        "print(hashlib.sha256(page(made_report(3, 1, 4))).hexdigest())"
    )
    here = Path(__file__).parent
    env = {"PYTHONPATH": f"{here}:{here.parent.parent}", "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout == hashlib.sha256(page(made_report(3, 1, 4))).hexdigest() + "\n"


def test_markdown_has_a_row_a_method_with_its_verdict(six):
    text = markdown(six).decode()
    assert text.count("| Place |") == len(six.boards)
    for line in (line for line in text.splitlines() if line.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", line)) == 9
    assert re.search(r"\| mgda\\\[at=features\\\] \|.*\| ▲ better \(p ", text)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_a_cell_of_the_text_tables(name):
    report = small(names=["equal", name, "third"])
    for line in (line for line in markdown(report).decode().splitlines() if line.startswith("|")):
        assert len(re.findall(r"(?<!\\)\|", line)) == 9
        assert not re.search(r"(?<!\\)[<>`](?=\S)", line)
    rows = [line for line in latex(report).decode().splitlines() if line.endswith(r"\\")]
    assert len(rows) == 5
    for row in rows:
        assert len(re.findall(r"(?<!\\)&", row)) == 7
        assert len(re.findall(r"(?<!\\)\$", row)) % 2 == 0


def test_a_page_carries_no_control_character_and_no_half_of_a_pair():
    text = page(small(names=["equal", "a\x1b[31m\x00\x9b\ud800b", "third"])).decode()
    assert not {c for c in text if unicodedata.category(c) in ("Cc", "Cs")} - {"\n"}
