"""Access keys: a file each in `data/keys`, named by the digest of its secret, which nobody keeps.

Files, so that a key can be made before any server runs and a lost Redis locks nobody out. A key has
256 random bits, so a plain SHA-256 is enough: there is nothing to guess.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from dalston.errors import NotFound
from dalston.store.durable import sync, write

MARK = "dk_"
"""What every key's secret begins with."""
Scope = Literal["transcribe", "realtime", "admin"]
SCOPES: tuple[Scope, ...] = ("transcribe", "realtime", "admin")
_DIGEST = re.compile("[0-9a-f]{64}")


class Limits(Struct, omit_defaults=True, forbid_unknown_fields=True, frozen=True):
    """How much a key may be used; what is absent has no limit."""

    requests_per_minute: Annotated[float, Meta(gt=0)] | None = None
    """Transcriptions asked for; so many may come at once."""
    concurrent_jobs: Annotated[int, Meta(gt=0)] | None = None
    """Jobs that have not ended."""
    audio_minutes_per_hour: Annotated[float, Meta(gt=0)] | None = None
    """Of the last 60 minutes; what runs is counted when it has ended."""


class AccessKey(Struct, omit_defaults=True):
    """What a key may; its secret is told once, when it is made."""

    id: str
    name: str
    owner: str
    """Whose jobs it submits and sees; keys may share an owner."""
    scopes: list[Scope]
    """`admin` sees everybody's jobs."""
    created_at: str
    """RFC 3339."""
    limits: Limits = Limits()


class Wanted(Struct, forbid_unknown_fields=True):
    """A key to be made."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    scopes: Annotated[list[Scope], Meta(min_length=1)] = msgspec.field(default_factory=lambda: ["transcribe"])
    owner: Annotated[str, Meta(pattern=r"^[A-Za-z0-9._@-]{1,64}$")] | None = None
    """Absent: the key's own id."""
    limits: Limits = Limits()


class AccessKeys:
    """The keys of one data folder."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "keys"

    def make(self, wanted: Wanted) -> tuple[AccessKey, str]:
        """A new key and its secret."""
        id, secret = secrets.token_hex(6), MARK + secrets.token_urlsafe(32)
        key = AccessKey(id, wanted.name, wanted.owner or id, wanted.scopes, _now(), wanted.limits)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.folder, {digest(secret): msgspec.json.encode(key)})
        return key, secret

    def find(self, secret: str) -> AccessKey | None:
        """The key with this secret; the same steps whether there is one or not."""
        return self._read(self.folder / digest(secret))

    def all(self) -> list[AccessKey]:
        """Every key, oldest first."""
        found = [self._read(path) for path in self._paths()]
        return sorted((key for key in found if key is not None), key=lambda key: key.created_at)

    def revoke(self, id: str) -> None:
        """Remove a key: it opens nothing from now on. Raises NotFound."""
        for path in self._paths():
            key = self._read(path)
            if key is not None and key.id == id:
                path.unlink(missing_ok=True)
                return sync(self.folder)
        raise NotFound(f"There is no key {id[:40]!r}; `dalston key list` shows all.")

    def _paths(self) -> list[Path]:
        with contextlib.suppress(FileNotFoundError):
            return [path for path in self.folder.iterdir() if _DIGEST.fullmatch(path.name)]
        return []

    def _read(self, path: Path) -> AccessKey | None:
        try:
            return msgspec.json.decode(path.read_bytes(), type=AccessKey)
        except (OSError, msgspec.DecodeError):  # gone meanwhile, or not for this process to read
            return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest(secret: str) -> str:
    """What a secret is known by."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
