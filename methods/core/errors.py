"""What a method refuses, and how it says so."""


class DivergedError(RuntimeError):
    """A loss, a task's gradient, its weight or the update is not finite; says at which step, and of which task."""

    def __init__(self, what: str, task: int | None, step: int, hint: str = "") -> None:
        super().__init__(what, task, step, hint)
        self.what, self.task, self.step, self.hint = what, task, step, hint

    def __str__(self) -> str:
        whose = "" if self.task is None else f" of task {self.task}"
        return f"the {self.what}{whose} is not finite at step {self.step}{self.hint}"


class DoesNotFitError(ValueError):
    """The rule cannot work on this network or number of tasks; says what it would need."""
