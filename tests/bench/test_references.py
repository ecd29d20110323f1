"""Each rule's papers: `methods/references.bib`, and how it is printed."""

import re

import pytest

import methods
from bench import cli
from bench.listing import bibliography, rules_of

CONTROLS = {"unit"}
"""Rules of no paper, which stand beside those of papers."""
TEXT = (methods.registry.folder / "references.bib").read_text("ascii")


def parsed(text):
    """Each entry by its key: its kind, and its fields by name. Anything that is not BibTeX of a plain kind fails."""
    found, rest = {}, re.sub(r"^%.*\n", "", text, flags=re.MULTILINE).lstrip()
    while rest:
        head = re.match(r"@(\w+)\{(\w+),\s*", rest)
        assert head, rest[:80]
        rest, fields = rest[head.end() :], {}
        while not rest.startswith("}"):
            start = re.match(r"(\w+)\s*=\s*\{", rest)
            assert start, rest[:80]
            depth, end = 1, start.end()
            while depth:
                depth += {"{": 1, "}": -1}.get(rest[end], 0)
                end += 1
            assert start[1] not in fields, start[1]
            fields[start[1]] = " ".join(rest[start.end() : end - 1].split())
            comma = re.match(r"\s*,\s*", rest[end:])
            assert comma, rest[end : end + 80]
            rest = rest[end + comma.end() :]
        assert head[2] not in found, head[2]
        found[head[2]] = (head[1], fields)
        rest = rest[1:].lstrip()
    return found


ENTRIES = parsed(TEXT)
VENUE = {"inproceedings": "booktitle", "article": "journal", "misc": "eprint"}


@pytest.mark.parametrize("key", ENTRIES)
def test_an_entry_says_who_what_where_and_when(key):
    kind, fields = ENTRIES[key]
    assert {"title", "author", "year", VENUE[kind]} <= fields.keys()
    names = fields["author"].split(" and ")
    assert all(re.fullmatch(r"[^,]+, [^,]+", name) for name in names)
    assert re.fullmatch(r"(19|20)\d\d", fields["year"])
    assert ("eprint" in fields) == (fields.get("archiveprefix") == "arXiv")
    assert re.fullmatch(r"\d{4}\.\d{5}", fields.get("eprint", "0000.00000"))
    first = re.sub(r"\{\\.(\w)\}|\W", r"\1", names[0].split(",")[0]).lower()
    assert key.startswith(f"{first}{fields['year']}")


def test_no_paper_is_there_twice():
    titles = [fields["title"].lower() for _, fields in ENTRIES.values()]
    assert len(set(titles)) == len(titles) > 30


def test_every_built_in_rule_has_an_entry_and_no_other_is_named():
    named = {rule for _, fields in ENTRIES.values() for rule in fields["rules"].split(", ")}
    assert named == methods.registry.built_in().keys() - CONTROLS


def test_a_rule_whose_docstring_names_a_paper_has_an_entry_of_that_year_or_number():
    for name, entry in methods.registry.built_in().items():
        text = " ".join((entry.load().__doc__ or "").split())
        if not (paper := re.search(r"Paper: (.*?)(?<!\bal)\. ", text)):
            continue
        said = set(re.findall(r"\d{4}\.\d{5}|\b(?:19|20)\d\d\b", paper[1]))
        own = [fields for _, fields in ENTRIES.values() if name in fields["rules"].split(", ")]
        known = {fields["year"] for fields in own} | {fields.get("eprint") for fields in own}
        assert said & known, (name, said, known)


def shown(capsys, *line):
    with pytest.raises(SystemExit) as caught:
        cli.main(["list", *line, "--bibtex"])
    done = capsys.readouterr()
    return caught.value.code, done.out, done.err


def test_all_entries_are_printed_as_the_file_has_them(capsys):
    code, out, _ = shown(capsys, "methods")
    assert not code
    assert out == TEXT[TEXT.index("@") :]
    assert parsed(out) == ENTRIES


@pytest.mark.parametrize(("name", "keys"), [("mgda", ["desideri2012multiple", "sener2018multi"]), ("rgw", None)])
def test_a_method_that_is_named_has_its_own_entries_printed(capsys, name, keys):
    code, out, _ = shown(capsys, "methods", name)
    assert not code
    expected = [key for key, (_, fields) in ENTRIES.items() if name in fields["rules"].split(", ")]
    assert list(parsed(out)) == expected == (keys or expected) != []


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (["methods", "mdga"], "unknown method 'mdga': did you mean 'mgda'?"),
        (["tasks"], "--bibtex is for list methods"),
        (["methods", "--json"], "--bibtex is for list methods, without --json"),
    ],
)
def test_what_has_no_entries_is_refused_in_a_line(capsys, line, says):
    code, out, err = shown(capsys, *line)
    assert (code, out) == (2, "")
    assert says in err


def test_a_method_of_no_paper_is_told(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from methods import Method\nclass Mine(Method):\n def weigh(self, losses): ...\n"
    )
    with pytest.raises(methods.UsageError, match=r"there is no reference for the method '.*mine\.py:Mine'"):
        bibliography(f"{tmp_path}/mine.py:Mine")


def test_the_printing_imports_no_torch(command, without_torch, tmp_path):
    done = command("list", "methods", "uwo", "--bibtex", cwd=tmp_path, env=without_torch)
    assert done.returncode == 0, done.stderr
    assert rules_of(done.stdout) == ["uwo", "uwso"]
