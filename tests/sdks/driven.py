"""Which versions of the vendors' SDKs were driven; a worker's are told when it ends."""

from __future__ import annotations

VERSIONS: dict[str, str] = {}
"""By name."""
