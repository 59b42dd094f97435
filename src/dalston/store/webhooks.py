"""Webhooks: a file each in `data/webhooks`, and the secrets that unregistered addresses are signed with."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct, field

from dalston.errors import BadRequest, NotFound
from dalston.store.durable import alone, sync, write

FAILURES, SILENT_S = 10, 7 * 86_400
"""A webhook that failed so often in a row, and for so long without a success, is disabled."""
FORBIDDEN = {"host", "content-length", "transfer-encoding", "connection", "content-type", "user-agent", "te",
             "expect", "upgrade", "trailer", "keep-alive", "proxy-authorization", "accept-encoding",
             "dalston-delivery"}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_VALUE = re.compile(r"[\x20-\x7e]{0,1024}")
_ID = re.compile("[0-9a-f]{20}")
_OWNER = re.compile(r"[A-Za-z0-9._@-]{1,64}")


class Notify(Struct, omit_defaults=True):
    """Whom a job tells of its end."""

    dialect: str = "native"
    """In whose shape."""
    webhook: str | None = None
    """The registered webhook; None: all that the owner has, if there is no `url`."""
    url: str | None = None
    """An address that is not registered."""
    metadata: Any = None
    """What goes back with it."""


class Webhook(Struct, omit_defaults=True):
    """An address that is told of jobs' ends."""

    id: str
    owner: str
    name: str
    url: str
    secret: str
    created_at: float
    """Seconds since 1970."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every delivery."""
    disabled: bool = False
    auto_disabled: bool = False
    """True: it failed for too long."""
    retry: bool = True
    """False: a delivery that fails is not tried again."""
    failures: int = 0
    """In a row."""
    succeeded_at: float | None = None
    failed_at: float | None = None
    failed_with: int | None = None
    """The status of the last failure; absent when there was no answer."""

    @property
    def told(self) -> bool:
        """Whether deliveries are made to it."""
        return not (self.disabled or self.auto_disabled)

    def noted(self, good: bool, status: int | None) -> Webhook:
        """This webhook after an attempt."""
        now = time.time()
        if good:
            return msgspec.structs.replace(self, failures=0, succeeded_at=now)
        silent = now - (self.succeeded_at or self.created_at) > SILENT_S
        failures = self.failures + 1
        return msgspec.structs.replace(
            self,
            failures=failures,
            failed_at=now,
            failed_with=status,
            auto_disabled=self.auto_disabled or (failures >= FAILURES and silent),
        )


class Wanted(Struct, forbid_unknown_fields=True):
    """A webhook to be made, or what is to be changed of one."""

    url: Annotated[str, Meta(min_length=1, max_length=2000)]
    name: Annotated[str, Meta(min_length=1, max_length=200)] = "webhook"
    headers: dict[str, str] = field(default_factory=dict)


class Webhooks:
    """The webhooks of one data folder."""

    def __init__(self, data: Path) -> None:
        self.folder = data / "webhooks"

    def make(self, owner: str, wanted: Wanted) -> Webhook:
        """A new webhook; raises BadRequest for headers that cannot be sent."""
        made = Webhook(
            secrets.token_hex(10),
            owner,
            wanted.name,
            wanted.url,
            _secret(),
            time.time(),
            safe(wanted.headers),
        )
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write(self.folder, {made.id: msgspec.json.encode(made)})
        return made

    def all(self, owner: str | None) -> list[Webhook]:
        """Those of an owner, oldest first; None: everybody's."""
        found = []
        with contextlib.suppress(FileNotFoundError):
            for path in self.folder.iterdir():
                if _ID.fullmatch(path.name) and (one := self._read(path)) and owner in (None, one.owner):
                    found.append(one)
        return sorted(found, key=lambda one: one.created_at)

    def get(self, owner: str | None, id: str) -> Webhook:
        """One of an owner's; raises NotFound."""
        found = self._read(self.folder / id) if _ID.fullmatch(id) else None
        if found is None or owner not in (None, found.owner):
            raise NotFound(f"There is no webhook {id[:40]!r}.")
        return found

    def change(self, owner: str | None, id: str, how: Callable[[Webhook], Webhook]) -> Webhook:
        """One of an owner's as `how` makes it of what it is now; raises NotFound."""
        with alone(self.folder):
            changed = how(self.get(owner, id))
            write(self.folder, {id: msgspec.json.encode(changed)})
        return changed

    def remove(self, owner: str | None, id: str) -> None:
        """Forget a webhook; raises NotFound."""
        with alone(self.folder):
            (self.folder / self.get(owner, id).id).unlink(missing_ok=True)
            sync(self.folder)

    def secret(self, owner: str) -> str:
        """What deliveries to an owner's unregistered addresses are signed with; made once."""
        name = f"{owner if _OWNER.fullmatch(owner) else 'other'}.secret"
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with alone(self.folder):
            if not (self.folder / name).exists():
                write(self.folder, {name: _secret().encode()})
            return (self.folder / name).read_text()

    def _read(self, path: Path) -> Webhook | None:
        with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
            return msgspec.json.decode(path.read_bytes(), type=Webhook)
        return None


def safe(headers: dict[str, Any]) -> dict[str, str]:
    """The headers, if they can be sent as they are; raises BadRequest."""
    for name, value in headers.items():
        good = _NAME.fullmatch(name) and isinstance(value, str) and _VALUE.fullmatch(value)
        if not good or name.lower() in FORBIDDEN or name.lower().endswith("-signature"):
            raise BadRequest(
                f"The header {name[:40]!r} cannot be sent with deliveries.", code="invalid_header"
            )
    if len({name.lower() for name in headers}) < len(headers):
        raise BadRequest("A header is given twice.", code="invalid_header")
    if len(headers) > 20:
        raise BadRequest("A webhook sends at most 20 headers of its own.", code="invalid_header")
    return dict(headers)


def _secret() -> str:
    return "wsec_" + secrets.token_hex(32)
