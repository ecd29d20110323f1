"""What papers' protocols ask of a training: a rate that is halved, no validation, augmentation, the mean of epochs."""

import pytest
import torch
from trained import train

import methods
from bench.catalogue import parse_task_set, task_set
from bench.checkpoint import Checkpoint
from bench.spec import STL, RunSpec
from bench.training.loop import Run
from bench.training.optimiser import build_optimiser, build_schedule
from bench.training.streams import build_network
from tasks.core.protocol import Protocol

TASKS = ("size", "kind")


def test_the_rate_is_halved_every_so_many_epochs():
    recipe = {"steps": 20, "batch_size": 1, "lr": 0.8, "steps_per_epoch": 3}
    protocol = Protocol(name="x", **recipe, schedule="halving", halve_every=2)
    optimiser = build_optimiser(protocol, [torch.nn.Parameter(torch.zeros(1))])
    schedule = build_schedule(protocol, optimiser)
    rates = []
    for _ in range(protocol.steps):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    assert rates == [0.8] * 6 + [0.4] * 6 + [0.2] * 6 + [0.1] * 2


def test_without_validation_every_example_is_trained_on_and_none_is_scored(observe):
    run = observe(validation=False)
    seen = [example for step in run.steps for example in step.examples][:100]
    assert sorted(seen) == sorted([*range(60), *range(40)])  # each split counts its examples from 0
    assert [point.validation for point in run.result.points] == [{}, {}, {}]
    assert run.result.status == "ok"
    scored = [step for step in run.seen if not step.training]
    assert sum(len(step.examples) for step in scored) == 1 + 50  # one to see what it takes, and the test split


@pytest.mark.parametrize("method", ["Bilevel", "Validating"])
def test_what_reads_the_validation_split_nevertheless_is_skipped(observe, method):
    result = observe(method, validation=False).result
    reason = "it reads the validation split, and the protocol keeps no examples for it"
    assert (result.status, result.reason) == ("skipped", reason)


def test_the_mean_of_the_last_epochs_is_reported(observe):
    """As three runs that end with the first, the second and the third epoch score."""
    recipe = {"schedule": "constant", "points": 1}
    parts = [observe(steps=steps, **recipe).result.scores for steps in (8, 16, 24)]
    found = observe(average_last=3, **recipe).result
    for task, metric in (("size", "nrmse"), ("kind", "accuracy")):
        wanted = sum(part[task][metric].value for part in parts) / 3
        assert found.scores[task][metric].value == pytest.approx(wanted, rel=1e-12)
        assert len({part[task][metric].value for part in parts}) > 1


def test_epochs_that_are_averaged_are_off_the_clock_and_the_counts(observe):
    one, other = observe(average_last=3), observe()
    assert one.cost.passes == other.cost.passes
    assert one.cost.evaluation_seconds > 0


# Augmentation


@pytest.fixture
def shifted(sets, rules):
    """Train on the set whose augmentation shows; return the result and the networks, and what each saw."""

    def run(method="equal", tasks=TASKS, seed=0, **changed):
        name = methods.parse(f"{rules}:{method}" if method[0].isupper() else method).stable if method != STL else STL
        variant = parse_task_set(sets.replace("Wobbly", "Shifted")).stable
        toy = task_set(variant)
        recipe = toy.protocols["epochs"].model_copy(update={"augment": True, **changed})
        spec = RunSpec(task_set=variant, tasks=tasks, method=name, seed=seed, protocol=recipe)
        distils = name != STL and methods.reads_teachers(methods.parse(name))
        singles = [spec.model_copy(update={"tasks": (task,), "method": STL}) for task in tasks if distils]
        teachers = [build_network(one, toy).state_dict() for one in singles]
        toy.built.clear()
        return spec, teachers, toy

    return run


def saw(network, *, grad=True):
    return [seen.examples for seen in network.seen if seen.training and seen.grad == grad]


def test_augmentation_is_the_same_for_every_method_and_differs_by_step_and_seed(shifted):
    def trained(*asked, **changed):
        spec, teachers, toy = shifted(*asked, **changed)
        train(spec, teachers)
        assert all(max(seen.examples) < 1000 for seen in toy.built[0].seen if not seen.training)
        return saw(toy.built[0])

    one, other, single = trained("equal"), trained("Noisy"), trained(STL, TASKS[:1])
    plain, another = trained("equal", augment=False), trained("equal", seed=1)
    assert one == other == single
    assert all(example > 1000 for step in one for example in step)
    assert [[example % 1000 for example in step] for step in one] == plain
    draws = [[example // 1000 for example in step] for step in one]
    assert len(set(map(tuple, draws))) == len(draws)
    assert draws != [[example // 1000 for example in step] for step in another]


@pytest.mark.parametrize("method", ["kd", "kd[mode=train]"])
def test_teachers_see_the_same_augmented_batch_and_stay_as_they_are(shifted, method):
    """They are asked once a step, and not at test, where the network has nothing of distillation."""
    spec, teachers, toy = shifted(method)
    given = [{name: value.clone() for name, value in state.items()} for state in teachers]
    assert train(spec, teachers)[0].status == "ok"
    student, *others = toy.built
    assert len(others) == 2
    for teacher, state in zip(others, given, strict=True):
        assert [seen.examples for seen in teacher.seen] == saw(student)
        assert all(torch.equal(value, state[name]) for name, value in teacher.state_dict().items())
    assert list(student.state_dict()) == list(build_network(spec, toy).state_dict())


def test_further_batches_are_augmented_by_draws_of_their_own_and_validation_is_not(shifted):
    spec, _, toy = shifted("Bilevel")
    assert train(spec)[0].status == "ok"
    seen = saw(toy.built[0])
    own, further, validation = seen[::3], seen[1::3], seen[2::3]
    assert len(own) == len(further) == len(validation) == 24
    assert all(example > 1000 for step in [*own, *further] for example in step)
    assert all(example < 1000 for step in validation for example in step)
    assert [e // 1000 for e in own[0]] != [e // 1000 for e in further[0]]


@pytest.mark.parametrize("method", ["equal", "kd"])
def test_a_run_with_all_of_it_goes_on_bit_for_bit(shifted, tmp_path, monkeypatch, method):
    """Stopped after the first of the epochs that are averaged."""
    recipe = {"average_last": 3, "schedule": "halving", "halve_every": 1, "validation": False}
    spec, teachers, _ = shifted(method, **recipe)
    whole = train(spec, teachers)[0]
    assert whole.status == "ok"
    checkpoint = Checkpoint(tmp_path / "state.safetensors", "key", every=5)
    step = Run.step

    def stopping(run, chosen, **more):
        if run.steps == 12:
            raise KeyboardInterrupt
        step(run, chosen, **more)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "step", stopping)
        with pytest.raises(KeyboardInterrupt):
            train(spec, teachers, checkpoint=checkpoint)
    kept = checkpoint.load()
    assert (kept["steps"], len(kept["tested"])) == (10, 1)
    torch.manual_seed(99)
    assert train(spec, teachers, checkpoint=checkpoint)[0] == whole
