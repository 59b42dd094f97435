"""Changing a plan while its job runs: two pure functions, and what applies their answers.

A task that `grows` has found how many parts there are. Each task planned `each` becomes one task
for each part, and what needed it needs them all. An engine that stays away loses its tasks to
another one that can do the same.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from dalston.orchestrator.plan import Plan
from dalston.store.files import PlanTask


class Change(Struct):
    """What becomes of a plan."""

    remove: list[str]
    """Ids of tasks to take out; none of them has started."""
    add: Plan
    order: list[str]
    """All ids of the new plan, the sink last."""


def grown(plan: Plan, parts: int | None) -> Change:
    """The plan with its `each` tasks multiplied; `parts` None: the recording stays whole."""
    copies: dict[str, list[PlanTask]] = {}
    order: list[str] = []
    remove: list[str] = []
    add: Plan = []
    for task in plan:
        changed = any(need in copies for need in task.needs)
        if task.each:
            new = [_copy(task, part, copies) for part in ([None] if parts is None else range(parts))]
            copies[task.id] = new
        elif changed:
            needs = [copy.id for need in task.needs for copy in copies.get(need, [])]
            kept = [need for need in task.needs if need not in copies]
            new = [msgspec.structs.replace(task, needs=kept + needs)]
        else:
            order.append(task.id)
            continue
        remove.append(task.id)
        add += new
        order += [one.id for one in new]
    return Change(remove, add, order)


def moved(plan: Plan, stuck: Sequence[str], fresh: Plan) -> Change | None:
    """The plan with the tasks `stuck` done as `fresh` does their stages; None when it cannot."""
    by_stage = {task.stage: task for task in fresh}
    stages = {task.stage for task in plan}
    if any(task.required and task.stage not in stages for task in fresh):  # what is stuck did more than one
        return None
    add: Plan = []
    for task in plan:
        if task.id not in stuck:
            continue
        other = by_stage.get(task.stage)
        if other is None or other.engine == task.engine:
            return None
        add.append(msgspec.structs.replace(task, engine=other.engine, params=other.params))
    return Change([task.id for task in add], add, [task.id for task in plan])


def _copy(task: PlanTask, part: int | None, copies: dict[str, list[PlanTask]]) -> PlanTask:
    """One part's task; of what exists for each part it needs its own."""
    if part is None:
        return msgspec.structs.replace(task, each=False)
    needs = [copies[need][part].id if need in copies else need for need in task.needs]
    params = _with_words(task.params) if task.stage == "transcribe" else task.params
    return msgspec.structs.replace(
        task, id=f"{task.id}.{part}", needs=needs, part=part, each=False, params=params
    )


def _with_words(params: str) -> str:
    """Options for a part: parts are put together by their words, even if nobody asked for these."""
    options = msgspec.json.decode(params)
    if options.get("word_timestamps") is not False:
        return params
    return msgspec.json.encode(options | {"word_timestamps": True}).decode()
