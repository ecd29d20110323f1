"""The page of the speed benchmarks, of sessions that are made up, and what is kept of the real ones."""

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest
from page import main, page, read

KEPT = Path(__file__).parent.parent / "results" / "benchmarks"
HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    'a" onmouseover="alert(1)" x="',
    "{{ 7*7 }} {% x %}",
    "$x^2$ _y ‮gnihtyna",
    "x" * 300,
]


def benchmark(group, name, stats, params=None, **extra):
    return {"group": group, "name": name, "params": params, "extra_info": extra, "stats": stats}


def session(name="mgda", day=1, times=2.0):
    """A session in which this is the name of all that has one."""
    stats = {"min": 0.01, "median": 0.02, "rounds": 5}
    counted = {"mtl-bench": {"forward": 1, "heads": 3, "trunk": 2, "teacher": 0}}
    steps = [
        benchmark(name, name, stats, {"network": name, "method": method, "library": library}, **found)
        for method in ("equal", name)
        for library in ("mtl-bench", name)
        for found in [{"times_equal": times, "low": 0.9 * times, "high": 1.1 * times, **counted.get(library, {})}]
    ]
    solvers = [
        benchmark(name, name, stats, {"problem": name, "library": library, "tasks": tasks}, gap=1e-3)
        for library in ("mtl-bench", name)
        for tasks in (2, 40)
    ]
    return {
        "datetime": f"2026-01-{day:02}T12:00:00+00:00",
        "commit_info": {"id": name, "dirty": True},
        "machine_info": {**dict.fromkeys(("processor", "cores", "machine", "system"), name), "versions": {name: name}},
        "benchmarks": [*steps, *solvers, benchmark(name, name, stats)],
    }


def stored(folder, *sessions):
    """As pytest-benchmark stores them, under a folder for each kind of machine."""
    for place, one in enumerate(sessions):
        file = folder / f"machine{place}" / f"000{place}.json"
        file.parent.mkdir()
        file.write_text(json.dumps(one))
    return folder


class Seen(HTMLParser):
    """The tags, the names of their attributes, and the text of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, sorted(name for name, _ in attrs)))

    def handle_data(self, data):
        self.text += data


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_text_and_nothing_else(tmp_path, name):
    def seen(text, folder):
        folder.mkdir()
        return Seen(page(read(stored(folder, session(text, 1), session(text, 2)))).decode())

    alike = ("a" if name < "equal" else "z") * len(name)  # a long name has a title, and rows have the order of names
    hostile, plain = seen(name, tmp_path / "hostile"), seen(alike, tmp_path / "plain")
    assert [tag for tag, _ in plain.tags].count("figure") == 3
    assert hostile.tags == plain.tags
    assert hostile.text.count(name) > 10


def test_it_asks_for_nothing_and_runs_nothing(tmp_path):
    text = unescape(page(read(stored(tmp_path, session(), session(day=2)))).decode())
    assert "default-src 'none'" in text
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|(?:href|src)=\"(?!#)", text)


def test_a_ratio_is_beside_the_other_librarys(tmp_path):
    text = page(read(stored(tmp_path, session("TorchJD", times=3.25)))).decode()
    assert re.search(r"<bdi>equal</bdi></th><td>3\.25 \(2\.9\d–3\.5\d\)</td><td>3\.25 ", text)


def test_the_passes_of_ours_are_in_the_table(tmp_path):
    text = page(read(stored(tmp_path, session()))).decode()
    assert re.search(r"<bdi>equal</bdi></th>(<td>[^<]*</td>)+<td>1 \+ 3 \+ 2</td></tr>", text)


def test_one_session_has_no_history(tmp_path):
    assert b"Over sessions" not in page(read(stored(tmp_path, session())))


def test_two_sessions_have_one_in_their_order_whatever_their_files_are_called(tmp_path):
    text = page(read(stored(tmp_path, session(day=9, times=4.5), session(day=3, times=1.5)))).decode()
    [table] = re.findall(r"<caption>History on mgda</caption>.*?</table>", text, re.S)
    assert re.findall(r">(mgda\+ 2026-[-\d]+)<", table) == ["mgda+ 2026-01-03", "mgda+ 2026-01-09"]
    assert re.findall(r"<td>(.*?)</td>", table)[:2] == ["1.50", "4.50"]
    assert "latest session (2026-01-09 12:00 UTC" in text


def test_made_again_it_is_the_same_bytes(tmp_path):
    stored(tmp_path, session(), session(day=2))
    main([str(tmp_path)])
    first = (tmp_path / "index.html").read_bytes()
    main([str(tmp_path)])
    assert (tmp_path / "index.html").read_bytes() == first


def refusal(folder):
    """The one line by which no page is made."""
    with pytest.raises(SystemExit) as refused:
        main([str(folder)])
    assert not (folder / "index.html").exists()
    assert "\n" not in refused.value.code
    return refused.value.code


def test_an_empty_folder_is_called_so(tmp_path):
    assert refusal(tmp_path).endswith("has no session of benchmarks: `tox -e bench` adds one")


def test_what_was_found_on_a_gpu_is_not_taken_for_a_session(tmp_path):
    (stored(tmp_path, session()) / "gpu").mkdir()
    (tmp_path / "gpu" / "figures.json").write_text("{}")
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", json.dumps({**session(), "benchmarks": [{}]})])
def test_a_file_that_is_no_session_is_named(tmp_path, content):
    (tmp_path / "0001.json").write_text(content)
    assert re.search(r"0001\.json is no session of benchmarks \(.+\)$", refusal(tmp_path))


def test_the_page_that_is_kept_is_of_the_latest_session_that_is_kept():
    latest = read(KEPT)[-1]
    assert f"({latest.datetime:%Y-%m-%d %H:%M} UTC, commit <bdi>{latest.commit_info}</bdi>)" in (
        KEPT / "index.html"
    ).read_text("utf-8")


def test_what_is_kept_names_no_host_no_user_and_no_folder():
    files = [file for file in KEPT.rglob("*.json") if file.parent.name != "gpu"]
    assert files
    for file in files:
        kept = json.loads(file.read_bytes())
        assert kept["machine_info"].keys() == {"processor", "cores", "machine", "system", "versions"}
        assert kept["commit_info"].keys() == {"id", "dirty"}
        assert not re.search(r'"/|/home/|/tmp/|/root/|\\\\(?!u[0-9a-f]{4})', file.read_text())
        assert file.stat().st_size < 400_000
