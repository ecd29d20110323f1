"""The choices that the package ships: of the built-in rules on the embedded sets, made by `python -m bench tune`."""

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from bench.tuning.choose import Choice
from tasks.core.errors import DataError

FILE = Path(__file__).resolve().parents[2] / "results" / "tuning" / "choices.json"
"""Where they are. The folder is not looked for as a package, which a `results.py` of somebody's would hide."""
_LIST = TypeAdapter(list[Choice])


def shipped_choices() -> dict[str, Choice]:
    """Return the choices in `results/tuning`, by name.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        return {choice.name: choice for choice in _LIST.validate_json(FILE.read_bytes())}
    except FileNotFoundError:
        return {}
    except (OSError, ValidationError) as problem:
        raise DataError(f"the shipped choices of learning rates cannot be read: {problem}") from problem


def as_text(choices: list[Choice]) -> bytes:
    """Write choices as the file holds them: a line each, in the order of task sets and contestants."""
    ordered = sorted(choices, key=lambda c: (c.task_set, c.protocol_label, c.method != "stl", c.method, c.tasks))
    lines = ",\n".join(choice.model_dump_json() for choice in ordered)
    return f"[\n{lines}\n]\n".encode()
