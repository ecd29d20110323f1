"""A plan says which runs a request needs, in which order, and why each is or is not there already."""

import re
import subprocess
import sys
import time
from collections import Counter
from importlib.metadata import EntryPoint

import pytest

import methods
from bench.planning.plan import LIBRARIES, make_plan
from bench.planning.request import Request
from bench.planning.seeds import parse_seeds
from bench.records import RunRecord
from bench.spec import STL, Result
from bench.store import Store
from methods.core import registry
from methods.core.names import UsageError
from methods.core.options import REQUIRED
from methods.core.registry import Registry

ASKED = {"methods": "mgda", "tasks": "scales[tasks=2]", "seeds": "1", "protocol": "smoke", "accelerator": "cpu"}


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


@pytest.fixture
def plan(store):
    def make(**changed):
        return make_plan(Request(**{**ASKED, **changed}), store)

    return make


@pytest.fixture
def fulfil(store, made):
    """Put a planned run into the store as if it had been made, with this status or this key's parts."""

    def put(planned, status="ok", state=None, **parts):
        parts = planned.parts.model_copy(update=parts)
        record = made().model_copy(
            update={
                "name": planned.spec.name,
                "spec": planned.spec,
                "parts": parts,
                "key": parts.key(planned.spec.name),
                "result": Result(status=status, reason="" if status == "ok" else "a reason"),
            }
        )
        return store.put(RunRecord.model_validate(record.model_dump()), state)

    return put


def runs_of(plan):
    return [(p.spec.seed, p.spec.method, p.spec.tasks) for p in plan]


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("1", [0]),
        ("8", list(range(8))),
        (" 3 ", [0, 1, 2]),
        ("100-107", list(range(100, 108))),
        ("5-5", [5]),
        ("3,5", [3, 5]),
        ("9,3,5-6", [3, 5, 6, 9]),
        ("3,3,2-4", [2, 3, 4]),
        ("0-2, 7", [0, 1, 2, 7]),
    ],
)
def test_seeds_are_how_many_or_which(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["0", "", " ", "abc", "-1", "5-3", "1,,2", "1.5", "3-x", "--", "1e3", "²"])
def test_wrong_seeds_are_refused_with_what_would_be_right(text):
    with pytest.raises(UsageError, match=r"write how many \(8\), a range \(100-107\) or a list"):
        parse_seeds(text)


def test_runs_go_seed_by_seed_with_baselines_before_methods(plan):
    expected = [
        (seed, method, tasks)
        for seed in (0, 1, 2)
        for method, tasks in [
            (STL, ("y1",)),
            (STL, ("y2",)),
            ("equal", ("y1", "y2")),
            ("uncertainty", ("y1", "y2")),
        ]
    ]
    planned = [
        (seed, method.partition("[")[0], tasks)
        for seed, method, tasks in runs_of(plan(methods="uncertainty", seeds="3"))
    ]
    assert planned == expected


def test_every_task_set_is_done_before_the_next_seed(plan):
    found = plan(tasks="scales[tasks=2],scales[tasks=3]", seeds="2")
    assert [(p.spec.seed, p.spec.task_set[-2]) for p in found] == sorted(
        (p.spec.seed, p.spec.task_set[-2]) for p in found
    )


def test_equal_weights_are_planned_with_every_request_and_once(plan):
    for asked in ("mgda", "equal", "mgda,equal", "all"):
        assert Counter(p.spec.method for p in plan(methods=asked))["equal"] == 1


def test_variants_that_are_the_same_are_one(plan):
    assert runs_of(plan(methods="mgda,mgda[at=shared],mgda[normalize=none,at=shared],mgda")) == runs_of(
        plan(),
    )
    assert runs_of(plan(tasks="scales[tasks=2],scales[ratio=100,tasks=2]")) == runs_of(plan())


def test_a_default_left_out_and_written_out_is_the_same_run(plan):
    names = [{p.spec.name for p in plan(methods=variant)} for variant in ("mgda", "mgda[norm=own]")]
    assert names[0] == names[1]


