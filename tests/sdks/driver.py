"""Calls with a client in its own environment: a JSON line in, a JSON line out.

The argument is the folder of the module `calls`, which knows the client. In: `vendor`, `url`, `key`,
`call` (dotted), `args`, `file` (path) and `how` it is given. Out: `ok` with the answer and its `type`,
or `error` with the exception's class, status and body. The first line out tells the clients' versions.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import sys
from typing import Any


def answered(calls: Any, told: dict[str, Any]) -> dict[str, Any]:
    """What came of a call."""
    try:
        said: dict[str, Any] = calls.performed(told)
        return said
    except Exception as error:
        status = getattr(error, "status_code", None)
        return {"error": type(error).__name__, "status": status, "body": body(error), "text": str(error)}


def body(error: Exception) -> Any:
    """The answer's body as the client keeps it."""
    found: Any = getattr(error, "body", None)
    return found.model_dump(mode="json") if hasattr(found, "model_dump") else found


def main() -> None:
    """Perform calls until there are no more."""
    out = sys.stdout
    sys.stdout = sys.stderr
    sys.path.insert(0, sys.argv[1])
    calls: Any = importlib.import_module("calls")
    print(
        json.dumps({name: importlib.metadata.version(name) for name in calls.PACKAGES}), file=out, flush=True
    )
    for line in sys.stdin:
        print(json.dumps(answered(calls, json.loads(line)), default=str), file=out, flush=True)


main()
