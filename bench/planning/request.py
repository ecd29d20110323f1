"""What can be asked of `run`: one model, from which the options of the commands and of `bench.run` are derived.

An option's type, default, check, message and help stand here and nowhere else. `--config run.toml` is read here, too.
Importing this module imports no torch.
"""

import inspect
import operator
import textwrap
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from bench.plain import one_line
from bench.planning.seeds import Seeds, parse_seeds
from methods.core.names import UsageError, did_you_mean

Names = str | type | Sequence[str | type]
"""Variants in text, separated by commas; or several of them, and classes."""

MOST_TRIALS = 1000
POSITIONAL = 5
"""How many of the first options `bench.run` takes without their names."""


class OptionError(UsageError):
    """The value of one option is wrong."""

    def __init__(self, option: str, said: str) -> None:
        named = said.startswith(f"{option} ")  # as messages about seeds do, which other commands print, too
        super().__init__(said if named else f"--{_dashed(option)} {said}")
        self.option = option
        self.said = said.removeprefix(f"{option} ")


def path(text: str | Path) -> Path:
    """Return a path that somebody wrote, its tilde expanded: a shell leaves that of `--out=~/x` as it is.

    Raises:
        UsageError: the tilde names a user that does not exist.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageError(f"{text}: there is no such user: write the whole path") from None


def _option(default: Any, help: str, *, python: str = "", planning: bool = False) -> Any:
    """Declare an option.

    Args:
        default: its default.
        help: what the command line and the docstring of `bench.run` say of it.
        python: what only the docstring adds.
        planning: whether `plan` takes it, too.
    """
    return Field(default, description=help, json_schema_extra={"python": python, "planning": planning})


def _one_of(*known: str) -> AfterValidator:
    def check(value: str) -> str:
        if value not in known:
            raise ValueError(f"'{value}' is not offered{did_you_mean(value, known)}")
        return value

    return AfterValidator(check)


def _plain_seeds(seeds: Any) -> Any:
    """Turn numbers of any library, in any collection, into Python's."""
    try:
        if isinstance(seeds, Iterable) and not isinstance(seeds, str):
            return [operator.index(seed) for seed in seeds]
        return seeds if isinstance(seeds, str | bool) else operator.index(seeds)
    except TypeError:
        return seeds  # its type is refused next


def _known_seeds(seeds: Seeds) -> Seeds:
    parse_seeds(seeds)
    return seeds


def _at_least_one(devices: int) -> int:
    if devices < 1:
        raise ValueError(f"{devices}: a run needs at least one")
    return devices


def _how_many_trials(tuning: int | str) -> int | str:
    text = str(tuning)
    if text not in ("default", "none") and not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_TRIALS):
        raise ValueError(f"'{tuning}': write how many trials each contestant gets (1 to {MOST_TRIALS}), or none")
    return tuning


def _path_or_none(folder: str | Path | None) -> Path | None:
    return None if folder is None else path(folder)


def _steps_or_never(steps: int) -> int:
    if steps < 0:
        raise ValueError(f"{steps}: write a number of steps, or 0 for never")
    return steps


