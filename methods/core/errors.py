"""The errors that a method raises in a training loop."""


class DivergedError(RuntimeError):
    """A loss, a task's gradient, its weight or the update is not finite. The message names the step and the task."""

    def __init__(self, what: str, task: int | None, step: int, hint: str = "") -> None:
        super().__init__(what, task, step, hint)
        self.what, self.task, self.step, self.hint = what, task, step, hint

    def __str__(self) -> str:
        whose = "" if self.task is None else f" of task {self.task}"
        return f"the {self.what}{whose} is not finite at step {self.step}{self.hint}"


class DoesNotFitError(ValueError):
    """The rule cannot work on this network or number of tasks. The message says what it would need."""
