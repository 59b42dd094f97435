"""Write `deploy/compose.yaml` and `deploy/compose.gpu.yaml` from the folders in `engines/`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from dalston_engine.manifest import Manifest, read

from dalston.settings import PREFIX, Settings

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
FIXED = {
    "url",
    "host",
    "port",
    "behind",
    "data",
    "models",
    "redis_url",
    "engines",
    "engines_path",
    "environments",
}
"""Settings that the file itself decides; every other one is passed on if it is set."""

HEAD = """\
# Written by scripts/compose.py from the folders in engines/ and the settings: change those, not this.
# docs/how-to/run-in-containers.md says how it is used.

x-build: &build
  BASE_IMAGE: ${DALSTON_BASE_IMAGE:-python:3.11-slim-bookworm}

x-settings: &settings
  DALSTON_REDIS_URL: redis://valkey:6379
  # Passed on where they are set:
PASSED

x-container: &container
  restart: unless-stopped
  read_only: true
  tmpfs: ["/tmp:size=256m"]
  cap_drop: [ALL]
  security_opt: ["no-new-privileges:true"]
  networks: [inside]

x-server: &server
  <<: *container
  image: dalston-server
  build: {context: .., dockerfile: deploy/Dockerfile, args: *build}
  environment: *settings
  volumes: ["data:/data"]
  depends_on: {valkey: {condition: service_healthy}}

x-engine: &engine
  <<: *container
  environment: *settings
  volumes: ["data:/data"]
  depends_on: {valkey: {condition: service_healthy}}
  cpu_shares: 512  # half of what others get: the gateway answers while every core transcribes

services:
  valkey:
    <<: *container
    # The server's image has a Valkey. Another one needs `valkey-server` and a user who can write its /data.
    image: ${DALSTON_VALKEY_IMAGE:-dalston-server}
    user: ${DALSTON_VALKEY_USER:-10001:10001}
    entrypoint: [valkey-server]
    command: >-
      --dir /data --appendonly yes --appendfsync everysec --save "" --maxmemory-policy noeviction
      --protected-mode no
    volumes: ["valkey:/data"]
    healthcheck:
      # Without a Python, which costs a hundred times as much; an image without bash has valkey-cli.
      test: >-
        bash -c 'exec 3<>/dev/tcp/127.0.0.1/6379 && echo PING >&3 && read -rt 3 said <&3
        && [[ $$said == +PONG* ]]' || valkey-cli ping | grep PONG
      interval: 5s
      timeout: 5s

  gateway:
    <<: *server
    environment: {<<: *settings, DALSTON_HOST: 0.0.0.0, DALSTON_BEHIND: container-network}
    # There are no keys yet, so nobody but this host may reach it.
    ports: ["127.0.0.1:${DALSTON_PORT:-8765}:8765"]
    networks: [inside, outside]

  orchestrator:
    <<: *server
    command: [python, -m, dalston.orchestrator]
    healthcheck:
      test: [CMD, python, /opt/dalston/healthy.py, orchestrator]
      interval: 30s
      timeout: 5s
"""

TAIL = """
networks:
  inside: {internal: true}
  outside: {}

volumes:
  data: {}
  models: {}
  valkey: {}
"""


def compose(engines: Iterable[tuple[str, Manifest]]) -> str:
    """The compose file for these engines, given as (folder, manifest)."""
    names = (name for name in Settings.__struct_fields__ if name not in FIXED)
    passed = "\n".join(f"  {PREFIX}{name.upper()}:" for name in names)
    usual = set(Settings().engines.split(","))
    return HEAD.replace("PASSED", passed) + "".join(service(*one, usual) for one in engines) + TAIL


def service(folder: str, manifest: Manifest, usual: set[str]) -> str:
    """One engine's service; one that `dalston up` does not start has a profile of its name."""
    build = f"args: {{<<: *build, ENGINE: {folder}"
    if any(model.files for model in manifest.models.values()):
        build += ", WEIGHTS: '${DALSTON_WEIGHTS:-1}'"
    if manifest.torch:
        build += ", UV_TORCH_BACKEND: '${UV_TORCH_BACKEND:-cpu}'"
    lines = [
        f"{manifest.id}:",
        "  <<: *engine",
        f"  image: dalston-engine-{manifest.id}",
        f"  build: {{context: .., dockerfile: deploy/engine.Dockerfile, {build}}}}}",
    ]
    if manifest.id not in usual:
        lines.append(f"  profiles: [{manifest.id}]")
    # Gateways bring it sessions, by the name that its container has.
    live = ", DALSTON_LIVE_HOST: 0.0.0.0, DALSTON_LIVE_SESSIONS: " if manifest.listens else ""
    if manifest.models:
        lines.append(f"  environment: {{<<: *settings, DALSTON_PRELOAD: '${{DALSTON_PRELOAD-}}'{live}}}")
        lines.append('  volumes: ["data:/data", "models:/models"]')
    if manifest.hub:
        lines.append("  networks: [inside, outside]  # fetches models from the hub")
    return "\n" + "".join(f"  {line}\n" for line in lines)


def gpu(engines: Iterable[tuple[str, Manifest]]) -> str:
    """What to lay over it on a host with NVIDIA GPUs."""
    able = [manifest.id for _, manifest in engines if manifest.gpu != "none"]
    device = "{driver: nvidia, count: all, capabilities: [gpu]}"
    services = [
        f"  {id}:\n    deploy: {{resources: {{reservations: {{devices: [{device}]}}}}}}\n" for id in able
    ]
    return HEAD[: HEAD.index("\n\n") + 1] + "\nservices:\n" + "".join(services)


def files() -> dict[Path, str]:
    """Every file that is written, and what belongs into it."""
    folders = sorted(path.parent for path in (ROOT / "engines").glob("*/pyproject.toml"))
    engines = [(folder.name, read(folder)) for folder in folders]
    return {DEPLOY / "compose.yaml": compose(engines), DEPLOY / "compose.gpu.yaml": gpu(engines)}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
        print(f"wrote {path.relative_to(ROOT)}")
