"""`dalston key`: access keys, of the server at `DALSTON_URL` or in the data folder."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import msgspec
import typer
from dalston_engine.errors import DalstonError

key = typer.Typer(help="Access keys, for servers that others can reach.", no_args_is_help=True)
Data = Annotated[str | None, typer.Option(help="The data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@key.command()
def create(
    name: Annotated[str, typer.Argument(help="What the key is for.")],
    scope: Annotated[list[str] | None, typer.Option(help="transcribe (default), realtime or admin.")] = None,
    owner: Annotated[str | None, typer.Option(help="Share the jobs of this owner's other keys.")] = None,
    requests_per_minute: Annotated[float | None, typer.Option(help="How many it may submit.")] = None,
    concurrent_jobs: Annotated[int | None, typer.Option(help="How many it may have at work.")] = None,
    audio_minutes_per_hour: Annotated[float | None, typer.Option(help="How much it may submit.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Make a key; its secret is printed this once."""
    limits = {"requests_per_minute": requests_per_minute, "concurrent_jobs": concurrent_jobs,
              "audio_minutes_per_hour": audio_minutes_per_hour}  # fmt: skip
    fields: dict[str, Any] = {"name": name, "scopes": scope or ["transcribe"]} | (
        {"owner": owner} if owner else {}
    )
    fields["limits"] = {name: value for name, value in limits.items() if value is not None}
    made = asyncio.run(_create(fields, data))
    _print(made, json) if json else print(made["secret"])


@key.command(name="list")
def list_(json: Json = False, data: Data = None) -> None:
    """List the keys."""
    from dalston.cli.output import table

    found = asyncio.run(_list(data))
    if json:
        return _print(found, json)
    rows = [
        [one["id"], one["name"], one["owner"], ",".join(one["scopes"]), _limits(one), one["created_at"]]
        for one in found
    ]
    table(["id", "name", "owner", "scopes", "limits", "made"], rows)


@key.command()
def revoke(id: Annotated[str, typer.Argument(help="The key's id.")], data: Data = None) -> None:
    """Let a key open nothing any more."""
    asyncio.run(_revoke(id, data))


def _limits(one: dict[str, Any]) -> str:
    told = {"requests_per_minute": "{:g} requests/min", "concurrent_jobs": "{:g} jobs at once",
            "audio_minutes_per_hour": "{:g} min of audio/h"}  # fmt: skip
    return ", ".join(told[name].format(value) for name, value in one.get("limits", {}).items())


async def _create(fields: dict[str, Any], data: str | None) -> Any:
    from dalston.store.access_keys import Wanted

    if (keys := _folder(data)) is None:
        async with _client(data) as client:
            return await client.make_key(**fields)
    try:
        made, secret = keys.make(msgspec.convert(fields, Wanted))
    except msgspec.ValidationError as error:
        raise DalstonError(f"The key cannot be made: {error}.") from None
    return msgspec.to_builtins(made) | {"secret": secret}


async def _list(data: str | None) -> Any:
    if (keys := _folder(data)) is None:
        async with _client(data) as client:
            return await client.keys()
    return msgspec.to_builtins(keys.all())


async def _revoke(id: str, data: str | None) -> None:
    if (keys := _folder(data)) is None:
        async with _client(data) as client:
            await client.revoke_key(id)
            return
    keys.revoke(id)


def _folder(data: str | None) -> Any:
    """The keys of the data folder; None when the settings name a server elsewhere."""
    from dalston import settings as settings_
    from dalston.store.access_keys import AccessKeys

    settings = settings_.load(data=data)
    return None if settings.url else AccessKeys(settings.folder)


def _client(data: str | None) -> Any:
    from dalston.cli.server import connected

    return connected(data)


def _print(found: Any, json: bool) -> None:
    from dalston.cli.output import as_json

    print(as_json(found))
