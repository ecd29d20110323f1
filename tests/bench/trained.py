"""Train what a specification names, as the engines do, in this process."""

from functools import partial

import methods
from bench.catalogue import task_set
from bench.spec import STL
from bench.training import loop


def rule(spec):
    """What builds the method of a run; None for single-task learning."""
    return None if spec.method == STL else partial(methods.create, spec.method)


def train(spec, teachers=(), **options):
    return loop.train(spec, partial(task_set, spec.task_set), rule(spec), teachers, **options)
