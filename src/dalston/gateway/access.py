"""Who calls: every request has a caller, who owns the jobs it submits and sees no others'."""

from __future__ import annotations

from fastapi import Request
from msgspec import Struct

SCOPES = ("transcribe", "realtime", "admin")


class Caller(Struct, frozen=True):
    """Who sends a request, and what he may."""

    owner: str
    """The owner of the jobs he submits."""
    scopes: frozenset[str] = frozenset(SCOPES)

    @staticmethod
    def of(request: Request) -> Caller:
        """The caller of a request."""
        caller: Caller = request.scope.get("caller", LOCAL)
        return caller


LOCAL = Caller("local")
"""Whoever reaches a server that listens on loopback, where no key is needed."""
