"""A run's name is the hash of what was asked; its key that of all that its numbers depend on."""

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from bench.records import KeyParts, RunRecord
from bench.spec import PASSES, Cost, Point, Result, RunSpec, Score, digest
from tasks.core.protocol import Protocol

PARTS = {
    "data": "d",
    "threads": 1,
    "device": "cpu",
    "versions": {"torch": "2.0", "numpy": "2.1"},
    "upstream": {"teacher": "k"},
    "sources": {"bench.training": "s", "methods.mgda": "m"},
}
PROTOCOL = {"name": "p", "steps": 10, "batch_size": 4, "lr": 0.1, "steps_per_epoch": 5}


def spec(protocol=(), **changed):
    given = {"task_set": "toy", "tasks": ("a", "b"), "method": "mgda", "seed": 3}
    return RunSpec(**{**given, "protocol": Protocol(**{**PROTOCOL, **dict(protocol)}), **changed})


CHANGES = [
    {"task_set": "toy[x=1]"},
    {"tasks": ("b", "a")},
    {"tasks": ("a",)},
    {"method": "mgda[at=features]"},
    {"seed": 4},
    {"precision": "bf16-mixed"},
    {"schema_version": 99},
    *({"protocol": {name: value}} for name, value in [
        *[("name", "q"), ("steps", 11), ("batch_size", 5), ("lr", 0.2), ("steps_per_epoch", 4)],
        *[("points", 9), ("weight_decay", 0.1), ("schedule", "constant"), ("threads", 2)],
    ]),
]  # fmt: skip


@pytest.mark.parametrize("changed", CHANGES, ids=str)
def test_a_name_changes_with_each_part_of_the_spec(changed):
    assert spec(**changed).name != spec().name


def test_a_hash_is_the_same_in_any_process_and_whatever_the_order_of_keys():
    assert spec().name == spec().name
    assert (
        digest({"a": 1, "b": [1.5, None, "ü"]})
        == digest(
            {"b": [1.5, None, "ü"], "a": 1},
        )
        == "83e0cdbb3c7619b94509"
    )


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("data", "e"),
        ("threads", 2),
        ("device", "cuda"),
        ("versions", {"torch": "2.1", "numpy": "2.1"}),
        ("upstream", {"teacher": "l"}),
        ("upstream", {}),
        ("sources", {"bench.training": "s", "methods.mgda": "n"}),
        ("sources", {"bench.training": "s"}),
    ],
)
def test_a_key_changes_with_each_of_its_parts_and_the_name_does_not(part, value):
    assert KeyParts(**{**PARTS, part: value}).key("n") != KeyParts(**PARTS).key("n")


def test_a_key_changes_with_the_name():
    assert KeyParts(**PARTS).key("n") != KeyParts(**PARTS).key("m")


@pytest.mark.parametrize(
    ("part", "value", "said"),
    [
        ("data", "e", ["the data"]),
        ("threads", 2, ["the number of threads"]),
        ("device", "cuda", ["the device"]),
        ("versions", {"torch": "2.1", "numpy": "2.1"}, ["torch"]),
        ("upstream", {"teacher": "l"}, ["its baseline teacher"]),
        ("sources", {"bench.training": "s"}, ["the code of methods.mgda"]),
        (
            "sources",
            {"bench.training": "t", "methods.mgda": "n"},
            ["the code of bench.training", "the code of methods.mgda"],
        ),
    ],
)
def test_differences_are_named(part, value, said):
    assert KeyParts(**PARTS).differences(KeyParts(**{**PARTS, part: value})) == said
    assert KeyParts(**{**PARTS, part: value}).differences(KeyParts(**PARTS)) == said


def test_equal_parts_do_not_differ():
    assert KeyParts(**PARTS).differences(KeyParts(**PARTS)) == []


def test_a_spec_and_a_record_are_frozen_and_take_no_unknown_field(made):
    with pytest.raises(ValidationError, match="frozen"):
        spec().seed = 5
    with pytest.raises(ValidationError, match="Extra inputs"):
        RunSpec.model_validate({**spec().model_dump(), "colour": "red"})
    with pytest.raises(ValidationError, match="frozen"):
        made().key = "x"


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"steps_per_epoch": 0},
        {"points": 0},
        {"points": 21},
        {"threads": 0},
    ],
)
def test_an_impossible_protocol_is_refused(wrong):
    with pytest.raises(ValidationError):
        spec(protocol=wrong)


numbers = st.floats() | st.none()
cells = st.dictionaries(st.text(max_size=5), numbers, max_size=3)
scores = st.builds(Score, value=numbers, higher_is_better=st.booleans(), untrained=st.floats(-1e9, 1e9))
points = st.builds(
    Point,
    step=st.integers(1, 1000),
    losses=cells,
    validation=st.dictionaries(st.text(max_size=5), cells, max_size=2),
    weights=cells | st.none(),
    gradient_norms=cells | st.none(),
    cosines=st.lists(st.lists(numbers, max_size=2), max_size=2) | st.none(),
    update_ratio=numbers,
)
results = st.builds(
    Result,
    status=st.sampled_from(["ok", "diverged", "crashed", "skipped"]),
    reason=st.text(max_size=20),
    scores=st.dictionaries(
        st.text(max_size=5),
        st.dictionaries(st.text(max_size=5), scores, max_size=2),
        max_size=2,
    ),
    points=st.lists(points, max_size=2),
)
costs = st.builds(
    Cost,
    step_seconds=numbers,
    passes=st.just({}) | st.fixed_dictionaries(dict.fromkeys(PASSES, st.floats(0, 9))),
)


def refuse(name):
    raise AssertionError(f"{name} is no JSON")


def without_nan(value):
    """What a reader may expect of a number that is not finite: nothing."""
    if isinstance(value, dict):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@settings(max_examples=40, deadline=None)
@given(result=results, cost=costs)
def test_a_record_is_json_without_nan_and_reads_back_the_same(made, result, cost):
    record = made().model_copy(update={"result": result, "cost": cost})
    text = record.model_dump_json(indent=1)
    json.loads(text, parse_constant=refuse)
    back = RunRecord.model_validate_json(text)
    assert back.model_dump(mode="json") == without_nan(record.model_dump(mode="json"))


def test_an_untrained_score_that_is_not_finite_cannot_make_a_record_that_cannot_be_read():
    """Whether it is refused at once or kept as nothing: what was written must be readable."""
    try:
        score = Score(value=0.5, higher_is_better=True, untrained=float("nan"))
    except ValidationError:
        return
    Score.model_validate_json(score.model_dump_json())


def test_a_hash_of_nan_is_refused():
    with pytest.raises(ValueError, match="JSON"):
        digest({"lr": float("nan")})
