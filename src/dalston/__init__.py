"""Dalston: a self-hosted audio transcription server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalston.client import Client as Client
    from dalston.live_client import LiveClient as LiveClient

__all__ = ["Client", "LiveClient", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """The clients are imported when they are used: the server's processes do without their libraries."""
    if name == "Client":
        from dalston.client import Client

        return Client
    if name == "LiveClient":
        from dalston.live_client import LiveClient

        return LiveClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
