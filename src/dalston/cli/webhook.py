"""`dalston webhook`: who is told when jobs end, and what became of telling them."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

webhook = typer.Typer(help="Addresses that are told when jobs end.", no_args_is_help=True)
Data = Annotated[str | None, typer.Option(help="The data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Id = Annotated[str, typer.Argument(help="The webhook's id.")]


@webhook.command()
def create(
    url: Annotated[str, typer.Argument(help="The address, http or https.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "webhook",
    header: Annotated[list[str] | None, typer.Option(help="Sent along, as NAME:VALUE.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Register an address; its secret is printed this once."""
    headers = {name.strip(): value.strip() for name, _, value in (one.partition(":") for one in header or [])}
    made = _asked("make_webhook", data, url=url, name=name, headers=headers)
    _print(made) if json else print(f"{made['id']}\n{made['secret']}")


@webhook.command(name="list")
def list_(json: Json = False, data: Data = None) -> None:
    """List the webhooks, with their last failures."""
    found = _asked("webhooks", data)
    if json:
        return _print(found)
    rows = [[one["id"], one["name"], one["url"], _condition(one), one.get("failed_at", "")] for one in found]
    _table(["id", "name", "address", "state", "last failure"], rows)


@webhook.command()
def delete(id: Id, data: Data = None) -> None:
    """Tell this address nothing any more."""
    _asked("delete_webhook", data, id=id)


@webhook.command()
def secret(data: Data = None) -> None:
    """Print what deliveries to addresses that are not registered are signed with."""
    print(_asked("webhook_secret", data))


@webhook.command()
def deliveries(
    job: Annotated[str | None, typer.Argument(help="A job's id; absent: what was given up.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """List a job's deliveries, or those that were given up."""
    found = _asked("deliveries", data, job=job)
    if json:
        return _print(found)
    rows = [[one["id"], one["state"], str(one["attempts"]), one.get("at", ""), _reason(one)] for one in found]
    _table(["delivery", "state", "attempts", "last", "answer"], rows)


@webhook.command()
def replay(
    delivery: Annotated[str | None, typer.Argument(help="A delivery's id.")] = None,
    all: Annotated[bool, typer.Option("--all", help="All that were given up.")] = False,
    data: Data = None,
) -> None:
    """Deliver again."""
    if (delivery is None) is not all:
        raise typer.BadParameter("Name a delivery, or say --all.")
    print(f"{len(_asked('replay', data, delivery=delivery))} on the way")


def _asked(method: str, data: str | None, /, **values: Any) -> Any:
    """What a method of the client answers."""
    return asyncio.run(_ask(method, data, values))


async def _ask(method: str, data: str | None, values: dict[str, Any]) -> Any:
    from dalston.cli.server import connected

    async with connected(data) as client:
        return await getattr(client, method)(**values)


def _condition(one: dict[str, Any]) -> str:
    if one.get("auto_disabled"):
        return "disabled: it failed for too long"
    return "disabled" if one.get("disabled") else "enabled"


def _reason(one: dict[str, Any]) -> str:
    return str(one.get("status") or one.get("error", ""))


def _print(found: Any) -> None:
    from dalston.cli.output import as_json

    print(as_json(found))


def _table(columns: list[str], rows: list[list[str]]) -> None:
    from dalston.cli.output import table

    table(columns, rows)
