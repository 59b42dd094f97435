"""Every Redis key: its name, type, lifetime and writers. Nothing else spells a key.

Lifetimes: `job` keys get a TTL when their job ends; `heartbeat` keys carry one from birth;
`permanent` keys are the short list of keys that may live without one.
"""

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

JOB = Key("dalston:job:{job}", "hash", "job", "submit, claim, settle, sweep, cancel, finish, revive, replan")
"""State, run, owner, request, trace, times, error, its tasks, count of open ones, version of the plan."""

TASK = Key("dalston:task:{task}", "hash", "job", "every script but heartbeat and tidy")
"""State, attempt, claim token, engine, queue entry, needs, dependents, params, times, error."""

SEGMENTS = Key("dalston:job:{job}:segments", "stream", "heartbeat", "tell, finish, forget")
"""What a job's engine has said so far, for those who follow it; nothing depends on it."""

QUEUE = Key("dalston:queue:{engine}", "stream", "permanent", "every script that queues, ends or withdraws")
"""An engine's ready tasks."""

QUEUE_HIGH = Key("dalston:queue:{engine}:high", "stream", "permanent", "as its queue")
"""The lane that is served first."""

QUEUES = Key("dalston:queues", "set", "permanent", "submit, replan")
"""The engines that ever had a task."""

WORK = Key("dalston:queue:orchestrator", "stream", "permanent", "settle, sweep, cancel, fail")
"""What only an orchestrator does: publishing a job whose tasks have all ended, growing a plan."""

DELAYED = Key("dalston:delayed", "zset", "permanent", "settle, sweep, cancel, finish, revive, replan, forget")
"""Tasks to try again, by when."""

DEAD = Key("dalston:dead:{engine}", "stream", "permanent", "settle, sweep, fail, revive, forget, tidy")
"""Dead letters: tasks that were given up, capped."""

SWEEP = Key("dalston:sweep", "hash", "permanent", "sweep")
"""When the last sweep was, from when on leases count, how many were taken back."""

EVENTS = Key("dalston:events", "stream", "permanent", "every script")
"""Transitions, capped, for observers only."""

ENGINES = Key("dalston:engines", "zset", "permanent", "heartbeat")
"""`engine/instance` by its last heartbeat."""

ENGINE = Key("dalston:engine:{engine}", "hash", "permanent", "heartbeat")
"""An engine's capability card, and when any instance was last heard from."""

INSTANCE = Key("dalston:engine:{engine}:{instance}", "hash", "heartbeat", "heartbeat")
"""One running engine: state, what it has done since it started, last heartbeat."""

JOBS = Key("dalston:jobs", "zset", "permanent", "submit, forget")
"""Jobs by creation."""

ACTIVE = Key("dalston:jobs:active", "zset", "permanent", "submit, finish, revive, forget")
"""Jobs that have not ended."""

EXPIRY = Key("dalston:jobs:expiry", "zset", "permanent", "submit, finish, revive, forget")
"""Ended jobs by the end of their retention."""

TOKEN = Key("dalston:token:{digest}", "string", "heartbeat", "gateways")
"""A single-use token: whom it lets in."""

IDEMPOTENCY = Key("dalston:idempotency:{owner}:{token}", "string", "heartbeat", "repeat, recovery")
"""Which job a request with an `Idempotency-Key` has become."""

LIMIT = Key("dalston:limit:{key}", "hash", "heartbeat", "admit, finish, hold, leave")
"""An access key's use: when its next request is due, and seconds of audio by the minute."""

LIMITED = Key("dalston:limit:{key}:jobs", "zset", "heartbeat", "admit, submit, hold")
"""Jobs of an access key by when they were let in, 0 once submitted, and live sessions. `any`: all."""

DELIVERIES = Key("dalston:webhook:due", "zset", "permanent", "finish, deliver, due, orchestrators")
"""Deliveries to webhooks by when the next attempt is due."""

UNDELIVERED = Key("dalston:webhook:dead", "zset", "permanent", "deliver, orchestrators")
"""Deliveries that were given up, by when."""

TOLD = Key("dalston:webhook:totals", "hash", "permanent", "orchestrators")
"""Attempts to deliver, by what came of them."""

WORKERS = Key("dalston:realtime:workers", "zset", "permanent", "beat, allocate")
"""Workers by their last heartbeat."""

WORKER = Key("dalston:realtime:worker:{worker}", "hash", "heartbeat", "beat")
"""A worker: engine, address, secret, models with languages, state, capacity, sessions, load, heartbeat."""

SEATS = Key("dalston:realtime:worker:{worker}:sessions", "zset", "heartbeat", "allocate, hold, leave")
"""The sessions given to a worker, by when their gateway must have renewed them."""

SESSION = Key("dalston:realtime:session:{session}", "hash", "heartbeat", "allocate, hold, append, leave")
"""A live session: state, owner, its key, facts, worker, epoch, gateway, seconds dealt with, times."""

SESSION_LOG = Key("dalston:realtime:session:{session}:log", "stream", "heartbeat", "append, leave")
"""A session's finals in order, each with its `seq`."""

SESSIONS = Key("dalston:realtime:sessions", "zset", "permanent", "allocate, hold, leave")
"""The live sessions that have not ended, by when their gateway last held them."""

REALTIME = Key("dalston:realtime:metrics", "hash", "permanent", "append, allocate, leave")
"""Counters of all live sessions since the server's first."""

ALL = {name: value for name, value in list(globals().items()) if isinstance(value, Key)}