def test_labels_leave_defaults_out(plan):
    planned = plan(methods="mgda[at=features,norm=own]")[-1]
    assert (planned.method_label, planned.task_set_label) == ("mgda[at=features]", "scales[tasks=2]")


def test_a_plug_ins_label_is_its_file_without_the_folder(plan, rules):
    assert plan(methods=f"{rules}:Noisy")[-1].method_label == "plugin_rules.py:Noisy"


def test_all_methods_are_those_that_need_no_option(plan):
    options = {entry.name: methods.registry.options(entry) for entry in methods.registry.entries().values()}
    required = {name for name, own in options.items() if any(o.default is REQUIRED for o in own.values())}
    planned = {p.method_label for p in plan(methods="all")}
    assert "frozen" in required
    # Without trials no weights are drawn for `static`, and without weights it is equal weights.
    assert planned == {STL} | options.keys() - required - {"static"}


def test_a_required_option_left_out_is_refused(plan, rules):
    with pytest.raises(UsageError, match="needs strength"):
        plan(methods=f"{rules}:Stated")
    assert plan(methods=f"{rules}:Stated[strength=2]")[-1].method_label.endswith("Stated[strength=2]")


def test_all_may_stand_beside_others(plan, rules, sets):
    planned = {p.method_label for p in plan(methods=f"all,{rules}:Noisy,mgda[at=features]")}
    assert planned == {p.method_label for p in plan(methods="all")} | {"plugin_rules.py:Noisy", "mgda[at=features]"}
    assert {p.method_label for p in plan(methods=["all", f"{rules}:Noisy"])} == planned - {"mgda[at=features]"}


def test_what_a_rules_constructor_raises_is_said_with_its_place(plan, rules):
    with pytest.raises(UsageError, match=r"plugin_bad.py:Unbuilt: KeyError: 'no' \(plugin_bad.py:\d+\)"):
        plan(methods=f"{rules.with_name('plugin_bad.py')}:Unbuilt")


def test_what_other_distributions_add_is_not_among_all(plan, monkeypatch):
    points = [EntryPoint("theirs", "json:JSONDecoder", "mtl_bench.methods")]
    monkeypatch.setattr(registry, "entry_points", lambda group: points)
    assert "theirs" in methods.registry.entries()
    assert "theirs" not in {p.method_label for p in plan(methods="all")}


def test_one_rule_by_two_paths_is_one_run(plan, rules, monkeypatch):
    monkeypatch.chdir(rules.parent)
    planned = plan(methods=f"{rules.name}:Noisy,{rules}:Noisy")
    assert [p.spec.method for p in planned if p.rule is not None] == ["equal", f"{rules.name}:Noisy"]
    assert [p.spec for p in planned] == [p.spec for p in plan(methods=f"{rules}:Noisy")]


def test_a_path_with_commas_and_brackets_can_be_planned(plan, rules, tmp_path):
    (tmp_path / "a,b[c]+d").mkdir()
    file = tmp_path / "a,b[c]+d" / "mine.py"
    file.write_text(rules.read_text())
    (*_, noisy, rude) = plan(methods=f'"{file}":Noisy,"{file}":Rude')
    assert (noisy.method_label, rude.method_label) == ("mine.py:Noisy", "mine.py:Rude")
    assert noisy.spec.method == f'"{file}":Noisy'


def test_an_edit_of_what_lies_next_to_a_plug_in_is_a_change(plan, fulfil, tmp_path):
    (tmp_path / "base.py").write_text("from methods.mgda import MGDA\nclass Base(MGDA): ...\n")
    (tmp_path / "rule.py").write_text("from .base import Base\nclass Rule(Base): ...\n")
    fulfil(plan(methods=f"{tmp_path}/rule.py")[-1])
    assert not plan(methods=f"{tmp_path}/rule.py")[-1].todo
    (tmp_path / "base.py").write_text("from methods.mgda import MGDA\nclass Base(MGDA):\n    tag = 1\n")
    assert plan(methods=f"{tmp_path}/rule.py")[-1].why == "changed: the code of base.py"


