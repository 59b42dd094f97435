"""One engine's queue: wait, claim, renew, settle. See `lua/` for what each does.

Waking and claiming are two steps: a plain blocking XREAD on both lanes wakes, the script `claim`
takes. A claim that finds nothing answers with the last entry of each lane, and the wait starts
from there, so nothing that arrives in between is missed.
"""

import secrets
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import msgspec
import redis
from redis import exceptions as raised
from redis.connection import DefaultParser

from dalston_engine import keys
from dalston_engine.errors import ErrorRecord
from dalston_engine.scripts import script
from dalston_engine.types import Card, Segment, Task
from dalston_engine.workspace import encode

WAIT_MS = 4000
HEARTBEAT_TTL_S = 30
RETRY_DELAY_MS = 1000
POSTPONE_MS = 5000
ATTEMPTS = 3
"""How often a task is tried before it fails for good."""

# What Redis says while its own disk takes no writes, it has become a replica, or somebody's script keeps it
# busy; redis-py has no class for that, or one that does not say so.
_NO_WRITES = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "UNBLOCKED", "BUSY")
DefaultParser.EXCEPTION_CLASSES |= dict.fromkeys(_NO_WRITES, raised.ReadOnlyError)
AWAY = (raised.ConnectionError, raised.TimeoutError, raised.ReadOnlyError, raised.OutOfMemoryError)
"""What a call raises while Redis cannot be reached or takes no writes: wait, and try again."""


def connect(url: str, **options: Any) -> redis.Redis:
    """A client for commands that answer at once.

    redis-py's own retries are off: they would repeat a blocked read for a minute unseen.
    """
    return redis.Redis.from_url(url, decode_responses=True, socket_timeout=10, retry=None, **options)


def patiently(call: Callable[[], Any], unless: Callable[[], bool] = lambda: False) -> Any:
    """Call until Redis answers, `unless` it is in vain: then raises what `AWAY` holds."""
    while True:
        try:
            return call()
        except AWAY:
            if unless():
                raise
            time.sleep(0.05)


class Queue:
    """The tasks of one engine, as one instance sees them."""

    def __init__(self, url: str, engine: str, instance: str) -> None:
        self.url, self.engine, self.instance = url, engine, instance
        self._names = {"engine": engine, "instance": instance}
        self.next: Task | None = None
        self._lanes: dict[Any, Any] = {keys.QUEUE_HIGH(engine=engine): "0", keys.QUEUE(engine=engine): "0"}

    @cached_property
    def redis(self) -> redis.Redis:
        """Connects when it is first asked for; one connection is cheaper than a pool."""
        return connect(self.url, single_connection_client=True)

    def claim(self) -> Task | None:
        """Lease a waiting task, or remember where the lanes end."""
        if self.next is None:
            self._take(self._run("claim", **self._names, lease=secrets.token_hex(8)))
        task, self.next = self.next, None
        return task

    def wait(self) -> None:
        """Block until a task may be there, a few seconds at most."""
        self.redis.xread(self._lanes, count=1, block=WAIT_MS)

    def renew(self, task: Task, progress: float | None) -> str:
        """Extend the lease; answers OK, CANCELLED or LOST."""
        return str(self._run("renew", task=task.id, token=task.token, progress=progress))

    def settle(self, task: Task, word: str, seconds: float | None = None, error: ErrorRecord | None = None,
               audio: float | None = None, whole: bool = False, more: bool = False) -> str:  # fmt: skip
        """End the lease; tried until Redis answers OK, CANCELLED or LOST.

        `seconds` of work, `audio` seconds worked on, `whole`: found no parts to grow the plan by.
        `more`: lease the next task too, for `claim`.
        """
        delay = POSTPONE_MS if word == "postponed" else RETRY_DELAY_MS * 2 ** (task.attempt - 1)
        values = {"task": task.id, "token": task.token, "outcome": word, "seconds": seconds, "audio": audio,
                  "error": msgspec.json.encode(error) if error else None, "delay": delay,
                  "whole": 1 if whole else None}  # fmt: skip
        values |= self._names | {"lease": secrets.token_hex(8)} if more else {}
        told = patiently(lambda: self._run("settle+claim" if more else "settle", **values, attempts=ATTEMPTS))
        return self._take(told[1], told[0]) if more else str(told)

    def tell(self, task: Task, n: int, segments: list[Segment]) -> None:
        """Send the attempt's segments from the `n`th on to those who follow its job."""
        self._run("tell", task=task.id, token=task.token, n=n, segments=encode(segments))

    def heartbeat(self, card: Card, state: str, totals: Mapping[str, float]) -> None:
        """Tell the fleet this instance is alive, and what it has done since it started."""
        self._run("heartbeat", **self._names, card=msgspec.json.encode(card), state=state,
                  totals=msgspec.json.encode(totals), ttl=HEARTBEAT_TTL_S)  # fmt: skip

    def leave(self) -> None:
        """Take this instance out of the fleet."""
        self.redis.delete(keys.INSTANCE(**self._names))
        self.redis.zadd(keys.ENGINES(), {f"{self.engine}/{self.instance}": 0})

    def _take(self, claimed: list[str], word: str = "") -> str:
        if claimed[0] == "TASK":
            self.next = msgspec.json.decode(claimed[1], type=Task)
        else:
            self._lanes = dict(zip(self._lanes, claimed[1:], strict=True))
        return word

    def _run(self, name: str, **values: Any) -> Any:
        return script(name)(self.redis, **values)
