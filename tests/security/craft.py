"""Files as no honest program writes them."""

from __future__ import annotations

import struct
from pathlib import Path


def wav(
    channels: int = 1,
    rate: int = 16_000,
    samples: bytes = b"\x10\x01" * 16_000,
    kind: int = 1,
    bits: int = 16,
) -> bytes:
    """A WAV file whose header says anything."""
    block = channels * bits // 8
    head = struct.pack("<HHIIHH", kind, channels, rate, rate * block % 2**32, block % 2**16, bits)
    chunks = b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


def box(kind: bytes, *contents: bytes) -> bytes:
    """A box of an MP4 file."""
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def mp4(tracks: int, reference: bytes = b"") -> bytes:
    """One second of sound as an MP4 file of many tracks; `reference` says where its data is."""
    entry = box(b"sowt", bytes(6), b"\0\1", bytes(8), struct.pack(">HHHHI", 1, 16, 0, 0, 16_000 << 16))
    tables = box(
        b"stbl",
        box(b"stsd", bytes(4), struct.pack(">I", 1), entry),
        box(b"stts", bytes(4), struct.pack(">III", 1, 16_000, 1)),
        box(b"stsc", bytes(4), struct.pack(">IIII", 1, 1, 16_000, 1)),
        box(b"stsz", bytes(4), struct.pack(">II", 2, 16_000)),
        box(b"stco", bytes(4), struct.pack(">II", 1, 28)),
    )
    media = box(
        b"mdia",
        box(b"mdhd", bytes(12), struct.pack(">II", 16_000, 16_000), bytes(4)),
        box(b"hdlr", bytes(8), b"soun", bytes(13)),
        box(b"minf", box(b"dinf", box(b"dref", bytes(4), struct.pack(">I", 1), reference)), tables),
    )
    track = box(b"trak", box(b"tkhd", bytes(84)), media)
    head = box(b"mvhd", bytes(12), struct.pack(">II", 1000, 1000), bytes(80))
    sound = box(b"mdat", b"\x10\x01" * 16_000)
    return box(b"ftyp", b"isom", bytes(4), b"isom") + sound + box(b"moov", head, track * tracks)


def pointers(secret: Path, url: str) -> dict[str, bytes]:
    """Files that name others, by the extension they usually have."""
    here, there = f"file://{secret}", f"{url}/x.wav"
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n"
    texts = {
        "m3u8": f"{playlist}#EXTINF:9,\n{secret}\n#EXTINF:9,\n{there}\n#EXT-X-ENDLIST\n",
        "master.m3u8": f"#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=9\n{url}/x.m3u8\n",
        "key.m3u8": f'{playlist}#EXT-X-KEY:METHOD=AES-128,URI="{here}"\n#EXTINF:9,\n{here}\n',
        "m3u": f"{secret}\n{there}\n",
        "pls": f"[playlist]\nFile1={there}\nNumberOfEntries=1\n",
        "ffconcat": f"ffconcat version 1.0\nfile '{secret}'\nfile '{there}'\n",
        "url.ffconcat": f"ffconcat version 1.0\nfile {here}\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
        "mpd": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period>'
        f"<AdaptationSet mimeType='audio/mp4'><Representation id='1'><BaseURL>{there}</BaseURL>"
        "</Representation></AdaptationSet></Period></MPD>",
        "asx": f"<asx version='3.0'><entry><ref href='{there}'/></entry></asx>",
        "ram": f"{there}\n",
        "ref.mov": f"RTSPtext\n{there}\n",
        "srt": "1\n00:00:00,000 --> 00:00:09,000\nhello\n",
        "ass": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:09.00,,,,,,,hello\n",
        "vtt": "WEBVTT\n\n00:00.000 --> 00:09.000\nhello\n",
        "ffmeta": ";FFMETADATA1\ntitle=x\n",
        "avs": f'WavSource("{secret}")\n',
        "lavfi": "sine=frequency=440:duration=1",
        "concat": f"concat:{secret}|{secret}",
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{there}"/></svg>',
    }
    return {name: text.encode() for name, text in texts.items()}


def referring(secret: Path) -> bytes:
    """An MP4 file that says its sound is in another file."""
    path = str(secret).encode()
    alias = bytes(4) + bytes(150) + struct.pack(">HH", 2, len(path)) + path + struct.pack(">HH", 0xFFFF, 0)
    return mp4(1, box(b"alis", alias))
