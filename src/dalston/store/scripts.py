"""The scripts that only the server runs; see `lua/` for what each does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dalston_engine.scripts import Script, script
from redis.exceptions import NoScriptError


async def run(name: Script, redis: Any, **values: str | int | float | None) -> Any:
    """Run a script through an asyncio client."""
    argv = name.argv(values)
    try:
        return await redis.evalsha(name.sha, 0, *argv)
    except NoScriptError:
        return await redis.eval(name.text, 0, *argv)


async def run_all(name: Script, redis: Any, calls: Sequence[dict[str, Any]]) -> list[Any]:
    """Run a script several times in one round trip; each run is a step of its own."""
    if not calls:
        return []
    async with redis.pipeline(transaction=False) as pipe:
        for values in calls:
            pipe.evalsha(name.sha, 0, *name.argv(values))
        answers = await pipe.execute(raise_on_error=False)
    for n, answer in enumerate(answers):
        if isinstance(answer, Exception):
            answers[n] = await run(name, redis, **calls[n])
    return list(answers)


SUBMIT: Script = script("submit", __package__)
CANCEL: Script = script("cancel", __package__)
REPLAN: Script = script("replan", __package__)
FAIL: Script = script("fail", __package__)
FINISH: Script = script("finish", __package__)
REVIVE: Script = script("revive", __package__)
FORGET: Script = script("forget", __package__)
SHOW: Script = script("show", __package__)
SWEEP: Script = script("sweep", __package__)
TIDY: Script = script("tidy", __package__)
ADMIT: Script = script("admit", __package__)
RELEASE: Script = script("release", __package__)
REPEAT: Script = script("repeat", __package__)
DUE: Script = script("due", __package__)
DELIVER: Script = script("deliver", __package__)
ALLOCATE: Script = script("allocate", __package__)
HOLD: Script = script("hold", __package__)
APPEND: Script = script("append", __package__)
DESCRIBE: Script = script("describe", __package__)
LEAVE: Script = script("leave", __package__)