class Request(BaseModel):
    """What a user asks for: every option of `run`.

    Raises:
        UsageError: a value is wrong; says in one line which, and what would be right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    methods: Names = _option(
        "standard",
        "groups (standard, all, loss, gradient, distillation) or variants: a,b[x=1],path.py:Class",
        python="Also a class, or a list of classes and texts. Other processes import a class from its file; "
        "one without a file (of a notebook) needs the inline engine.",
        planning=True,
    )
    tasks: Names = _option(
        "all",
        "all (the embedded sets), or variants: t[x=1],path.py:Class",
        python="Also a class, or a list.",
        planning=True,
    )
    seeds: Annotated[Seeds, BeforeValidator(_plain_seeds), AfterValidator(_known_seeds)] = _option(
        8,
        "how many (8: 0 to 7), a range (100-107) or a list (3,5)",
        python="How many may be a number; a list holds the seeds themselves.",
        planning=True,
    )
    protocol: str = _option("quick", "the recipe that every method gets alike: quick, or quick[lr=0.1]", planning=True)
    out: Annotated[str | Path, AfterValidator(path)] = _option(
        "results/local", "the folder of records and pages", planning=True
    )
    reuse: Annotated[str | Path | None, AfterValidator(_path_or_none)] = _option(
        None, "another folder of records: what it has with the same key is copied, and not trained again"
    )
    precision: Annotated[str, _one_of("32-true", "bf16-mixed")] = _option(
        "32-true", "32-true or bf16-mixed", planning=True
    )
    accelerator: Annotated[str, _one_of("auto", "cpu", "cuda")] = _option("auto", "auto, cpu or cuda", planning=True)
    devices: Annotated[int, AfterValidator(_at_least_one)] = _option(
        1, "devices within one run (data parallel)", planning=True
    )
    tuning: Annotated[int | str, AfterValidator(_how_many_trials)] = _option(
        "default",
        "trials of learning rates for each contestant: how many, none, or what the protocol declares (quick: 7)",
        planning=True,
    )
    static_front: bool = _option(
        False,
        "also draw what fixed weights reach: 15 of them for 3 tasks, 30 beyond, on the first two seeds; they are "
        "tested against nobody",
        planning=True,
    )
    untuned: bool = _option(True, "also train at the protocol's own rate, as a last round", planning=True)
    retry: bool = _option(False, "repeat runs that crashed, ran out of memory or took too long", planning=True)
    engine: str = _option(
        "local",
        "local: isolated processes, local[workers=4,timeout=600]; dask: the workers of a cluster, "
        "dask[address=tcp://HOST:8786] or dask[jobqueue=slurm,workers=50,walltime=1h]; inline: in this process, for "
        "debuggers",
        planning=True,
    )
    workers: int | str | None = _option(
        None, "runs at once; auto, the default of the engine local: one per core, or per GPU", planning=True
    )
    timeout: float | None = _option(None, "seconds after which a run is killed; 3600, the default of the engine local")
    checkpoint_every: Annotated[int, AfterValidator(_steps_or_never)] = _option(
        0, "steps after which a run's state is kept, to go on from; 0: never"
    )
    figures: bool = _option(True, "draw the page's figures, a third of a second each")
    debug: bool = _option(False, "show tracebacks; raise a run's failure instead of recording it", planning=True)

    def __init__(self, **options: Any) -> None:
        try:
            super().__init__(**options)
        except ValidationError as problem:
            raise _in_words(problem) from None

    @model_validator(mode="after")
    def _go_together(self) -> "Request":
        if self.checkpoint_every and self.devices > 1:
            raise ValueError(
                f"--checkpoint-every works on one device, and --devices is {self.devices}: leave one of them out"
            )
        return self

    @property
    def budget(self) -> int | None:
        """How many trials each contestant gets; None: as many as the protocol declares."""
        return {"default": None, "none": 0}[str(self.tuning)] if not str(self.tuning).isdigit() else int(self.tuning)

    @property
    def folder(self) -> Path:
        """Where records and pages are."""
        return Path(self.out)


def read_request(given: Mapping[str, Any], config: Path | None = None) -> Request:
    """Return the request that a command line and a file make together; the command line wins.

    Args:
        given: the options that the command line names, with their values.
        config: a TOML file whose keys are options, with `-` or `_`.

    Raises:
        UsageError: a value is wrong, or the file has a key that is no option; names file and key.
    """
    written = _read(config) if config is not None else {}
    try:
        return Request(**{**written, **given})
    except OptionError as problem:
        if problem.option in written and problem.option not in given:
            raise UsageError(f"{config}: {_dashed(problem.option)} {problem.said}") from None
        raise


def signature(returns: Any, **more: inspect.Parameter) -> inspect.Signature:
    """Return the signature of a function that takes the options of a request, and `more` keywords."""
    parameters = [
        inspect.Parameter(
            name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD if number < POSITIONAL else inspect.Parameter.KEYWORD_ONLY,
            default=field.default,
            annotation=field.annotation,
        )
        for number, (name, field) in enumerate(Request.model_fields.items())
    ]
    return inspect.Signature([*parameters, *more.values()], return_annotation=returns)


def arguments() -> str:
    """Return the lines of a docstring that say what each option is."""
    lines = []
    for name, field in Request.model_fields.items():
        text = f"{name}: {field.description}. {_extra(name)['python']}"
        lines.append(textwrap.fill(text, 112, initial_indent=" " * 4, subsequent_indent=" " * 8))
    return "\n".join(lines)


def options(*, planning: bool = False) -> dict[str, tuple[Any, Any, str]]:
    """Return the type, default and help of each option on a command line, by name.

    Args:
        planning: only those that `plan` takes.
    """
    found: dict[str, tuple[Any, Any, str]] = {}
    for name, field in Request.model_fields.items():
        if planning and not _extra(name)["planning"]:
            continue
        kinds = get_args(field.annotation) or (field.annotation,)
        kind = next((text for text in (Path, str) if text in kinds), field.annotation)
        default = str(field.default) if kind is str else field.default
        found[name] = kind, default, field.description or ""
    return found


def _extra(name: str) -> Mapping[str, Any]:
    extra = Request.model_fields[name].json_schema_extra
    assert isinstance(extra, dict)
    return extra


def _dashed(option: str) -> str:
    return option.replace("_", "-")


def _read(config: Path) -> dict[str, Any]:
    """Read the options of a TOML file."""
    if not config.is_file():
        raise UsageError(f'--config {config}: there is no such file; it holds options, such as methods = "all"')
    try:
        found = tomllib.loads(config.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{config} is not TOML: {problem}") from None
    known = [_dashed(name) for name in Request.model_fields]
    options: dict[str, Any] = {}
    for key, value in found.items():
        name = _dashed(key)
        if isinstance(value, dict):
            raise UsageError(f'{config}: [{key}] begins a table: write options outside of tables, {known[0]} = "all"')
        if name not in known:
            raise UsageError(f"{config}: there is no option '{key}'{did_you_mean(name, known)}")
        if (option := name.replace("-", "_")) in options:
            raise UsageError(f"{config}: {name} is given twice, with - and with _")
        options[option] = value
    return options


WANTED = {
    "methods": "text, or a list of texts (in Python also classes)",
    "tasks": "text, or a list of texts (in Python also classes)",
    "seeds": "how many (8), text such as '100-107', or a list of whole numbers",
    "workers": "auto, or how many",
    "tuning": "how many trials each contestant gets, or none",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}
"""What an option or a type takes, in words; anything else takes text."""


def _in_words(problem: ValidationError) -> UsageError:
    """Return the first thing that is wrong, as a user should read it."""
    error = problem.errors()[0]
    if error["type"] == "value_error":
        said = str(error["ctx"]["error"])
        return OptionError(str(error["loc"][0]), said) if error["loc"] else UsageError(said)
    option = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return UsageError(f"there is no option '{option}'{did_you_mean(option, Request.model_fields)}")
    kinds = {Request.model_fields[option].annotation, *get_args(Request.model_fields[option].annotation)}
    wanted = WANTED.get(option) or next((words for kind, words in WANTED.items() if kind in kinds), "text")
    return OptionError(option, f"{one_line(repr(error['input']), 80)}: write {wanted}")
