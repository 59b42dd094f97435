"""Commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dalston.cli.completion import job_ids
from dalston.cli.engine import engine

app = typer.Typer(
    name="dalston",
    help="Self-hosted audio transcription.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(engine, name="engine")
dead = typer.Typer(help="Tasks that were given up after their last attempt.", no_args_is_help=True)
app.add_typer(dead, name="dead")

Jobs = Annotated[list[str], typer.Argument(help="Job ids.", autocompletion=job_ids)]
Data = Annotated[str | None, typer.Option(help="The data folder.")]


class Format(StrEnum):
    text = "text"
    json = "json"
    srt = "srt"
    vtt = "vtt"


@app.command()
def up(
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="The port; 0 for any free one.")] = None,
    data: Data = None,
    engines: Annotated[str | None, typer.Option(help="Engines to start: a,b,c.")] = None,
) -> None:
    """Run the server until Ctrl-C."""
    from dalston.cli.up import serve

    asyncio.run(serve(host=host, port=port, data=data, engines=engines))


@app.command()
def transcribe(
    files: Annotated[
        list[Path], typer.Argument(help="Recordings: audio or video.", exists=True, dir_okay=False)
    ],
    format: Annotated[Format, typer.Option(help="Shape of the transcript.")] = Format.text,
    model: Annotated[str | None, typer.Option(help="A model's or an engine's id.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1; detected when absent.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file, or a folder.")] = None,
    data: Data = None,
) -> None:
    """Transcribe recordings with the running server, or with one started for this run."""
    from dalston.cli.transcribe import Wish, transcribe

    asyncio.run(transcribe(files, Wish(format.value, model, language, output), data))


@app.command()
def jobs(limit: Annotated[int, typer.Option(help="How many, newest first.")] = 20, data: Data = None) -> None:
    """List jobs."""
    from dalston.cli.show import jobs

    asyncio.run(jobs(limit, data))


@app.command()
def job(id: Annotated[str, typer.Argument(autocompletion=job_ids)], data: Data = None) -> None:
    """Show a job as JSON, with its transcript once it is completed."""
    from dalston.cli.show import job

    asyncio.run(job(id, data))


@app.command()
def cancel(ids: Jobs, data: Data = None) -> None:
    """End jobs now and keep them."""
    from dalston.cli.change import cancel

    asyncio.run(cancel(ids, data))


@app.command()
def delete(ids: Jobs, data: Data = None) -> None:
    """Remove jobs with their recordings and transcripts."""
    from dalston.cli.change import delete

    asyncio.run(delete(ids, data))


@app.command()
def retry(ids: Jobs, data: Data = None) -> None:
    """Run again what did not complete of failed or cancelled jobs."""
    from dalston.cli.change import retry

    asyncio.run(retry(ids, data))


@dead.command("list")
def dead_list(
    limit: Annotated[int, typer.Option(help="How many, newest first.")] = 100, data: Data = None
) -> None:
    """List dead letters."""
    from dalston.cli.show import letters

    asyncio.run(letters(limit, data))


@dead.command("retry")
def dead_retry(
    ids: Annotated[list[str] | None, typer.Argument(help="Job ids; of all dead letters when absent.")] = None,
    data: Data = None,
) -> None:
    """Retry the jobs of dead letters."""
    from dalston.cli.change import retry_dead

    asyncio.run(retry_dead(ids or [], data))


@app.command()
def rebuild(data: Data = None) -> None:
    """Tell Redis anew of all jobs, from their files; the server must not run."""
    from dalston.cli.rebuild import rebuild

    asyncio.run(rebuild(data))


@app.command()
def engines(data: Data = None) -> None:
    """List the engines that run."""
    from dalston.cli.show import engines

    asyncio.run(engines(data))


@app.command()
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Processes or engines; all when absent.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", help="How many of the last lines.")] = 200,
    data: Data = None,
) -> None:
    """Show what the processes of the server wrote."""
    from dalston.cli.logs import logs

    logs(names or [], follow, lines, data)


@app.command()
def config() -> None:
    """Show the settings in force and where each came from."""
    from dalston.cli.doctor import config

    config()


@app.command()
def doctor(data: Data = None) -> None:
    """Check that this machine can run the server."""
    from dalston.cli.doctor import doctor

    asyncio.run(doctor(data))


@app.command(hidden=True)
def sample() -> None:
    """Print where the demo recording lies."""
    from dalston.local.environments import sample

    typer.echo(sample())