PLANNING = """
import sys
from pathlib import Path
from bench.planning.plan import make_plan
from bench.planning.request import Request
from bench.store import Store
asked = Request(methods="mgda", tasks="scales[tasks=2]", seeds=sys.argv[1], protocol="smoke", accelerator="cpu")
print(len(make_plan(asked, Store(Path("none")))))
"""


def test_ten_thousand_seeds_are_planned_in_seconds(environment, tmp_path):
    command = [sys.executable, "-c", PLANNING, "0-9999"]
    begin = time.perf_counter()
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout == "40000\n"
    assert time.perf_counter() - begin < 60  # some 5 s alone; it was 4 minutes


# Protocols -------------------------------------------------------------------------------------------------


NAMES = {
    ("digits", "stl", "left"): "28c28601b5c39a2d68b2",
    ("digits", "kd", ""): "a53b184e705bf5149827",
    ("scales", "mgda", ""): "bb79e79d4e9a3f8ace6c",
    ("scenes[height=24,width=32]", "gradnorm", ""): "bd7e61d78a2dbdb6a565",
}
"""Names that runs of seed 7 had before protocols and rules got further options."""


def test_runs_are_called_what_they_were_called_before_options_were_added(plan):
    asked = {"methods": "kd,mgda,gradnorm", "seeds": "7-7"}
    runs = plan(**asked, tasks="digits,scales", protocol="quick")
    # What scenes at `quick` was then.
    runs += plan(**asked, tasks="scenes[height=24,width=32]", protocol="quick[steps=500,steps_per_epoch=50]")
    found = {(p.task_set_label, p.method_label, p.spec.tasks[0] if p.rule is None else ""): p.spec.name for p in runs}
    assert {run: found[run] for run in NAMES} == NAMES


def test_a_protocol_takes_options(plan):
    before, changed = plan()[-1], plan(protocol="smoke[steps=30, lr=1e-4]")[-1]
    assert changed.spec.protocol == before.spec.protocol.model_copy(update={"steps": 30, "lr": 1e-4})
    assert changed.spec.protocol.name == "smoke"
    assert (before.protocol_label, changed.protocol_label) == ("smoke", "smoke[lr=0.0001,steps=30]")
    assert before.spec.name != changed.spec.name


def test_a_protocol_takes_options_of_every_kind(plan):
    asked = "smoke[optimizer=sgd,momentum=0.9,schedule=halving,halve_every=1,validation=false,average_last=2]"
    changed = plan(protocol=asked)[-1].spec.protocol
    assert (changed.optimizer, changed.momentum, changed.schedule, changed.halve_every) == ("sgd", 0.9, "halving", 1)
    assert (changed.validation, changed.average_last) == (False, 2)


def test_a_field_that_is_as_it_was_changes_nothing(plan):
    [*_, one], [*_, other] = (
        plan(),
        plan(protocol="smoke[steps=20,points=2,validation=true,augment=false,average_last=1,halve_every=0]"),
    )
    assert (one.spec, one.key, one.protocol_label) == (other.spec, other.key, other.protocol_label)


def test_options_of_a_protocol_are_those_of_each_set(plan):
    labels = {p.task_set_label: p.protocol_label for p in plan(tasks="scales,digits", protocol="smoke[lr=3e-3]")}
    assert labels == {"scales": "smoke[lr=0.003]", "digits": "smoke"}


