"""What a server may leave in Redis and in its data folder, and what it may not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dalston_engine import keys
from dalston_engine.testing import family as family_of

GONE = -2
"""What Redis says of the lifetime of a key that is not there any more."""


def stray_keys(client: Any) -> list[str]:
    """Keys of no known family or type, and those that are neither on their way out nor meant to stay."""
    return [f"{key}: {fault}" for key in client.scan_iter(count=1000) if (fault := _fault(client, key))]


def stray_files(data: Path) -> list[str]:
    """Files of ended jobs that do not count, though nobody is going to remove them."""
    return [
        f"{file.parent.name}/{file.name}"
        for folder in (data / "jobs").glob("*/job.json")
        if (outcome := json.loads(folder.read_bytes()).get("outcome"))
        for file in folder.parent.iterdir()
        if file.name not in {"job.json", "transcript.json", "webhooks.json"}
        and file.stem != "source"
        and file.name.removesuffix(".json") not in outcome["artifacts"]
    ]


def _fault(client: Any, key: str) -> str | None:
    family = family_of(key)
    if family is None:
        return "is not in dalston_engine.keys"
    if (kind := client.type(key)) not in (family.type, "none"):  # the latter: gone meanwhile
        return f"is a {kind}, not a {family.type}"
    if (left := client.ttl(key)) >= 0 or left == GONE or family.lifetime == "permanent":
        return None
    if family.lifetime == "job":
        job = key.split(":")[-1].split(".")[0]
        if job and client.zscore(keys.ACTIVE(), job) is not None:
            return None
    return f"has no TTL, though its lifetime is {family.lifetime!r}"
