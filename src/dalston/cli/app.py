"""Commands and their options; what they do is in the modules beside this one."""

from __future__ import annotations

import asyncio
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dalston.cli.completion import job_ids
from dalston.cli.engine import engine
from dalston.cli.key import key
from dalston.cli.webhook import webhook

app = typer.Typer(
    name="dalston",
    help="Self-hosted audio transcription.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(engine, name="engine")
app.add_typer(key, name="key")
app.add_typer(webhook, name="webhook")
dead = typer.Typer(help="Tasks that were given up after their last attempt.", no_args_is_help=True)
app.add_typer(dead, name="dead")

Jobs = Annotated[list[str], typer.Argument(help="Job ids.", autocompletion=job_ids)]
Id = Annotated[str, typer.Argument(help="A job's id.", autocompletion=job_ids)]
Data = Annotated[str | None, typer.Option(help="The data folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Lines = Annotated[bool, typer.Option("--json", help="Print every event as a line of JSON.")]
Live = Annotated[str, typer.Option("--model", help="fast, accurate, or a model's id.")]
Language = Annotated[str | None, typer.Option(help="ISO 639-1; detected when absent.")]
Words = Annotated[bool, typer.Option("--words", help="With the times of words.")]
Partials = Annotated[bool, typer.Option(help="What is still being said, too.")]
Record = Annotated[bool, typer.Option("--record", help="Keep the audio with the transcript.")]


class Format(StrEnum):
    text = "text"
    json = "json"
    srt = "srt"
    vtt = "vtt"
    txt = "txt"


class Speakers(StrEnum):
    none = "none"
    diarize = "diarize"
    per_channel = "per_channel"


class Shape(StrEnum):
    text = "text"
    json = "json"
    verbose = "verbose"
    srt = "srt"
    vtt = "vtt"
    txt = "txt"
    segments = "segments"
    html = "html"
    docx = "docx"
    pdf = "pdf"


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
        list[Path], typer.Argument(help="Recordings, audio or video; folders with some.", exists=True)
    ],
    format: Annotated[Format, typer.Option(help="Shape of the transcript.")] = Format.text,
    model: Annotated[str | None, typer.Option(help="A model's or an engine's id.")] = None,
    language: Annotated[str | None, typer.Option(help="ISO 639-1; detected when absent.")] = None,
    speakers: Annotated[Speakers, typer.Option(help="How speakers are told apart.")] = Speakers.none,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file, or a folder.")] = None,
    data: Data = None,
) -> None:
    """Transcribe recordings with the running server, or with one started for this run."""
    from dalston.cli.transcribe import Wish, transcribe

    wish = Wish(format.value, model, language, output, speakers.value)
    try:
        asyncio.run(transcribe(files, wish, data))
    except asyncio.CancelledError:  # SIGTERM
        raise typer.Exit(143) from None


@app.command()
def stream(
    file: Annotated[Path, typer.Argument(help="A recording, audio or video.", exists=True, dir_okay=False)],
    speed: Annotated[
        float | None,
        typer.Option(min=0, help="1 as it was spoken, 0 at once; files that cannot be paced are."),
    ] = None,
    model: Live = "fast",
    language: Language = None,
    words: Words = False,
    partials: Partials = True,
    record: Record = False,
    json: Lines = False,
    data: Data = None,
) -> None:
    """Show what is heard of a recording as it is played into a live session."""
    from dalston.cli.stream import Wish, stream

    asyncio.run(stream(file, speed, Wish(model, language, partials, words, record, json), data))


@app.command()
def listen(
    device: Annotated[str | None, typer.Option(help="A microphone's number, or a part of its name.")] = None,
    model: Live = "fast",
    language: Language = None,
    words: Words = False,
    partials: Partials = True,
    record: Record = False,
    json: Lines = False,
    data: Data = None,
) -> None:
    """Show what is said into the microphone, until Ctrl-C."""
    from dalston.cli.listen import listen
    from dalston.cli.stream import Wish

    asyncio.run(listen(device, Wish(model, language, partials, words, record, json), data))


@app.command("eval")
def evaluate(
    folder: Annotated[
        Path, typer.Argument(help="A folder with a MANIFEST.jsonl.", exists=True, file_okay=False)
    ],
    model: Annotated[str | None, typer.Option(help="A model's or an engine's id.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-o", "--option", help="NAME=VALUE, a field of every request.")
    ] = None,
    detect: Annotated[bool, typer.Option("--detect", help="Let languages be detected.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Only this set of recordings.")] = None,
    without: Annotated[list[str] | None, typer.Option(help="Without this set.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many of each set.")] = None,
    joined: Annotated[float | None, typer.Option(min=0.1, help="Also so many minutes joined.")] = None,
    bare: Annotated[bool, typer.Option("--bare", help="Also with the bare libraries.")] = False,
    bare_vad: Annotated[bool, typer.Option("--bare-vad", help="The bare one with its vad_filter.")] = False,
    json: Annotated[Path | None, typer.Option(help="A file for all that was found.")] = None,
    texts: Annotated[bool, typer.Option("--texts", help="With what was said, in that file.")] = False,
    live: Annotated[bool, typer.Option("--live", help="English ones live, beside them as files.")] = False,
    pace: Annotated[float, typer.Option(min=0, help="Of live ones: 1 as spoken, 0 at once.")] = 1.0,
    vanish: Annotated[bool, typer.Option("--vanish", help="Lose each live connection at its end.")] = False,
    at_once: Annotated[int, typer.Option(min=1, help="Live ones at a time.")] = 8,
    engines: Annotated[str | None, typer.Option(help="Engines to start if no server runs.")] = None,
    data: Data = None,
) -> None:
    """Measure error rates over recordings whose truth is known."""
    from dalston.cli.evaluate import Wish, evaluate
    from dalston.cli.evaluate_live import evaluate_live

    if live and (bare or bare_vad):
        raise typer.BadParameter("The bare libraries do not hear live.")
    if bad := [one for one in option or [] if "=" not in one]:
        raise typer.BadParameter(f"{bad[0]!r} is not NAME=VALUE.")
    options = dict(one.split("=", 1) for one in option or [])
    sets = {"only": only or [], "without": without or []}
    wish = Wish(folder, model, options, detect, **sets, limit=limit, joined=joined, bare=bare,
                bare_vad=bare_vad, texts=texts)  # fmt: skip
    try:
        if live:
            manner = {"pace": pace, "vanish": vanish, "at_once": at_once}
            asyncio.run(evaluate_live(wish, manner, json, engines, data))
        else:
            asyncio.run(evaluate(wish, json, engines, data))
    except asyncio.CancelledError:  # SIGTERM
        raise typer.Exit(143) from None


@app.command()
def jobs(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    state: Annotated[list[str] | None, typer.Option(help="Only jobs in this state.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """List jobs."""
    from dalston.cli.show import jobs

    asyncio.run(jobs(limit, state or [], json, data))


@app.command()
def job(
    id: Id,
    verbose: Annotated[bool, typer.Option(help="Also what was asked and what the source is.")] = False,
    data: Data = None,
) -> None:
    """Show a job as JSON, with its transcript once it is completed."""
    from dalston.cli.show import job

    asyncio.run(job(id, verbose, data))


@app.command()
def export(
    id: Id,
    format: Annotated[Shape, typer.Option(help="Shape of the transcript.")] = Shape.text,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A file.")] = None,
    speakers: Annotated[bool | None, typer.Option(help="Whether it says who speaks.")] = None,
    timestamps: Annotated[bool | None, typer.Option(help="Whether it says when.")] = None,
    line: Annotated[int | None, typer.Option(help="Characters of a line.")] = None,
    segment: Annotated[int | None, typer.Option(help="Characters of a segment.")] = None,
    seconds: Annotated[float | None, typer.Option(help="Seconds of a segment.")] = None,
    silence: Annotated[float | None, typer.Option(help="Seconds of silence that end a segment.")] = None,
    data: Data = None,
) -> None:
    """Write a completed job's transcript."""
    from dalston.cli.show import export

    asyncio.run(
        export(id, format.value, output, data, include_speakers=speakers, include_timestamps=timestamps,
               max_characters_per_line=line, max_segment_chars=segment, max_segment_duration_s=seconds,
               segment_on_silence_longer_than_s=silence)
    )  # fmt: skip


@app.command()
def watch(id: Id, json: Json = False, data: Data = None) -> None:
    """Show a job's stages as they go, until it has ended."""
    from dalston.cli.watch import watch

    asyncio.run(watch(id, json, data))


@app.command()
def cancel(ids: Jobs, json: Json = False, data: Data = None) -> None:
    """End jobs now and keep them."""
    from dalston.cli.change import change

    asyncio.run(change("cancel", ids, json, data))


@app.command()
def delete(ids: Jobs, json: Json = False, data: Data = None) -> None:
    """Remove jobs with their recordings and transcripts."""
    from dalston.cli.change import change

    asyncio.run(change("delete", ids, json, data))


@app.command()
def retry(ids: Jobs, json: Json = False, data: Data = None) -> None:
    """Run again what did not complete of failed or cancelled jobs."""
    from dalston.cli.change import change

    asyncio.run(change("retry", ids, json, data))


@dead.command("list")
def dead_list(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = 100,
    json: Json = False,
    data: Data = None,
) -> None:
    """List dead letters."""
    from dalston.cli.show import letters

    asyncio.run(letters(limit, json, data))


@dead.command("retry")
def dead_retry(
    ids: Annotated[list[str] | None, typer.Argument(help="Job ids; of all dead letters when absent.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Retry the jobs of dead letters."""
    from dalston.cli.change import retry_dead

    asyncio.run(retry_dead(ids or [], json, data))


@app.command()
def rebuild(data: Data = None) -> None:
    """Tell Redis anew of all jobs, from their files; the server must not run."""
    from dalston.cli.rebuild import rebuild

    asyncio.run(rebuild(data))


@app.command()
def engines(json: Json = False, data: Data = None) -> None:
    """List the engines that run."""
    from dalston.cli.show import engines

    asyncio.run(engines(json, data))


@app.command()
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Processes or engines; all when absent.")] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=0, help="How many of the last lines.")] = 200,
    data: Data = None,
) -> None:
    """Show what the processes of the server wrote."""
    from dalston.cli.logs import logs

    logs(names or [], follow, lines, data)


@app.command()
def config(json: Json = False) -> None:
    """Show the settings in force and where each came from."""
    from dalston.cli.doctor import config

    config(json)


@app.command()
def doctor(json: Json = False, data: Data = None) -> None:
    """Check that this machine can run the server."""
    from dalston.cli.doctor import doctor

    asyncio.run(doctor(json, data))


@app.command(hidden=True)
def sample() -> None:
    """Print where the demo recording lies."""
    from dalston.local.environments import sample

    typer.echo(sample())
