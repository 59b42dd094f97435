"""The scripts that only the server runs: submit, finish, promote, reclaim."""

from __future__ import annotations

from dalston_engine.scripts import Script, script

SUBMIT: Script = script("submit", __package__)
FINISH: Script = script("finish", __package__)
PROMOTE: Script = script("promote", __package__)
RECLAIM: Script = script("reclaim", __package__)