@pytest.mark.parametrize(
    ("protocol", "said"),
    [
        ("smoke[step=3]", "protocol smoke has no field 'step': did you mean 'steps'?"),
        ("smoke[name=quick]", "protocol smoke has no field 'name'"),
        ("smoke[steps=many]", "smoke[steps=many]: it takes a value of type int"),
        ("smoke[schedule=linear]", "smoke[schedule=linear]: it takes cosine or constant or halving"),
        ("smoke[schedule=halving]", "schedule=halving needs a number of epochs above 0"),
        ("smoke[halve_every=2]", "halve_every=2 with schedule=cosine"),
        ("smoke[average_last=5]", "the last 5 epochs of 5 steps are more than the 20 steps of a run"),
        ("smoke[augment=true]", "scales[tasks=2] asks for augmentation, and this task set declares none"),
        ("quick[validation=false]", "there is nothing to choose learning rates by: write --tuning none"),
        ("li2020", "scales[tasks=2] has no protocol 'li2020': there is smoke, quick, standard"),
        ("smoke[steps=0]", "smoke[steps=0]: it should be greater than or equal to 1"),
        ("smoke[lr=1e999]", "smoke[lr=1e999]: it should be finite"),
        ("smoke[lr=nan]", "smoke[lr=nan]: it should be greater than 0"),
        ("smoke[steps=3,steps=4]", "steps is given twice"),
        ("smoke[steps=3", "a bracket is not closed"),
        ("smok[steps=3]", "scales[tasks=2] has no protocol 'smok': did you mean 'smoke'?"),
    ],
)
def test_a_wrong_option_of_a_protocol_is_one_line(plan, protocol, said):
    with pytest.raises(UsageError) as raised:
        plan(protocol=protocol)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_rule_that_reads_validation_losses_is_refused_where_there_are_none(plan, rules):
    asked = {"methods": f"{rules}:Validating", "protocol": "smoke[validation=false]"}
    with pytest.raises(
        UsageError, match=r"Validating reads validation losses, and smoke on scales.* keeps no examples"
    ):
        plan(**asked)
    assert plan(methods=f"{rules}:AfterStep", protocol="smoke[validation=false]")


def test_all_task_sets_are_those_that_are_built_in(plan, monkeypatch):
    entries = Registry.built_in
    monkeypatch.setattr(
        Registry,
        "built_in",
        lambda self: {
            n: e
            for n, e in entries(self).items()
            if n
            in (
                "equal",
                "digits",
                "scales",
            )
        },
    )
    assert {p.task_set_label for p in plan(tasks="all", methods="equal")} == {"digits", "scales"}


def test_of_a_seed_more_only_its_runs_are_missing(plan, fulfil):
    for planned in plan(methods="mgda", seeds="1"):
        fulfil(planned, state={} if planned.spec.method == STL else None)
    again = plan(seeds="2")
    assert [p.todo for p in again] == [p.spec.seed == 1 for p in again]


def test_what_is_not_in_the_store_is_missing(plan):
    assert {(p.todo, p.why) for p in plan()} == {(True, "missing")}


@pytest.mark.parametrize("status", ["ok", "diverged", "skipped"])
@pytest.mark.parametrize("retry", [False, True])
def test_a_result_is_present_and_never_repeated(plan, fulfil, status, retry):
    fulfil(plan()[-1], status)
    assert (plan(retry=retry)[-1].todo, plan(retry=retry)[-1].why) == (False, "present")


@pytest.mark.parametrize("status", ["crashed", "out_of_memory", "timeout"])
def test_a_failure_is_kept_and_repeated_on_demand(plan, fulfil, status):
    fulfil(plan()[-1], status)
    kept, repeated = plan()[-1], plan(retry=True)[-1]
    assert (kept.todo, kept.why) == (False, f"failed before ({status}: a reason); --retry repeats it")
    assert (repeated.todo, repeated.why) == (True, f"failed before ({status}: a reason)")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"data": "other"}, "changed: the data"),
        ({"threads": 4}, "changed: the number of threads"),
        ({"device": "cuda"}, "changed: the device"),
        ({"versions": dict.fromkeys(LIBRARIES, "1.0")}, f"changed: {', '.join(sorted(LIBRARIES))}"),
    ],
)
def test_a_run_of_another_key_is_to_be_made_and_what_changed_is_named(plan, fulfil, changed, said):
    fulfil(plan()[-1], **changed)
    assert (plan()[-1].todo, plan()[-1].why) == (True, said)


def test_changed_code_is_named_by_its_module(plan, fulfil):
    planned = plan()[-1]
    fulfil(planned, sources={**planned.parts.sources, "methods.mgda": "before"})
    assert plan()[-1].why == "changed: the code of methods.mgda"


