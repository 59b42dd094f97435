"""Every Redis key: its name, type, lifetime and writers. Nothing else spells a key.

Lifetimes: `job` keys get a TTL when their job ends; `heartbeat` keys carry one from birth;
`permanent` keys are the short list of keys that may live without one.
"""

from __future__ import annotations

from msgspec import Struct


class Key(Struct, frozen=True):
    """A Redis key or a family of them."""

    pattern: str
    type: str
    lifetime: str
    writers: str

    def __call__(self, **parts: str) -> str:
        return self.pattern.format(**parts)


GROUP = "engines"
"""The consumer group of every engine queue."""

JOB = Key("dalston:job:{job}", "hash", "job", "submit, claim, settle, reclaim, finish")
"""State, owner, request, times, error, count of open tasks."""

TASK = Key("dalston:task:{task}", "hash", "job", "submit, claim, renew, settle, reclaim, promote")
"""State, attempt, claim token, engine, needs, dependents, params, times, error."""

QUEUE = Key("dalston:queue:{engine}", "stream", "permanent", "submit, settle, reclaim, promote")
"""An engine's ready tasks."""

QUEUE_HIGH = Key("dalston:queue:{engine}:high", "stream", "permanent", "submit, settle, reclaim, promote")
"""The lane that is served first."""

WORK = Key("dalston:queue:orchestrator", "stream", "permanent", "settle, reclaim")
"""What only an orchestrator does: publishing a job whose tasks have all ended."""

DELAYED = Key("dalston:delayed", "zset", "permanent", "settle, promote")
"""Tasks to try again, by when."""

EVENTS = Key("dalston:events", "stream", "permanent", "every script")
"""Transitions, capped, for observers only."""

ENGINES = Key("dalston:engines", "zset", "permanent", "heartbeat")
"""`engine/instance` by its last heartbeat."""

ENGINE = Key("dalston:engine:{engine}", "hash", "permanent", "heartbeat")
"""An engine's capability card."""

INSTANCE = Key("dalston:engine:{engine}:{instance}", "hash", "heartbeat", "heartbeat")
"""One running engine: state, tasks settled, last heartbeat."""

JOBS = Key("dalston:jobs", "zset", "permanent", "submit")
"""Jobs by creation."""

ACTIVE = Key("dalston:jobs:active", "zset", "permanent", "submit, finish")
"""Jobs that have not ended."""

ALL = {name: value for name, value in list(globals().items()) if isinstance(value, Key)}
