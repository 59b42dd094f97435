"""However a plan grows or moves, it stays a plan: acyclic, with one sink, nothing beside it."""

from __future__ import annotations

import itertools

import msgspec
from hypothesis import event, given
from hypothesis import strategies as st

from dalston.orchestrator.growth import Change, grown, moved
from dalston.orchestrator.plan import Plan
from dalston.store.files import PlanTask

ENGINES = ("one", "two")
PARTS = st.none() | st.integers(1, 4)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A task that grows, then others that need it or each other, some of them `each`; then the sink."""
    tasks = [PlanTask("0", "prepare", draw(st.sampled_from(ENGINES)), [], "{}", grows=True)]
    for n in range(1, draw(st.integers(1, 6))):
        needs = draw(st.lists(st.sampled_from([task.id for task in tasks]), min_size=1, unique=True))
        each, required = draw(st.booleans()), draw(st.booleans())
        params, engine = f'{{"n":{n}}}', draw(st.sampled_from(ENGINES))
        tasks.append(PlanTask(str(n), f"stage{n}", engine, needs, params, required, each=each))
    needs = [task.id for task in tasks if task.id not in needed(tasks)]
    return [*tasks, PlanTask("sink", "merge", draw(st.sampled_from(ENGINES)), needs, "{}")]


def needed(plan: Plan) -> set[str]:
    """What anything in the plan needs."""
    return {need for task in plan for need in task.needs}


def changed(plan: Plan, change: Change) -> Plan:
    """The plan after the change; the change is one that can be made."""
    assert set(change.remove) <= {task.id for task in plan}
    kept = [task for task in plan if task.id not in change.remove]
    tasks = {task.id: task for task in kept + change.add}
    assert len(tasks) == len(kept) + len(change.add)
    assert sorted(change.order) == sorted(tasks)
    return [tasks[id] for id in change.order]


def unordered(task: PlanTask) -> PlanTask:
    """The task with its needs in no order of their own."""
    return msgspec.structs.replace(task, needs=sorted(task.needs))


def assert_sound(plan: Plan) -> None:
    """Acyclic, as everything comes after what it needs; the last task is the only sink."""
    assert_ordered(plan)
    assert {task.id for task in plan} - needed(plan) == {plan[-1].id}


def assert_ordered(plan: Plan) -> None:
    """Everything comes after what it needs, and needs it once."""
    before: set[str] = set()
    for task in plan:
        assert set(task.needs) <= before, task
        assert len(set(task.needs)) == len(task.needs), task
        before.add(task.id)
    assert len(before) == len(plan)


def behind(plan: Plan, ids: set[str]) -> set[str]:
    """Those tasks and all that need them, directly or not."""
    found = set(ids)
    for task in plan:
        if found & set(task.needs):
            found.add(task.id)
    return found


@given(plans(), PARTS)
def test_a_grown_plan_is_sound_and_ends_in_the_same_sink(plan: Plan, parts: int | None) -> None:
    after = changed(plan, grown(plan, parts))
    assert_sound(after)
    assert after[-1].id == plan[-1].id
    assert not any(task.each for task in after)
    event(f"{len(after) - len(plan)} more")


@given(plans())
def test_a_plan_without_a_single_part_runs_its_sink(plan: Plan) -> None:
    after = changed(plan, grown(plan, 0))
    assert_ordered(after)
    assert [task.id for task in after] == [task.id for task in plan if not task.each]


@given(plans())
def test_a_recording_that_stays_whole_keeps_its_plan(plan: Plan) -> None:
    after = changed(plan, grown(plan, None))
    assert list(map(unordered, after)) == [
        unordered(msgspec.structs.replace(task, each=False)) for task in plan
    ]


@given(plans(), st.integers(1, 4))
def test_each_part_gets_a_chain_of_its_own(plan: Plan, parts: int) -> None:
    after = {task.id: task for task in changed(plan, grown(plan, parts))}
    each = {task.id for task in plan if task.each}
    for task, part in itertools.product((task for task in plan if task.each), range(parts)):
        needs = [f"{need}.{part}" if need in each else need for need in task.needs]
        copy = msgspec.structs.replace(task, id=f"{task.id}.{part}", needs=needs, part=part, each=False)
        assert after.pop(copy.id) == copy
        event("a chain of them" if set(task.needs) & each else "one alone")
    assert set(after) == {task.id for task in plan} - each


@given(plans(), st.integers(0, 4))
def test_what_joins_the_parts_needs_all_of_them_in_order(plan: Plan, parts: int) -> None:
    after = {task.id: task for task in changed(plan, grown(plan, parts))}
    each = {task.id for task in plan if task.each}
    for task in plan:
        if not task.each:
            kept = [need for need in task.needs if need not in each]
            copies = [f"{need}.{part}" for need in task.needs if need in each for part in range(parts)]
            assert after[task.id] == msgspec.structs.replace(task, needs=kept + copies)


@given(plans(), st.none() | st.integers(0, 4))
def test_growing_takes_out_nothing_that_could_have_started(plan: Plan, parts: int | None) -> None:
    change = grown(plan, parts)
    each = {task.id for task in plan if task.each}
    assert each <= set(change.remove) <= behind(plan, each)
    assert plan[0].id not in change.remove


@given(plans(), PARTS)
def test_a_grown_plan_grows_no_further(plan: Plan, parts: int | None) -> None:
    after = changed(plan, grown(plan, parts))
    assert grown(after, 3) == Change([], [], [task.id for task in after])


@given(plans(), PARTS, st.data())
def test_a_moved_task_changes_its_engine_and_options_alone(
    plan: Plan, parts: int | None, data: st.DataObject
) -> None:
    present = changed(plan, grown(plan, parts))
    fresh = [
        msgspec.structs.replace(task, engine=data.draw(st.sampled_from(ENGINES)), params='{"new":1}')
        for task in data.draw(st.lists(st.sampled_from(plan), unique_by=lambda task: task.id))
    ]
    stuck = data.draw(st.lists(st.sampled_from([task.id for task in present]), unique=True))
    change, others = moved(present, stuck, fresh), {task.stage: task.engine for task in fresh}
    possible = all(others.get(task.stage, task.engine) != task.engine for task in present if task.id in stuck)
    event(f"possible: {possible}")
    assert (change is not None) == possible
    if change is not None:
        assert changed(present, change) == [
            msgspec.structs.replace(task, engine=others[task.stage], params='{"new":1}')
            if task.id in stuck
            else task
            for task in present
        ]
        assert sorted(change.remove) == sorted(task.id for task in change.add) == sorted(stuck)


def test_a_task_that_has_gone_meanwhile_is_not_moved() -> None:
    plan = [PlanTask("0", "prepare", "one", [], "{}")]
    fresh = [msgspec.structs.replace(plan[0], engine="two")]
    assert moved(plan, ["gone"], fresh) == Change([], [], ["0"])


def test_parts_have_words_even_if_nobody_asked_for_them() -> None:
    prepare = PlanTask("p", "prepare", "one", [], "{}", grows=True)
    options = '{"prompt":"\\"word_timestamps\\":false","word_timestamps":false}'
    words = PlanTask("t", "transcribe", "one", ["p"], options, each=True)
    plan = [prepare, words, PlanTask("m", "merge", "one", ["p", "t"], "{}")]
    told = [msgspec.json.decode(task.params) for task in grown(plan, 2).add if task.stage == "transcribe"]
    assert told == [{"prompt": '"word_timestamps":false', "word_timestamps": True}] * 2
    whole = [task for task in grown(plan, None).add if task.stage == "transcribe"]
    assert [task.params for task in whole] == [options]
