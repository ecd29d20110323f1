"""Records and choices → the table of scores: runs at the chosen rates, and beside them those at the protocol's own."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

from bench.records import REFERENCE, RunRecord
from bench.report.scores import Run, Scores, average_of, distinct, from_records, light, make_run, named, suffix
from bench.spec import STL
from bench.store import Store
from bench.tuning.choose import Choice
from tasks.core.protocol import TRIALS, Protocol

Question = tuple[str, str, str, int, tuple[int, ...]]
"""What a board answers: task set, protocol as it was asked for, precision, budget of trials, tuning seeds."""


def from_store(store: Store) -> Scores:
    """Make the table of a folder's records, which are read through its choices."""
    return from_records_and_choices(store.each(light), store.choices().values(), store.replaced())


def from_records_and_choices(
    records: Iterable[RunRecord], choices: Iterable[Choice], replaced: Iterable[Choice] = ()
) -> Scores:
    """Make the table of tuned runs; runs of protocols under which nothing was chosen are in it as they are.

    A run belongs to a tuned board if its contestant's choice says so: the chosen rate and options, and a seed that was
    not tuned on. A point of a reference curve belongs to it at the rate of equal weights, if its variant was named by
    nobody. What a run reads (the networks that it distils, say) has to belong to the same board, so that a student
    of untuned teachers is not taken for one of tuned teachers. A run with options that trials chose is no run at the
    protocol's own rate, even where the chosen rate is that one, unless somebody asked for these options. A run may be
    that of two contestants, if trials chose for one the options that the other has. Trials are kept apart, and runs
    that were trained as a choice said which another one has replaced are left out.
    """
    everything = sorted(records, key=lambda record: record.name)
    asked: dict[Question, list[Choice]] = defaultdict(list)
    for choice in sorted(choices, key=lambda choice: choice.name):
        asked[_question(choice)].append(choice)
    if not asked:
        return from_records(record for record in everything if record.provenance.role != "trial")
    by_set: dict[str, list[RunRecord]] = defaultdict(list)
    by_name = {record.name: record for record in everything}
    for record in everything:
        by_set[record.spec.task_set].append(record)
    everyone = [choice for own in asked.values() for choice in own]
    drawn = {(c.task_set, c.precision, c.variant) for c in everyone if c.options}
    drawn -= {(c.task_set, c.precision, c.method) for c in everyone}
    often = Counter(_label(question, own[0]) for question, own in asked.items())
    boards = []
    for question, own in sorted(asked.items(), key=lambda pair: pair[0]):
        label = _label(question, own[0])
        parts = [str(part) for part in question]
        label = distinct(label, own[0].task_set_label, parts, taken=often[label] > 1)
        there = [r for r in by_set[question[0]] if r.spec.precision == question[2]]
        as_asked = [r for r in there if (question[0], question[2], r.spec.method) not in drawn]
        boards.append(_board(question, own, label, there, as_asked, by_name))
    claimed = {run.name for board in boards for runs in board for run in runs}
    claimed |= {attempt.run for choice in everyone for attempt in choice.attempts}
    claimed |= _nobodys(everything, replaced, everyone)
    own_rates = {(task_set, protocol, precision) for task_set, protocol, precision, *_ in asked}
    rest = (r for r in everything if r.name not in claimed and r.provenance.role != "trial")
    others = (r for r in rest if (r.spec.task_set, _text(r.spec.protocol), r.spec.precision) not in own_rates)
    plain = from_records(_compared(others)).runs
    tuned, untuned, trials = (tuple(run for board in boards for run in board[i]) for i in range(3))
    return Scores((*tuned, *plain), tuple(everyone), Scores(untuned), trials)


