"""Protocols: what is hashed stays as it was first written, and what does not go together is refused."""

import pytest
from pydantic import Field, ValidationError

from tasks.core.protocol import Protocol

GIVEN = {"name": "quick", "steps": 400, "batch_size": 64, "lr": 5e-3, "steps_per_epoch": 40}


def test_what_is_written_has_the_fields_and_the_names_that_it_first_had():
    """The names of all stored runs hash this."""
    assert Protocol(**GIVEN).model_dump(mode="json") == {
        **{"name": "quick", "steps": 400, "batch_size": 64, "lr": 0.005, "epoch_steps": 40},
        **{"points": 10, "optimizer": "adam", "weight_decay": 0.0, "schedule": "cosine", "threads": 1},
    }


def test_a_field_that_was_added_is_written_where_it_differs_from_its_default():
    sgd = Protocol(**GIVEN, optimizer="sgd", momentum=0.9)
    assert sgd.model_dump(mode="json")["momentum"] == 0.9
    changed = {"schedule": "halving", "halve_every": 3, "validation": False, "augment": True, "average_last": 2}
    assert Protocol(**GIVEN, **changed).model_dump(mode="json").items() >= changed.items()


def test_a_field_that_will_be_added_changes_nothing_that_is_written_by_default():
    class Later(Protocol):
        warmup: int = Field(default=0, exclude_if=lambda value: value == 0)

    assert Later(**GIVEN).model_dump(mode="json") == Protocol(**GIVEN).model_dump(mode="json")
    assert Later(**GIVEN, warmup=5).model_dump(mode="json")["warmup"] == 5


def test_what_is_written_is_read_again():
    for more in (
        {},
        {"optimizer": "sgd", "momentum": 0.5},
        {"schedule": "constant", "weight_decay": 0.1},
        {"validation": False},
    ):
        protocol = Protocol(**GIVEN, **more)
        assert Protocol.model_validate(protocol.model_dump(mode="json")) == protocol


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"momentum": 0.9}, "momentum=0.9 is for optimizer=sgd, not for adam"),
        ({"optimizer": "adamw", "momentum": 0.9}, "not for adamw"),
        ({"optimizer": "sgd", "momentum": 1.0}, "less than 1"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"lr": 0.0}, "greater than 0"),
        ({"schedule": "halving"}, "schedule=halving needs a number of epochs above 0"),
        ({"schedule": "constant", "halve_every": 5}, "no other schedule takes one"),
        ({"average_last": 11}, "the last 11 epochs of 40 steps are more than the 400 steps"),
        ({"average_last": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_go_together_is_refused(wrong, says):
    with pytest.raises(ValidationError, match=says):
        Protocol(**{**GIVEN, **wrong})
