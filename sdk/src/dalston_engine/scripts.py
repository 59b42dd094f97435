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

SLOT = r"\{(\w+)\}"


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
            return client.execute_command("EVALSHA", self.sha, 0, *argv)
        except NoScriptError:
            return client.execute_command("EVAL", self.text, 0, *argv)

    def argv(self, values: dict[str, Any]) -> list[Any]:
        """Named arguments in their order; raises TypeError for others than those declared."""
        if values.keys() != set(self.args):
            raise TypeError(f"script {self.name} takes {self.args}, not {tuple(values)}")
        return ["" if values[arg] is None else values[arg] for arg in self.args]


@cache
def script(name: str, package: str = __package__) -> Script:
    """The script `lua/<name>.lua` of a package, by default the engine's: claim, renew, settle, …

    `a+b` is both in one step, answering {a's answer, b's answer}.
    """
    bodies = [_read(package, part) for part in name.split("+")]
    args = tuple(arg for body in bodies for arg in body.splitlines()[0].removeprefix("-- args:").split())
    text = "".join(_read(home, "lib") for home in dict.fromkeys((__package__, package)))
    text += "".join(f"local {arg} = ARGV[{n}]\n" for n, arg in enumerate(args, 1))
    calls = ", ".join(f"(function()\n{body}\nend)()" for body in bodies)
    text += f"return {{{calls}}}" if len(bodies) > 1 else bodies[0]
    text = _key_functions(text) + text
    return Script(name, args, text, sha1(text.encode()).hexdigest())  # noqa: S324


def _key_functions(text: str) -> str:
    """Lua functions `KEY.JOB(id)` as far as a script uses them: keys are spelled in one module."""
    lines = [f"local KEY, GROUP = {{}}, '{keys.GROUP}'"]
    for name in sorted(set(re.findall(r"KEY\.(\w+)", text))):
        slots = ", ".join(re.findall(SLOT, keys.ALL[name].pattern))
        body = re.sub(SLOT, r"' .. \1 .. '", keys.ALL[name].pattern)
        lines.append(f"function KEY.{name}({slots}) return '{body}' end")
    return "\n".join(lines) + "\n"


def _read(package: str, name: str) -> str:
    return (files(package) / "lua" / f"{name}.lua").read_text()
