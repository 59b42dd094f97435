"""The job's results joined into the one transcript that is published."""

from __future__ import annotations

from dalston_engine import ChannelInfo, Engine, Parts, Transcript, serve


class FinalMerger(Engine):
    """Sets text, duration and warnings; segments and words keep the times they were measured at."""

    def merge(self, parts: Parts) -> Transcript:
        if parts.media.split == "channels":
            transcript = joined(parts.transcripts)
        else:
            (transcript,) = parts.transcripts
        transcript.text = "".join(one.text for one in transcript.words or transcript.segments).strip()
        transcript.duration = parts.media.duration
        transcript.warnings = parts.media.warnings + transcript.warnings
        return transcript


def joined(channels: list[Transcript]) -> Transcript:
    """The channels' transcripts on one clock; each channel is a speaker."""
    for number, channel in enumerate(channels):
        for one in (*channel.segments, *(channel.words or ())):
            one.channel, one.speaker = number, f"channel_{number}"
    languages = {one.language: one.language_probability for one in channels if one.language}
    (language, probability), *others = languages.items() or [(None, None)]
    every = all(one.words is not None for one in channels)
    return Transcript(
        segments=sorted((s for one in channels for s in one.segments), key=lambda s: s.start),
        words=sorted((w for one in channels for w in one.words or ()), key=lambda w: w.start)
        if every
        else None,
        language=None if others else language,
        language_probability=probability if len(channels) == 1 else None,
        model=next((one.model for one in channels if one.model), None),
        channels=[ChannelInfo(n, c.language, c.language_probability) for n, c in enumerate(channels)],
        warnings=list(dict.fromkeys(warning for one in channels for warning in one.warnings)),
    )


if __name__ == "__main__":
    serve(FinalMerger)