def _board(
    question: Question,
    choices: Sequence[Choice],
    label: str,
    there: Sequence[RunRecord],
    as_asked: Sequence[RunRecord],
    by_name: Mapping[str, RunRecord],
) -> tuple[list[Run], list[Run], list[Run]]:
    """Return one board's runs at the chosen rates, those at the protocol's own, and its trials.

    Args:
        question: what the board answers.
        choices: of its contestants.
        label: what it is called.
        there: the records of its task set.
        as_asked: those of them whose options somebody asked for.
        by_name: all records.
    """
    _, protocol, _, _, seeds = question
    suite = _suffix(question, choices[0])
    trained: dict[tuple[str, tuple[str, ...], str], list[Choice]] = defaultdict(list)
    for choice in choices:
        trained[_trained_as(choice)].append(choice)
    compared = named(there) | {method for choice in choices for method in (choice.method, choice.variant)}
    front = {_text(choice.chosen) for choice in choices if choice.method == REFERENCE}
    at_choice = _closed(r for r in there if _trained(r) in trained)
    at_own = _closed(r for r in as_asked if r.spec.method in compared and _text(r.spec.protocol) == protocol)
    points = [r for r in there if r.spec.method not in compared and _text(r.spec.protocol) in front]
    at_choice, at_own, points = (
        [r for r in found if r.spec.seed not in seeds] for found in (at_choice, at_own, points)
    )
    called = _called({r.spec.method: r.method_label for r in at_own} | {c.method: c.method_label for c in choices})
    tuned, untuned, trials = [], [], []
    for record in at_choice:
        other = average_of(record, by_name)
        of = called(trained[_trained(other)][0].method) if other is not None else ""
        for choice in trained[_trained(record)]:
            tuned.append(make_run(record, label, called(choice.method), suite, choice, of=of))
    for record in at_own:
        other = average_of(record, by_name)
        of = called(other.spec.method) if other is not None else ""
        untuned.append(make_run(record, label, called(record.spec.method), suite, of=of))
    tuned += [make_run(record, label, record.method_label, suite, role="reference") for record in points]
    for choice in choices:
        tried = [by_name[attempt.run] for attempt in choice.attempts if attempt.run in by_name]
        trials += [make_run(record, label, called(choice.method), suite, choice, "trial") for record in tried]
    return tuned, untuned, trials


def _question(choice: Choice) -> Question:
    return choice.task_set, _text(choice.protocol), choice.precision, choice.budget, choice.seeds


def _trained_as(choice: Choice) -> tuple[str, tuple[str, ...], str]:
    """What the runs of a choice are trained as: variant, tasks and protocol."""
    return choice.variant, choice.tasks, _text(choice.chosen)


def _trained(record: RunRecord) -> tuple[str, tuple[str, ...], str]:
    """What a run was trained as."""
    return record.spec.method, record.spec.tasks, _text(record.spec.protocol)


def _label(question: Question, choice: Choice) -> str:
    """What to call a task set under the question's protocol."""
    return choice.task_set_label + _suffix(question, choice)


def _suffix(question: Question, choice: Choice) -> str:
    budget = "" if question[3] == TRIALS else f"@tuning={question[3]}"
    return suffix(choice.protocol_label, choice.precision) + budget


def _called(labels: Mapping[str, str]) -> Callable[[str], str]:
    """Return what names each method: its label, or in full where two have one label."""
    often = Counter(labels.values())
    return lambda method: labels[method] if often[labels[method]] == 1 else method


def _closed(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Return the records that read no run but those that are returned."""
    kept = {record.name: record for record in records}
    while gone := [name for name, record in kept.items() if not record.parts.upstream.keys() <= kept.keys()]:
        for name in gone:
            del kept[name]
    return list(kept.values())


def _nobodys(records: Iterable[RunRecord], replaced: Iterable[Choice], choices: Iterable[Choice]) -> set[str]:
    """Return the names of runs that were trained as a replaced choice said, and of those that read them."""

    def trained(found: Iterable[Choice]) -> set[tuple[object, ...]]:
        return {(choice.task_set, choice.precision, *_trained_as(choice)) for choice in found}

    records = list(records)
    former = trained(replaced) - trained(choices)
    names = {r.name for r in records if (r.spec.task_set, r.spec.precision, *_trained(r)) in former}
    while more := {r.name for r in records if r.name not in names and names & r.parts.upstream.keys()}:
        names |= more
    return names


def _compared(records: Iterable[RunRecord]) -> list[RunRecord]:
    """Leave out what nothing is compared with: another board's single-task networks, points of a curve alone."""
    groups: dict[tuple[str, str, str], list[RunRecord]] = defaultdict(list)
    for record in records:
        groups[record.spec.task_set, _text(record.spec.protocol), record.spec.precision].append(record)
    return [r for own in groups.values() if named(own) - {STL} for r in own]


@cache
def _text(protocol: Protocol) -> str:
    """A protocol as text: records have few different ones."""
    return protocol.model_dump_json()
