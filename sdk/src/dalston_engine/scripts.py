"""Lua scripts: every change of a job's or a task's state is one of them, run atomically.

A script's contract is its first line, `-- args: a b c`: those are its named arguments, and local
variables in Lua. Scripts take time from Redis alone, check ownership first and answer with a word.
They are sent with EVALSHA and fall back to EVAL, so SDKs of two versions can share one Redis.
"""

import re
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any

from msgspec import Struct
from redis.exceptions import NoScriptError

from dalston_engine import keys


class Script(Struct, frozen=True):
    """A Lua script with named arguments."""

    name: str
    args: tuple[str, ...]
    text: str
    sha: str

    def __call__(self, client: Any, **values: str | int | float | None) -> Any:
        """Run the script."""
        argv = self.argv(values)
        try:
            return client.evalsha(self.sha, 0, *argv)
        except NoScriptError:
            return client.eval(self.text, 0, *argv)

    def argv(self, values: dict[str, Any]) -> list[Any]:
        """Named arguments in their order; raises TypeError for others than those declared."""
        if values.keys() != set(self.args):
            raise TypeError(f"script {self.name} takes {self.args}, not {tuple(values)}")
        return ["" if values[arg] is None else values[arg] for arg in self.args]


@cache
def script(name: str, package: str = __package__) -> Script:
    """The script `lua/<name>.lua` of a package, by default the engine's: claim, renew, settle, …"""
    body = _read(package, name)
    args = tuple(body.splitlines()[0].removeprefix("-- args:").split())
    arguments = "".join(f"local {arg} = ARGV[{n}]\n" for n, arg in enumerate(args, 1))
    libraries = "".join(_read(home, "lib") for home in dict.fromkeys((__package__, package)))
    text = _key_functions() + libraries + arguments + body
    return Script(name, args, text, sha1(text.encode()).hexdigest())  # noqa: S324


@cache
def _key_functions() -> str:
    """Lua functions `KEY.JOB(id)`, so that the names of keys stay in one module."""
    formats = {name: re.sub(r"\{\w+\}", "%s", key.pattern) for name, key in keys.ALL.items()}
    lines = [f"function KEY.{n}(...) return string.format('{f}', ...) end\n" for n, f in formats.items()]
    return f"local KEY, GROUP = {{}}, '{keys.GROUP}'\n" + "".join(lines)


def _read(package: str, name: str) -> str:
    return (files(package) / "lua" / f"{name}.lua").read_text()
