"""Dalston: a self-hosted audio transcription server."""

__version__ = "0.1.0"
