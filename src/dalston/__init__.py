"""Dalston: a self-hosted audio transcription server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalston.client import Client as Client

__all__ = ["Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Client` is imported when it is used: the server's processes do without its HTTP library."""
    if name == "Client":
        from dalston.client import Client

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