def test_code_that_changed_is_made_again_even_if_the_run_failed(plan, fulfil):
    planned = plan()[-1]
    fulfil(planned, "crashed", sources={**planned.parts.sources, "methods.mgda": "before"})
    assert plan()[-1].todo


def test_a_baseline_without_its_weights_is_to_be_made(plan, fulfil, store):
    import torch

    planned = plan()[0]
    record = fulfil(planned, state={"x": torch.ones(2)})
    assert not plan()[0].todo
    (store.folder / "runs" / f"{record.name}.safetensors").unlink()
    assert (plan()[0].todo, plan()[0].why) == (True, "its weights are missing or not those of the record")


def test_a_rule_that_fits_no_set_is_a_usage_error_with_the_reasons(plan, rules):
    with pytest.raises(
        UsageError, match=r"Pair fits none of the task sets: scales.tasks=3.: Pair balances 2 tasks, not 3"
    ):
        plan(methods=f"{rules}:Pair", tasks="scales[tasks=3]")


@pytest.mark.parametrize(
    "tasks", ["scales[tasks=2],digits", "scales[tasks=3],scales[tasks=2]", "scales[tasks=2],scales[tasks=3]"]
)
def test_a_rule_that_fits_one_set_is_planned_on_all(plan, rules, tasks):
    planned = [p for p in plan(methods=f"{rules}:Pair", tasks=tasks) if p.method_label.endswith("Pair")]
    assert len(planned) == 2


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"methods": "mdga"}, "unknown method 'mdga': did you mean 'mgda'"),
        ({"methods": "mgda[normalise=l2]"}, "no option 'normalise': did you mean 'normalize'"),
        ({"methods": "mgda[normalize=l3]"}, "it takes none or l2 or loss"),
        ({"methods": "mgda+equal"}, "only one can balance"),
        (
            {"methods": ""},
            "no method is named: write standard, all, loss, gradient, distillation, or some of alignedmtl",
        ),
        ({"tasks": ""}, "no task set is named: write all, or some of "),
        ({"methods": ","}, "no method is named"),
        ({"tasks": "scale"}, "unknown task set 'scale': did you mean 'scales'"),
        ({"tasks": "scales[task=2]"}, "no option 'task': did you mean 'tasks'"),
        ({"tasks": "scales+digits"}, "one task set at a time"),
        ({"protocol": "quik"}, "has no protocol 'quik': did you mean 'quick'"),
        ({"precision": "16"}, "--precision '16' is not offered: there is 32-true, bf16-mixed"),
        ({"accelerator": "gpu"}, "--accelerator 'gpu' is not offered"),
        ({"devices": 0}, "--devices 0: a run needs at least one"),
        ({"seeds": "none"}, "seeds 'none': write how many"),
    ],
)
def test_a_wrong_request_is_answered_with_what_would_be_right(plan, wrong, said):
    with pytest.raises(UsageError, match=said.replace("[", r"\[")):
        plan(**wrong)


def test_devices_are_part_of_the_key_and_not_of_the_name(plan):
    one, two = plan()[-1], plan(devices=2)[-1]
    assert one.spec.name == two.spec.name
    assert (one.parts.device, two.parts.device) == ("cpu", "cpu×2")
    assert one.key != two.key


def test_a_key_holds_the_sources_of_its_own_rule_and_task_set(plan):
    stl, _, equal, mgda = (set(p.parts.sources) for p in plan())
    assert "tasks.scales" in stl & equal & mgda
    assert "methods.mgda" in mgda
    assert "methods.mgda" not in stl | equal
    assert not {"tasks.digits", "methods.uncertainty"} & (stl | equal | mgda)


def test_a_plug_ins_edit_is_a_change(plan, fulfil, rules, tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(rules.read_text())
    fulfil(plan(methods=f"{file}:Rude")[-1])
    assert not plan(methods=f"{file}:Rude")[-1].todo
    file.write_text(rules.read_text().replace("torch.rand(3)", "torch.rand(4)"))
    assert re.fullmatch(r"changed: the code of (\S*/)?mine\.py", plan(methods=f"{file}:Rude")[-1].why)
