"""`dalston eval --live`: what sessions make of recordings, beside what the same model makes of the files."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from dalston_engine.errors import DalstonError
from dalston_engine.types import Audio

from dalston import settings as settings_
from dalston.cli.evaluate import Wish
from dalston.cli.output import as_json, say, table
from dalston.cli.show import put
from dalston.cli.transcribe import START_S, serving
from dalston.client import Client
from dalston.live import FAST
from dalston.settings import Settings

if TYPE_CHECKING:
    from dalston.evaluation.live import Manner, Pair
    from dalston.evaluation.recordings import Recording

NEEDLESS = {"align", "diarize"}
AGAIN_S = 0.2


async def evaluate_live(
    wish: Wish, manner: dict[str, Any], json: Path | None, engines: str | None, data: str | None
) -> None:
    """Speak the English recordings into live sessions; print a table, and write everything to `json`."""
    here = asyncio.current_task()
    assert here is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, here.cancel)
    try:
        from dalston.evaluation import live
    except ImportError as error:
        raise DalstonError(
            f"This needs libraries that the server does not ({error.name}): pip install 'dalston[eval]'"
        ) from None
    settings = settings_.load(data=data, engines=engines)
    if json is not None:
        json.parent.mkdir(parents=True, exist_ok=True)
    how = live.Manner(wish.model or FAST, **manner)
    with _recordings(settings, wish) as found:
        results = await _results(settings, wish, how, found)
    whole = live.sums(results)
    table(live.COLUMNS, live.rows(whole))
    if json is not None:
        shown = results if wish.texts else [_silent(one) for one in results]
        told = {"manner": how, "summaries": whole, "recordings": shown}
        put(as_json(told) + "\n", json)


@contextlib.contextmanager
def _recordings(settings: Settings, wish: Wish) -> Iterator[list[tuple[Recording, bytes]]]:
    """English recordings whose text is known, and those in which nobody speaks, with their samples."""
    from dalston.evaluation import bare, recordings

    sets = [name for name in wish.only if name != recordings.JOINED or not wish.joined]
    found = recordings.chosen(recordings.read(wish.folder), sets, wish.limit, wish.without)
    found = [one for one in found if one.text is not None and one.language in ("en", None)]
    with bare.decoder(settings, say) as decode, tempfile.TemporaryDirectory() as folder:

        def samples(path: Path) -> bytes:
            return Audio(decode(path)).pcm()

        if wish.joined:
            long = recordings.joined(found, wish.joined, Path(folder), samples)
            found = [long] if wish.only and not sets else [*found, long]
        yield [(one, samples(one.path)) for one in found]


async def _results(
    settings: Settings, wish: Wish, manner: Manner, found: list[tuple[Recording, bytes]]
) -> list[Pair]:
    from dalston.evaluation import live

    async with (
        serving(settings, wish.model or "", NEEDLESS) as (url, engines),
        Client(url, settings.api_key) as client,
    ):
        await client.ready(wait=START_S, engines=",".join(engines), loading=True)
        if engines:
            await _worker(client)
        speaker = live.Speaker(client, url, settings.api_key, manner)
        return [one async for one in live.pairs(speaker, client, found, wish.detect, wish.options)]


async def _worker(client: Client) -> None:
    """Wait for a live worker of a server of our own."""
    async with asyncio.timeout(START_S):
        while True:
            if (await client.live_status())["free"]:
                return
            await asyncio.sleep(AGAIN_S)


def _silent(one: Pair) -> Pair:
    """Without what was said."""
    live, batch = (msgspec.structs.replace(heard, text=None, words=None) for heard in (one.live, one.batch))
    return msgspec.structs.replace(one, text=None, live=live, batch=batch)
