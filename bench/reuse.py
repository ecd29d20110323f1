"""Take over from another folder the runs and measurements that a request needs, where their keys agree.

Nothing else is taken over: a record that the plan does not name, or that was made with other code, stays where it is.
So no report or comparison of the folder shows it as a result of the code here.
"""

from collections.abc import Sequence
from dataclasses import replace

from bench.planning.plan import Planned, state
from bench.store import Store


def reuse_runs(runs: Sequence[Planned], source: Store, store: Store) -> list[Planned]:
    """Copy from `source` the results that `store` lacks of a plan, and return the plan as it is then.

    Runs that failed for a reason of the machine are not copied, so that they are trained again.
    """
    found = []
    for planned in runs:
        name = planned.spec.name
        if planned.todo:
            missing, why = state(planned.spec, planned.parts, planned.key, source, source.get(name), retry=True)
            if not missing:
                store.copy(name, source)
                planned = replace(planned, todo=False, why=why)
        found.append(planned)
    return found


def reuse_costs(runs: Sequence[Planned], source: Store, store: Store) -> None:
    """Copy from `source` the measurements of steps that `store` lacks for these runs, which have ended.

    Several methods are measured side by side. Such a measurement is copied if it is of the same methods, with the same
    code, on the same hardware.
    """
    from bench.costs import cost_key, to_measure  # imports torch
    from bench.engine.runs import environment

    known = {record.key: record for record in source.costs()}
    for members in to_measure(runs, store.costs(), store.records()):
        if found := known.get(cost_key(members, environment()["hardware"])):
            store.put_costs(found)
