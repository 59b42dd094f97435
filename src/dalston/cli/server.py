"""The server that a command talks to: the one at `DALSTON_URL`, or that runs for a data folder."""

from __future__ import annotations

from dalston import settings as settings_
from dalston.client import Client, NoServer
from dalston.local.server import holder
from dalston.settings import Settings


def address(settings: Settings) -> str:
    """Where the server is that the settings name; raises NoServer."""
    if settings.url:
        return settings.url
    running = holder(settings.folder)
    if running is None:
        raise NoServer(f"No server runs for {settings.folder}. Start one with `dalston up`.")
    return running.url


def connected(data: str | None) -> Client:
    """A client of that server; raises NoServer."""
    settings = settings_.load(data=data)
    return Client(address(settings), settings.api_key)
