"""Take over from another folder the runs and measurements that a request needs, where their keys agree.

Nothing else is taken over: a record that the plan does not name, or that was made with other code, stays where it is.
So no report or comparison of the folder shows it as a result of the code here.
"""

from collections.abc import Sequence
from dataclasses import replace

from bench.costs import cost_key, to_measure
from bench.planning.plan import Planned, Request, make_plan
from bench.store import Store


def reuse_runs(runs: Sequence[Planned], request: Request, source: Store, store: Store) -> None:
    """Copy from `source` the results that `store` lacks of a plan and its request.

    Runs that failed for a reason of the machine are not copied, so that they are trained again.
    """
    needed = {planned.key for planned in runs if planned.todo}
    for planned in make_plan(replace(request, retry=True), source):
        if planned.key in needed and not planned.todo:
            store.copy(planned.spec.name, source)


def reuse_costs(runs: Sequence[Planned], source: Store, store: Store) -> None:
    """Copy from `source` the measurements of steps that `store` lacks for these runs, which have ended.

    Several methods are measured side by side. Such a measurement is copied if it is of the same methods, with the same
    code, on the same hardware.
    """
    known = {record.key: record for record in source.costs()}
    for members in to_measure(runs, store.costs(), store.records()):
        if found := known.get(cost_key(members)):
            store.put_costs(found)
