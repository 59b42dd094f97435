"""The scripts that only the server runs; see `lua/` for what each does."""

from __future__ import annotations

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
