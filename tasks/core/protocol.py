"""The recipe that every method gets alike."""

from typing import Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, model_validator

TRIALS = 7


class Protocol(BaseModel):
    """Steps, batch, optimiser and schedule of a run, what it is trained on, and what is reported of it."""

    # The names of records hash these fields. A field that was added later is left out while it has its default.
    model_config = ConfigDict(frozen=True, extra="forbid", serialize_by_alias=True)

    name: str
    steps: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0)
    steps_per_epoch: int = Field(
        ge=1, validation_alias=AliasChoices("steps_per_epoch", "epoch_steps"), serialization_alias="epoch_steps"
    )
    """The number of steps in an epoch, for rules that look at epochs."""
    points: int = Field(default=10, ge=1, le=20)
    """At how many evenly spaced steps the validation split is scored and diagnostics are taken."""
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: float = Field(default=0.0, ge=0, lt=1, exclude_if=lambda value: value == 0)
    """The momentum of the optimiser "sgd"."""
    weight_decay: float = Field(default=0.0, ge=0)
    schedule: Literal["cosine", "constant", "halving"] = "cosine"
    """"cosine" anneals the learning rate to zero at the last step; "halving" halves it every so many epochs."""
    halve_every: int = Field(default=0, ge=0, exclude_if=lambda epochs: epochs == 0)
    """After how many epochs the schedule "halving" halves the learning rate, each time."""
    validation: bool = Field(default=True, exclude_if=lambda held_out: held_out)
    """Whether there is a validation split. Without one its examples are trained on, too, and nothing is chosen."""
    augment: bool = Field(default=False, exclude_if=lambda augments: not augments)
    """Whether training batches are changed at random, as the task set declares."""
    average_last: int = Field(default=1, ge=1, exclude_if=lambda epochs: epochs == 1)
    """What is reported is the mean of the test scores at the ends of so many last epochs: of 1, those after the last
    step."""
    threads: int = Field(default=1, ge=1)
    tuning: int | None = Field(default=None, ge=0, exclude=True)
    """How many trials each contestant gets by default. None: seven of `quick` and `standard`, of others none. It says
    nothing of how a run is trained, and is no part of its record."""

    @property
    def trials(self) -> int:
        """How many trials each contestant gets by default."""
        if self.tuning is not None:
            return self.tuning
        return TRIALS if self.name in ("quick", "standard") else 0

    @model_validator(mode="after")
    def _momentum_is_for_sgd(self) -> "Protocol":
        if self.momentum and self.optimizer != "sgd":
            raise ValueError(f"momentum={self.momentum:g} is for optimizer=sgd, not for {self.optimizer}")
        return self

    @model_validator(mode="after")
    def _epochs_fit(self) -> "Protocol":
        if (self.schedule == "halving") != (self.halve_every > 0):
            raise ValueError(
                f"halve_every={self.halve_every} with schedule={self.schedule}: schedule=halving needs a number of "
                "epochs above 0 there, and no other schedule takes one"
            )
        if (self.average_last - 1) * self.steps_per_epoch >= self.steps:
            raise ValueError(
                f"average_last={self.average_last}: the last {self.average_last} epochs of {self.steps_per_epoch} "
                f"steps are more than the {self.steps} steps of a run"
            )
        return self
